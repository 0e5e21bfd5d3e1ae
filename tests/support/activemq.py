"""A real ActiveMQ of one's own: OpenWire and STOMP, plain and with TLS, in a temporary folder."""

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

HOME: Final = Path("/usr/share/activemq")
USER: Final = "app"
PASSWORD: Final = "s3cret: wörd"
START_SECONDS: Final = 60.0
_STORE: Final = "changeit"

_CONFIG: Final = """<beans xmlns="http://www.springframework.org/schema/beans"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://www.springframework.org/schema/beans
 http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
 http://activemq.apache.org/schema/core
 http://activemq.apache.org/schema/core/activemq-core.xsd">
<broker xmlns="http://activemq.apache.org/schema/core" useJmx="false" brokerName="test"
 dataDirectory="{folder}/data" persistent="true" schedulerSupport="true"
 useShutdownHook="true" start="true">
 <destinationPolicy><policyMap><policyEntries>
  <policyEntry queue="&gt;" persistJMSRedelivered="{marks}" producerFlowControl="true"/>
  <policyEntry topic="&gt;" persistJMSRedelivered="{marks}"/>
 </policyEntries></policyMap></destinationPolicy>
 <persistenceAdapter><kahaDB directory="{folder}/data/kahadb"
  checkForCorruptJournalFiles="true" journalMaxFileLength="8mb"/></persistenceAdapter>
 <plugins><simpleAuthenticationPlugin><users>
  <authenticationUser username="{user}" password="{password}" groups="users"/>
 </users></simpleAuthenticationPlugin></plugins>
 <sslContext><sslContext keyStore="file:{folder}/server.p12" keyStorePassword="{store}"
  keyStoreType="PKCS12" trustStore="file:{folder}/trust.p12" trustStorePassword="{store}"
  trustStoreType="PKCS12"/></sslContext>
 <systemUsage><systemUsage><memoryUsage><memoryUsage limit="64 mb"/></memoryUsage>
  <storeUsage><storeUsage limit="512 mb"/></storeUsage>
  <tempUsage><tempUsage limit="64 mb"/></tempUsage></systemUsage></systemUsage>
 <transportConnectors>
  <transportConnector name="openwire" uri="tcp://127.0.0.1:{openwire}"/>
  <transportConnector name="ssl" uri="ssl://127.0.0.1:{ssl}"/>
  <transportConnector name="stomp" uri="stomp://127.0.0.1:{stomp}"/>
  <transportConnector name="stomp+ssl" uri="stomp+ssl://127.0.0.1:{stomp_ssl}"/>
  <transportConnector name="stomp+mutual"
   uri="stomp+ssl://127.0.0.1:{stomp_mutual}?needClientAuth=true"/>
 </transportConnectors>
</broker></beans>
"""


@define
class ActivemqPorts:
    """Where it listens on 127.0.0.1; ``stomp_mutual`` asks for a client certificate."""

    openwire: int = field(factory=free_port)
    ssl: int = field(factory=free_port)
    stomp: int = field(factory=free_port)
    stomp_ssl: int = field(factory=free_port)
    stomp_mutual: int = field(factory=free_port)


@define(eq=False)
class ActivemqServer:
    """A running broker for :data:`USER` with :data:`PASSWORD`.

    ``folder`` holds ``ca.crt``, ``client.crt`` and ``client.key``, and ``trust.p12`` and
    ``client.p12`` for Java (password ``changeit``).
    """

    folder: Path
    ports: ActivemqPorts
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, *, marks: bool = True) -> Self:
        """A new broker without messages. Takes two to four seconds.

        :param marks: keep on disk what has been delivered, so that it is marked when it comes again
            after a crash; it costs a write for each delivery.
        """
        folder = Path(tempfile.mkdtemp(prefix="onprem-amq-"))
        write_certificates(folder, USER)
        folder.chmod(0o755)
        _stores(folder)
        ports = ActivemqPorts()
        config = _CONFIG.format(
            folder=folder,
            user=USER,
            password=PASSWORD,
            store=_STORE,
            marks=str(marks).lower(),
            openwire=ports.openwire,
            ssl=ports.ssl,
            stomp=ports.stomp,
            stomp_ssl=ports.stomp_ssl,
            stomp_mutual=ports.stomp_mutual,
        )
        (folder / "activemq.xml").write_text(config, encoding="utf-8")
        (folder / "data").mkdir()
        (folder / "tmp").mkdir()
        user = _unprivileged()
        if user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user["user"], user["group"])
        server = cls(folder, ports, _launch(folder))
        atexit.register(server.destroy)
        server._wait()
        return server

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def restart(self) -> None:
        """Start it again after :meth:`kill`, on the same ports with the same data."""
        self.process = _launch(self.folder)
        self._wait()

    def hang(self) -> None:
        """SIGSTOP: connections stand, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End :meth:`hang`."""
        self.process.send_signal(signal.SIGCONT)

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def output(self) -> str:
        """What it has written."""
        return (self.folder / "output").read_text(errors="replace")

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self._greets():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"ActiveMQ does not start: {self.output()[-4000:]}")
            time.sleep(0.05)

    def _greets(self) -> bool:
        frame = f"CONNECT\naccept-version:1.2\nhost:x\nlogin:{USER}\npasscode:x\n\n\0"
        try:
            with socket.create_connection(("127.0.0.1", self.ports.stomp), timeout=5) as link:
                link.sendall(frame.encode())
                return link.recv(100).startswith(b"ERROR") and self._last_listens()
        except OSError:
            return False

    def _last_listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.ports.stomp_mutual), timeout=5):
            return True


@cache
def shared_server() -> ActivemqServer:
    """One broker for all tests that leave it running; it ends with the process."""
    return ActivemqServer.start()


def _stores(folder: Path) -> None:
    """Java's forms of the certificates."""
    for name in ("server", "client"):
        _run(
            "openssl", "pkcs12", "-export", "-in", f"{folder}/{name}.crt", "-inkey",
            f"{folder}/{name}.key", "-out", f"{folder}/{name}.p12", "-passout", f"pass:{_STORE}",
        )  # fmt: skip
    _run(
        "keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", f"{folder}/ca.crt",
        "-keystore", f"{folder}/trust.p12", "-storetype", "PKCS12", "-storepass", _STORE,
    )  # fmt: skip


def _run(*command: str) -> None:
    outcome = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if outcome.returncode:
        raise RuntimeError(f"{command[0]}: {outcome.stderr.decode(errors='replace')}")


def _launch(folder: Path) -> subprocess.Popen[bytes]:
    command = [
        "/usr/bin/java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        f"-Dactivemq.home={HOME}", f"-Dactivemq.base={folder}", f"-Dactivemq.conf={folder}",
        f"-Dactivemq.data={folder}/data", f"-Djava.io.tmpdir={folder}/tmp",
        "-jar", f"{HOME}/bin/activemq.jar", "start", f"xbean:file:{folder}/activemq.xml",
    ]  # fmt: skip
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **_unprivileged(),
        )


def _unprivileged() -> dict[str, Any]:
    """Whom to run it as, for ``subprocess``."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
