"""The ways to a target behind a firewall that the tunnel is measured against.

The target is nginx on loopback. ``direct`` is nginx itself; ``ssh -R`` and ``asyncssh -R`` are a
reverse port forward to it, dialled from "inside", as an agent dials. What is started is added to
``running`` at once, to be stopped whatever comes next.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from attrs import frozen

from demo.processes import Background, accepts, free_port, run

SMALL = (
    b'{"id": 4711, "name": "small", "status": "ok", "items": [1, 2, 3], "note": "a small answer"}'
)
SSHD = "/usr/sbin/sshd"


@frozen
class Way:
    """A way to the target: where to connect, what to ask for, and the processes that carry it.

    :ivar small: path of the small answer; ``bulk``: of the big file; ``upload``: where to PUT one.
    :ivar pids: the processes of the way itself, not the target's.
    """

    name: str
    port: int
    headers: tuple[tuple[str, str], ...] = ()
    small: str = "/small"
    bulk: str = "/bulk.bin"
    upload: str = "/upload.bin"
    pids: tuple[int, ...] = ()


def start_target(folder: Path, running: list[Background]) -> int:
    """nginx with one worker: a small JSON answer, the files of ``folder``/files, PUT into them."""
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 3600;
  client_max_body_size 0; client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-p; fastcgi_temp_path {folder}/nginx-f;
  uwsgi_temp_path {folder}/nginx-u; scgi_temp_path {folder}/nginx-s;
  server {{
    listen 127.0.0.1:{port}; root {folder}/files;
    location = /small {{ default_type application/json; return 200 '{SMALL.decode()}'; }}
    location / {{ dav_methods PUT; }}
  }}
}}
""",
        encoding="utf-8",
    )
    target = Background.start(
        "nginx",
        ["/usr/sbin/nginx", "-p", str(folder), "-c", str(config), "-e", f"{folder}/nginx.err"],
        cwd=folder,
    )
    running.append(target)
    target.wait_for_port(port)
    return port


def make_keys(folder: Path) -> None:
    """Throw-away SSH keys: ``host`` and ``user``."""
    for name in ("host", "user"):
        run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
            cwd=folder,
        )


def start_ssh(
    folder: Path,
    running: list[Background],
    target: int,
    *,
    server: int | None = None,
    dialled: int | None = None,
) -> Way:
    """OpenSSH's server and client with their default cipher; never the system's own sshd.

    As root the server runs as nobody, which needs no ``/run/sshd``. ``server`` is its port, and
    ``dialled`` the one that the client dials, where a relay stands before it.
    """
    port = server or free_port()
    forwarded = free_port()
    home = folder / f"ssh-{port}"
    home.mkdir()
    make_keys(home)
    (home / "authorized").write_bytes((home / "user.pub").read_bytes())
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile {home}/sshd.pid\n"
        f"AuthorizedKeysFile {home}/authorized\nStrictModes no\nUsePAM yes\n"
        "AllowTcpForwarding yes\nPasswordAuthentication no\nPrintMotd no\nUseDNS no\n",
        encoding="utf-8",
    )
    demoted: list[str] = []
    login = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        demoted = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        login = "nobody"
        home.chmod(0o755)
        for name in ("host", "authorized", "sshd_config"):
            os.chown(home / name, pwd.getpwnam("nobody").pw_uid, -1)
    daemon = Background.start(
        f"sshd-{port}",
        [*demoted, SSHD, "-D", "-e", "-f", str(home / "sshd_config")],
        cwd=folder,
    )
    running.append(daemon)
    daemon.wait_for_port(port)
    client = Background.start(
        f"ssh-{port}-client",
        [
            "ssh", "-N", "-F", "none", "-i", str(home / "user"), "-p", str(dialled or port),
            "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes",
            "-R", f"127.0.0.1:{forwarded}:127.0.0.1:{target}", f"{login}@127.0.0.1",
        ],
        cwd=folder,
    )  # fmt: skip
    running.append(client)
    client.wait_until(lambda: accepts(forwarded), "forwarding")
    return Way("ssh -R", forwarded, pids=(daemon.pid, client.pid))


def start_asyncssh(folder: Path, running: list[Background], target: int) -> Way:
    """asyncssh at both ends with its default cipher."""
    port, forwarded = free_port(), free_port()
    home = folder / "asyncssh"
    home.mkdir()
    make_keys(home)
    module = [sys.executable, "-m", "bench.asyncssh_ends"]
    root = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    server = Background.start(
        "asyncssh-server",
        [*module, "server", str(home), str(port)],
        cwd=folder,
        environment=root,
    )
    running.append(server)
    server.wait_for_port(port)
    client = Background.start(
        "asyncssh-client",
        [*module, "client", str(home), str(port), str(forwarded), str(target)],
        cwd=folder,
        environment=root,
    )
    running.append(client)
    client.wait_until(lambda: accepts(forwarded), "forwarding")
    return Way("asyncssh -R", forwarded, pids=(server.pid, client.pid))
