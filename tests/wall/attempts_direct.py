"""Attempts that go round the gateway: straight to an address, a name server, another socket. None leaves the box."""

from __future__ import annotations

from tests.wall.egress import Attempt

DIRECT = (
    Attempt("straight to a public address", "dial('93.184.216.34', 80)"),
    Attempt("straight to a public address with TLS", "dial('93.184.216.34', 443, send=b'\\x16\\x03\\x01')"),
    Attempt("straight to a public address of IPv6", "dial('2606:2800:220:1::34', 443, family=socket.AF_INET6)"),
    Attempt("a datagram to a public address", "dial('45.33.32.156', 9999, kind=socket.SOCK_DGRAM)"),
    Attempt("a datagram of IPv6", "dial('2606:2800:220:1::34', 53, family=socket.AF_INET6, kind=socket.SOCK_DGRAM)"),
    Attempt("QUIC to port 443", "dial('93.184.216.34', 443, kind=socket.SOCK_DGRAM, send=b'\\xc0' + bytes(1199))"),
    Attempt("a broadcast", "dial('255.255.255.255', 9, kind=socket.SOCK_DGRAM)"),
    Attempt("a multicast", "dial('239.255.255.250', 1900, kind=socket.SOCK_DGRAM)"),
    Attempt(
        "a raw ICMP packet",
        "try: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)"
        ".sendto(bytes(64), ('45.33.32.156', 0)); say('SENT')\n"
        "except OSError as error: say('no way:', error)",
    ),
    Attempt(
        "an ICMP echo by ping socket",
        "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).sendto(b'\\x08' + bytes(63), "
        "('45.33.32.156', 0)); say('SENT')\nexcept OSError as error: say('no way:', error)",
    ),
    Attempt(
        "a packet past the protocol stack",
        "try: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3); say('SENT')\n"
        "except OSError as error: say('no way:', error)",
    ),
    Attempt(
        "a socket to the hypervisor",
        "try: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 1024)); say('SENT')\n"
        "except OSError as error: say('no way:', error)",
    ),
    Attempt(
        "a new network interface",
        "ip link add out type dummy >&2 && echo SENT >&2; ip route add default dev lo >&2 && echo SENT >&2; true",
        shell=True,
    ),
    Attempt(
        "a name by the system's resolver",
        "try: say('SENT', socket.getaddrinfo('evil.test', 443))\nexcept OSError as error: say('no way:', error)",
    ),
    Attempt(
        "a name by a query of one's own",
        "dial('9.9.9.9', 53, kind=socket.SOCK_DGRAM, "
        "send=b'\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\4evil\\4test\\0\\0\\1\\0\\1')",
    ),
    Attempt("a name by DNS over TCP", "dial('9.9.9.9', 53, send=b'\\0\\x1b' + bytes(27))"),
    Attempt("a name by DNS over TLS", "dial('9.9.9.9', 853, send=b'\\x16')"),
    Attempt(
        "a name server on the box's own loopback", "dial('127.0.0.53', 53, kind=socket.SOCK_DGRAM, send=bytes(30))"
    ),
    Attempt("multicast DNS", "dial('224.0.0.251', 5353, kind=socket.SOCK_DGRAM, send=bytes(30))"),
    Attempt("the metadata service of a cloud", "dial('169.254.169.254', 80)"),
    Attempt("the private network", "dial('10.0.0.5', 80); dial('192.168.1.1', 80)"),
    Attempt(
        "services of the machine on loopback",
        "[dial('127.0.0.1', port) for port in (22, 80, 2375, 5432, 6379, 8080, 8443, 9090)]",
    ),
    Attempt(
        "services of the machine on loopback of IPv6",
        "[dial('::1', p, family=socket.AF_INET6) for p in (22, 80, 8080)]",
    ),
    Attempt("the machine by its own address", "dial('172.31.255.2', 8080)"),
    Attempt(
        "curl with its proxy switched off", "curl -sS -m 4 --noproxy '*' http://45.33.32.156/ >&2; true", shell=True
    ),
    Attempt(
        "a client whose proxy variables were removed",
        "env -i PATH=$PATH curl -sS -m 4 https://evil.test/ >&2; true",
        shell=True,
    ),
    Attempt(
        "git past the proxy",
        "env -i PATH=$PATH HOME=$HOME git -c http.proxy= ls-remote http://45.33.32.156/x.git >&2; true",
        shell=True,
    ),
    Attempt("the git protocol", "GIT_TRACE=0 timeout 5 git ls-remote git://45.33.32.156/x.git >&2; true", shell=True),
    Attempt("git by SSH", "timeout 5 git ls-remote ssh://git@45.33.32.156/x.git >&2; true", shell=True),
    Attempt(
        "node past the proxy",
        "env -i PATH=$PATH node -e \"fetch('http://45.33.32.156/').then(r => r.text())"
        ".then(t => console.error('SENT', t),"
        " e => console.error('no way:', e.message))\"",
        shell=True,
    ),
    Attempt(
        "FTP, gopher, telnet and mail",
        "for u in ftp://45.33.32.156/ gopher://45.33.32.156/ telnet://45.33.32.156:80 "
        "smtp://45.33.32.156 tftp://45.33.32.156/a; do curl -sS -m 2 --noproxy '*' $u </dev/null >&2; done; true",
        shell=True,
    ),
    Attempt(
        "a file of the host by URL",
        "curl -sS file:///root/.ssh/id_rsa >&2; curl -sS file:///proc/1/environ >&2; true",
        shell=True,
    ),
    Attempt(
        "sockets of the host in the file system",
        "import glob\nfor path in ('/var/run/docker.sock', '/run/dbus/system_bus_socket', '/run/systemd/private', "
        "*glob.glob('/run/**/*.sock', recursive=True), *glob.glob('/tmp/**/*.sock', recursive=True)):\n"
        "    try: socket.socket(socket.AF_UNIX).connect(path); say('SENT', path)\n"
        "    except OSError as error: say('no way:', error)",
    ),
    Attempt(
        "abstract sockets of the host",
        "names = [l.split()[-1] for l in open('/proc/net/unix') if '@' in l]\nsay('seen', names)\n"
        "for name in names + ['@/tmp/.X11-unix/X0', '@nanoclaw']:\n"
        "    try: socket.socket(socket.AF_UNIX).connect('\\0' + name[1:]); say('SENT', name)\n"
        "    except OSError as error: say('no way:', error)",
    ),
    Attempt(
        "another process's network namespace",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "for pid in [p for p in os.listdir('/proc') if p.isdigit()]:\n"
        "    try: handle = os.open(f'/proc/{pid}/ns/net', 0)\n"
        "    except OSError as error: say('no way:', error); continue\n"
        "    if libc.setns(handle, 0x40000000) == 0: say('SENT', pid)\n"
        "say('unshared') if libc.unshare(0x40000000) == 0 else say('no way:', ctypes.get_errno())",
    ),
    Attempt(
        "another box's listener",
        "open_ports = []\nfor port in range(1024, 60000, 1):\n"
        "    line = socket.socket(); line.setblocking(False)\n"
        "    code = line.connect_ex(('127.0.0.1', port)); line.close()\n"
        "    if port != 3128 and code not in (111, 115): open_ports.append((port, code))\n"
        "say(open_ports)\nassert not open_ports",
    ),
)
