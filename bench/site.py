"""What is measured, in one folder: the target, the peers, and a gateway with its agent."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from attrs import define, field

from demo.deployment import Deployment
from demo.processes import Background, free_port

from .mariadb import start_mariadb
from .peers import Way, start_asyncssh, start_ssh, start_target
from .postgres import PASSWORD, start_postgres

GROUP = "bench"
MIB = 1024 * 1024
BULK = 1024 * MIB
PART = 256 * MIB


def _new_folder() -> Path:
    """In memory where there is room, so that the disk is not what is measured."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 6 * 1024 * MIB
    folder = Path(tempfile.mkdtemp(prefix="onprem-bench-", dir=memory if roomy else None))
    # Servers that refuse root run as nobody and have to get in.
    folder.chmod(0o755)
    return folder


@define
class Site:
    """Starts each thing when it is first asked for, and stops all of them.

    :ivar peers_only: measure nothing of ours.
    """

    peers_only: bool
    folder: Path = field(factory=_new_folder)
    _running: list[Background] = field(factory=list)
    _deployments: list[Deployment] = field(factory=list)
    _target: int | None = None
    _postgres: int | None = None
    _mariadb: int | None = None
    _ways: dict[str, Way] = field(factory=dict)
    _ours: Deployment | None = None

    @property
    def bulk_file(self) -> Path:
        """1 GiB."""
        self.target()
        return self.folder / "files" / "bulk.bin"

    def target(self) -> int:
        """nginx's port; its files are those that the agent's ``files`` profile serves."""
        if self._target is None:
            files = self.folder / "files"
            files.mkdir()
            for name, size in (("bulk.bin", BULK), ("part.bin", PART)):
                block = os.urandom(MIB)
                with (files / name).open("wb") as output:
                    for _ in range(size // MIB):
                        output.write(block)
            self._target = start_target(self.folder, self._running)
        return self._target

    def postgres(self) -> int:
        """PostgreSQL's port."""
        if self._postgres is None:
            self._postgres = start_postgres(self.folder, self._running)
        return self._postgres

    def mariadb(self) -> int:
        """MariaDB's port; deployments that come after it have a profile for it."""
        if self._mariadb is None:
            self._mariadb = start_mariadb(self.folder, self._running)
        return self._mariadb

    def ways(self) -> dict[str, Way]:
        """All the ways, by name; ``ours`` is the last."""
        if not self._ways:
            ssh = start_ssh(self.folder, self._running, self.target())
            asyncssh = start_asyncssh(self.folder, self._running, self.target())
            direct = Way("direct", self.target())
            self._ways = {way.name: way for way in (direct, ssh, asyncssh)}
        if self.peers_only:
            return self._ways
        return {**self._ways, "ours": self.ours()}

    def ours(self) -> Way:
        """The way through the deployment that most figures share."""
        return through(self.deployment())

    def deployment(self) -> Deployment:
        """That deployment."""
        if self._ours is None:
            self._ours = self.deploy("ours")
        return self._ours

    @property
    def running(self) -> list[Background]:
        """What is stopped at the end."""
        return self._running

    def deploy(
        self,
        name: str,
        tunnel: int | None = None,
        relay: int | None = None,
        sections: str | None = None,
    ) -> Deployment:
        """A new gateway and agent, connected; through a relay where its port is given."""
        folder = self.folder / name
        folder.mkdir()
        deployment = Deployment(
            folder,
            GROUP,
            self._sections() if sections is None else sections,
            public_port=relay,
            tunnel_port=tunnel or free_port(),
        )
        self._deployments.append(deployment)
        deployment.start()
        return deployment

    def relay(self, listen: int, target: int, rate: float, delay: float, window: int) -> Background:
        """A slow link before ``target`` (see :mod:`bench.relay`)."""
        relay = Background.start(
            f"relay-{listen}",
            [sys.executable, "-m", "bench.relay", *map(str, (listen, target, rate, delay, window))],
            cwd=self.folder,
            environment={"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        self._running.append(relay)
        relay.wait_for_port(listen)
        return relay

    def ssh(self, server: int, dialled: int) -> Way:
        """Another ``ssh -R``, whose client dials a relay."""
        return start_ssh(self.folder, self._running, self.target(), server=server, dialled=dialled)

    def close(self) -> None:
        """Stop everything and remove the folder."""
        for deployment in self._deployments:
            deployment.stop()
        for process in reversed(self._running):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sections(self) -> str:
        shop = ""
        if self._mariadb is not None:
            shop = f"""
  shop:
    adapter: mysql
    host: 127.0.0.1
    port: {self._mariadb}
    database: shop
    username: bench
    password: {PASSWORD}
    timeout: 10
"""
        return f"""
http:
  target:
    base_url: http://127.0.0.1:{self.target()}
files:
  data:
    base: {self.folder}/files
tcp:
  database: {{host: 127.0.0.1, port: {self.postgres()}}}
  web: {{host: 127.0.0.1, port: {self.target()}}}
database:
  warehouse: &postgres
    adapter: postgresql
    host: 127.0.0.1
    port: {self.postgres()}
    database: postgres
    username: bench
    password: {PASSWORD}
  crowd:
    <<: *postgres
    pool: {{min: 10, max: 10, wait: 60}}
{shop}"""


def through(deployment: Deployment) -> Way:
    """The way through a deployment; its token covers everything."""
    token = deployment.token("bench", "*:*:*:*")
    prefix = f"/v1/groups/{GROUP}"
    pids = tuple(
        process.pid for process in (deployment.gateway, deployment.agent) if process is not None
    )
    return Way(
        "ours",
        deployment.api_port,
        (("Authorization", f"Bearer {token}"), ("X-Timeout", "3600")),
        small=f"{prefix}/http/target/small",
        bulk=f"{prefix}/files/data/content/bulk.bin",
        upload=f"{prefix}/files/data/content/upload.bin",
        pids=pids,
    )
