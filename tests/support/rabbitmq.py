"""A real RabbitMQ of one's own: STOMP and AMQP 1.0, plain and with TLS, in a temporary folder.

Erlang's port mapper is a process of its own that outlives a node; here each server has one on a
port of its own, which ends with it.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from attrs import define, field

from .certificates import write_certificates
from .ports import free_port

BINARIES: Final = Path("/usr/lib/rabbitmq/bin")
EPMD: Final = "/usr/bin/epmd"
USER: Final = "app"
PASSWORD: Final = "s3cret: word"
START_SECONDS: Final = 90.0

_CONFIG: Final = """listeners.tcp.1 = 127.0.0.1:{amqp}
listeners.ssl.1 = 127.0.0.1:{amqps}
stomp.listeners.tcp.1 = 127.0.0.1:{stomp}
stomp.listeners.ssl.1 = 127.0.0.1:{stomp_ssl}
ssl_options.cacertfile = {folder}/ca.crt
ssl_options.certfile = {folder}/server.crt
ssl_options.keyfile = {folder}/server.key
default_user = {user}
default_pass = {password}
loopback_users = none
log.console = true
log.console.level = info
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
"""


@define
class RabbitmqPorts:
    """Where it listens on 127.0.0.1: ``amqp`` and ``amqps`` take AMQP 1.0 and 0-9-1."""

    amqp: int = field(factory=free_port)
    amqps: int = field(factory=free_port)
    stomp: int = field(factory=free_port)
    stomp_ssl: int = field(factory=free_port)
    distribution: int = field(factory=free_port)
    mapper: int = field(factory=free_port)


@define(eq=False)
class RabbitmqServer:
    """A running broker for :data:`USER` with :data:`PASSWORD`.

    ``folder`` holds ``ca.crt``, ``client.crt`` and ``client.key``.
    """

    folder: Path
    ports: RabbitmqPorts
    process: subprocess.Popen[bytes]
    mapper: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> Self:
        """A new broker without messages. Takes five to ten seconds."""
        folder = Path(tempfile.mkdtemp(prefix="onprem-rmq-"))
        write_certificates(folder, USER)
        folder.chmod(0o755)
        ports = RabbitmqPorts()
        config = _CONFIG.format(
            folder=folder,
            user=USER,
            password=PASSWORD,
            amqp=ports.amqp,
            amqps=ports.amqps,
            stomp=ports.stomp,
            stomp_ssl=ports.stomp_ssl,
        )
        (folder / "rabbit.conf").write_text(config, encoding="utf-8")
        (folder / "plugins").write_text("[rabbitmq_stomp,rabbitmq_amqp1_0].\n")
        (folder / "advanced.config").write_text(
            "[{kernel, [{inet_dist_use_interface, {127,0,0,1}}]}].\n"
        )
        (folder / ".erlang.cookie").write_text("onpremtests")
        (folder / ".erlang.cookie").chmod(0o400)
        for name in ("mnesia", "log", "schema", "generated"):
            (folder / name).mkdir()
        user = _unprivileged()
        if user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user["user"], user["group"])
        mapper = _launch(folder, ports, [EPMD, "-port", str(ports.mapper), "-address", "127.0.0.1"])
        server = cls(folder, ports, _node(folder, ports), mapper)
        atexit.register(server.destroy)
        server._wait()
        return server

    def kill(self) -> None:
        """kill -9."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def restart(self) -> None:
        """Start it again after :meth:`kill`, on the same ports with the same data."""
        self.process = _node(self.folder, self.ports)
        self._wait()

    def hang(self) -> None:
        """SIGSTOP: connections stand, nothing answers."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End :meth:`hang`."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        if self.process.poll() is None:
            self.kill()
        self.mapper.kill()
        self.mapper.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def output(self) -> str:
        """What it has written."""
        return (self.folder / "output").read_text(errors="replace")

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self._greets():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"RabbitMQ does not start: {self.output()[-4000:]}")
            time.sleep(0.1)

    def _greets(self) -> bool:
        """Both protocols, and the logins have been made."""
        frame = f"CONNECT\naccept-version:1.2\nhost:/\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0"
        try:
            with socket.create_connection(("127.0.0.1", self.ports.stomp), timeout=5) as link:
                link.sendall(frame.encode())
                if not link.recv(100).startswith(b"CONNECTED"):
                    return False
            with socket.create_connection(("127.0.0.1", self.ports.amqp), timeout=5) as link:
                link.sendall(b"AMQP\x03\x01\x00\x00")
                return link.recv(8).startswith(b"AMQP")
        except OSError:
            return False


@cache
def shared_server() -> RabbitmqServer:
    """One broker for all tests that leave it running; it ends with the process."""
    return RabbitmqServer.start()


def _node(folder: Path, ports: RabbitmqPorts) -> subprocess.Popen[bytes]:
    return _launch(folder, ports, [str(BINARIES / "rabbitmq-server")])


def _launch(folder: Path, ports: RabbitmqPorts, command: list[str]) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "RABBITMQ_NODENAME": "test@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(ports.mapper),
    }
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_unprivileged(),
        )


def _unprivileged() -> dict[str, Any]:
    """Whom to run it as, for ``subprocess``."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("rabbitmq")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
