"""What programs in a box find around them: its small /etc, its environment, whom they trust and how they get out.

In: plain values. Out: files and variables. Never: a path of the host, a secret, or a resolver.

Everything leaves through the gateway, which ends TLS with a CA of its own. Its certificate is all that a box trusts:
where systems keep theirs, and in each variable that clients read instead (security.md section 5 says which reads what).
`/etc/hosts` leads names to the gateway's listener on 443 for clients that know no proxy. Both are files that the host
keeps current while a box runs (flow/outside.py), so they are mounts and not part of `etc_files`.
"""

from __future__ import annotations

from nanoclaw.sandbox.interpreter import PYTHON

BOX_UID = 1000  # what the box believes it is; outside it is `host_uid`
HOME = "/home/agent"
RUNNER = "/opt/nanoclaw"
PKGS = "/opt/pkgs"  # the group's packages, read-only (runner/install.py says what lies where)
GATEWAY_PORT = 3128
GATEWAY_URL = f"http://127.0.0.1:{GATEWAY_PORT}"
HOSTS = "/etc/hosts"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # Debian, Alpine, Arch; curl, git and wget of those look nowhere else
BUNDLES = (BUNDLE, "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt")  # OpenSSL's own place; Fedora
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")  # curl reads http_proxy in small letters alone: both
BUNDLE_VARIABLES = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "DENO_CERT",
    "PIP_CERT",
)  # fmt: skip


def hosts_text(hostname: str, names: tuple[str, ...] = ()) -> str:
    """Return an /etc/hosts: the box itself, and names whose TLS the gateway takes on 443."""
    return "".join(f"127.0.0.1 {name}\n" for name in (f"localhost {hostname}", *names))


def etc_files(hostname: str, uid: int = BOX_UID) -> dict[str, bytes]:
    """Return an /etc that names nobody but the box's own user, and no resolver. `uid` as the box sees itself."""
    return {
        "/etc/passwd": (
            f"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:{uid}:{uid}:agent:{HOME}:/bin/bash\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        ).encode(),
        "/etc/group": f"root:x:0:\nagent:x:{uid}:\nnogroup:x:65534:\n".encode(),
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
        "/etc/hostname": f"{hostname}\n".encode(),
    }


def environment(timezone: str, *, own_python: bool, recover: bool) -> dict[str, str]:
    """Return a box's whole environment; a recovery box has no way out and is told of none."""
    env = {
        "PATH": f"{RUNNER}/bin:{PKGS}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp" if recover else HOME,  # noqa: S108 - the box's own tmpfs
        "LANG": "C.UTF-8",
        "TZ": timezone,
    }
    if not recover:
        env["PYTHONPATH"] = f"{PKGS}/python:{PKGS}/apt/usr/lib/python3/dist-packages"
        env["NODE_PATH"] = f"{PKGS}/npm/lib/node_modules:/usr/local/lib/node_modules:/usr/lib/node_modules"
    if own_python:
        # Without it a pyenv build loads the wrong libpython (architecture section 8); the runner drops it for children.
        env["LD_LIBRARY_PATH"] = f"{PYTHON}/lib"
    if not recover:
        for name in PROXY_VARIABLES:
            env[name] = env[name.lower()] = GATEWAY_URL
        env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1,localhost"
        env["NODE_USE_ENV_PROXY"] = "1"  # else Node's fetch ignores them (22.21 and 24 on)
        env |= dict.fromkeys(BUNDLE_VARIABLES, BUNDLE)
    return env
