"""A gateway and an agent, and behind the agent every target that a profile can be wrong about."""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from attrs import define, field, frozen

from demo.deployment import Deployment
from demo.processes import command, run

from .cutting_relay import wait_until
from .mariadb import MariadbServer
from .ports import free_port
from .postgresql import PASSWORD, SUPERUSER, PostgresqlServer
from .premises import (
    HTTP_PASSWORD,
    HTTP_USER,
    BlackHole,
    HttpApplication,
    OddPort,
    self_signed,
)

GROUP: Final = "plant"
EMPTY_GROUP: Final = "empty"
CALLS_PER_TOKEN: Final = 3
READER_PASSWORD: Final = "r3ader-pässword"
WRONG_PASSWORD: Final = "wr0ng-pässword"
WRONG_BEARER: Final = "wr0ng-bearer-t0ken"
MAX_BYTES: Final = 1000

Body = bytes | str | Mapping[str, object] | None


@frozen
class Answer:
    """What came back, and how long that took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> dict[str, Any]:
        """The body as an object."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


@frozen
class SecondAgent:
    """One that may be lost."""

    deployment: Deployment

    def status(self) -> str:
        """What ``workato-agent status`` prints."""
        argv = [command("workato-agent"), "status", f"--config={self.deployment.config}"]
        return run(argv, cwd=self.deployment.folder)

    def log(self) -> str:
        """The end of its log."""
        return "" if self.deployment.agent is None else self.deployment.agent.output()

    def restart(self) -> None:
        """End it and start it anew, until it is connected."""
        self.stop()
        # The gateway writes down within a second who has gone.
        wait_until(lambda: not self.deployment.connected())
        self.deployment.start_agent()

    def stop(self) -> None:
        """End it."""
        self.deployment.stop()


@define
class Landscape:
    """Everything that runs. ``secrets`` must never be seen in an answer or a log."""

    folder: Path
    postgresql: PostgresqlServer
    mariadb: MariadbServer
    application: HttpApplication
    secured: HttpApplication
    misnamed: HttpApplication
    ssh: OddPort
    silent: OddPort
    hole: BlackHole
    closed_port: int
    deployment: Deployment = field(init=False)
    token: str = field(init=False, default="")
    secrets: set[str] = field(factory=set)

    @classmethod
    def start(cls) -> Self:
        """All of it, in some eight seconds."""
        folder = Path(tempfile.mkdtemp(prefix="landscape-"))
        land = cls(
            folder=folder,
            postgresql=PostgresqlServer.start(),
            mariadb=MariadbServer.start(),
            application=HttpApplication(),
            secured=HttpApplication(self_signed(folder / "self.pem", "localhost", "127.0.0.1")),
            misnamed=HttpApplication(self_signed(folder / "misnamed.pem", "crm.elsewhere")),
            ssh=OddPort(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
            silent=OddPort(b""),
            hole=BlackHole(),
            closed_port=free_port(),
        )
        land._fill()
        land._deploy()
        return land

    def stop(self) -> None:
        """End everything and remove the folder."""
        self.deployment.stop()
        self.postgresql.destroy()
        self.mariadb.destroy()
        for target in (self.application, self.secured, self.misnamed, self.ssh, self.silent):
            target.stop()
        self.hole.stop()
        shutil.rmtree(self.folder)

    def call(
        self, method: str, path: str, body: Body = None, *, token: str | None = None, **fields: str
    ) -> Answer:
        """A call; a path that begins with no slash is one within the group. ``X_Timeout`` is the
        field X-Timeout."""
        connection = self.connect()
        began = time.monotonic()
        try:
            self.send(connection, method, path, body, token=token, **fields)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, content, time.monotonic() - began)

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the API."""
        return http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=30)

    def send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Body = None,
        *,
        token: str | None = None,
        **fields: str,
    ) -> None:
        """Send a request and wait for nothing."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if "Authorization" not in headers and token != "":
            headers["Authorization"] = f"Bearer {token or self.token}"
        content = json.dumps(body) if isinstance(body, Mapping) else body
        path = path if path.startswith("/") else f"/v1/groups/{GROUP}/{path}"
        connection.request(method, path, content, headers)

    def administer(self, method: str, path: str, body: Body = None) -> dict[str, Any]:
        """A successful call of the administration; the answer's JSON, if it has some."""
        answer = self.call(method, path, body, token=self.deployment.admin_token)
        assert answer.status < 300, answer
        return answer.json() if answer.body else {}

    def operate(self, *arguments: str) -> None:
        """Run a ``workato-gateway`` command on the gateway's machine."""
        config = f"--config={self.deployment.gateway_config}"
        run([command("workato-gateway"), *arguments, config], cwd=self.folder)

    def new_token(self, *scopes: str, seconds: float | None = None) -> dict[str, Any]:
        """A token: its ``token`` is the text, its ``id`` what it is revoked by."""
        body: dict[str, object] = {"owner": "tester", "scopes": list(scopes)}
        if seconds is not None:
            body["expires_in"] = seconds
        made = self.administer("POST", "/v1/tokens", body)
        self.secrets.add(made["token"])
        return made

    def logs(self) -> dict[str, str]:
        """All that both processes wrote down, by file."""
        files = [*self.folder.rglob("*.log"), *self.folder.rglob("audit*.jsonl*")]
        return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in files}

    def certify_postgresql(self, pem: Path) -> None:
        """Let PostgreSQL show another certificate (and key, in one file) to new connections."""
        for name in ("server.crt", "server.key"):
            (self.postgresql.folder / name).write_bytes(pem.read_bytes())
        self.postgresql.run("select pg_reload_conf()")

    def second_agent(self, group: str) -> SecondAgent:
        """Another agent, of another group that this makes."""
        self.administer("POST", "/v1/groups", {"name": group})
        code = self.administer("POST", f"/v1/groups/{group}/activation-codes")["code"]
        self.secrets.add(code)
        folder = self.folder / group
        folder.mkdir()
        files = {"share": {"base": str(self.folder / "share")}}
        first = self.deployment
        deployment = Deployment(
            folder,
            group,
            f"files: {json.dumps(files)}\n",
            api_port=first.api_port,
            tunnel_port=first.tunnel_port,
            admin_token=first.admin_token,
        )
        deployment.enrol(code)
        deployment.start_agent()
        return SecondAgent(deployment)

    def _fill(self) -> None:
        database = self.postgresql
        database.run(f"create role reader login password '{READER_PASSWORD}'")
        database.run("create table secrets (a int)")
        database.run("create table items (id int primary key, name text)")
        database.run("create database closed")
        database.run("revoke connect on database closed from public")
        connection = sqlite3.connect(self.folder / "lite.db")
        connection.execute("create table items (id integer primary key)")
        connection.close()
        (self.folder / "garbage.db").write_text("this is no database " * 100)
        share = self.folder / "share"
        (share / "sub").mkdir(parents=True)
        (share / "sub" / "one.txt").write_text("one")
        (share / "hello.txt").write_text("hello world")
        own = [(database.folder / name).read_bytes() for name in ("server.key", "server.crt")]
        (self.folder / "postgresql.pem").write_bytes(b"".join(own))
        self_signed(self.folder / "stranger.pem", "Another CA")
        self_signed(self.folder / "elsewhere.pem", "db.elsewhere")

    def _deploy(self) -> None:
        deployment = self.deployment = Deployment(self.folder, GROUP, self._sections())
        deployment.make_gateway()
        with deployment.gateway_config.open("a", encoding="utf-8") as config:
            config.write(f"limits: {{ calls_per_token: {CALLS_PER_TOKEN} }}\n")
        deployment.start_gateway()
        for group in (GROUP, EMPTY_GROUP):
            self.administer("POST", "/v1/groups", {"name": group})
        code = self.administer("POST", f"/v1/groups/{GROUP}/activation-codes")["code"]
        deployment.enrol(code)
        deployment.start_agent()
        self.secrets |= {
            code,
            deployment.admin_token,
            PASSWORD,
            READER_PASSWORD,
            WRONG_PASSWORD,
            WRONG_BEARER,
            HTTP_PASSWORD,
        }
        self.token = self.new_token(f"{GROUP}:*:*:*", f"{EMPTY_GROUP}:*:*:*", "nowhere:*:*:*")[
            "token"
        ]

    def _sections(self) -> str:
        tomorrow = time.strftime("%a", time.localtime(time.time() + 86400 * 2))
        files = {"base": str(self.folder / "share")}
        sections: dict[str, dict[str, object]] = {
            "database": {**self._postgresql_profiles(), **self._sqlite_profiles()},
            "files": {
                "share": {**files, "policy": {"max_bytes": MAX_BYTES}},
                "closed": {**files, "policy": {"windows": [tomorrow]}},
                "texts": {
                    **files,
                    "policy": {"operations": ["list", "read"], "patterns": ["*.txt"]},
                },
            },
            "http": self._http_profiles(),
        }
        # JSON is YAML.
        return "".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items())

    def _postgresql_profiles(self) -> dict[str, object]:
        def profile(port: int = self.postgresql.port, **other: object) -> dict[str, object]:
            good: dict[str, object] = {
                "adapter": "postgresql",
                "host": "127.0.0.1",
                "port": port,
                "database": "postgres",
                "username": SUPERUSER,
                "password": PASSWORD,
                "timeout": 2,
            }
            return good | other

        reader: dict[str, Any] = {"username": "reader", "password": READER_PASSWORD}
        return {
            "pg": profile(sslrootcert=f"{self.postgresql.folder}/ca.crt"),
            "pg-one": profile(pool={"max": 1, "wait": 0.3}),
            "pg-read-only": profile(policy={"read_only": True}),
            "pg-query": profile(policy={"operations": ["query"], "max_rows": 3}),
            "pg-brief": profile(statement_timeout=0.3),
            "pg-reader": profile(**reader),
            "pg-closed": profile(database="closed", **reader),
            "pg-password": profile(password=WRONG_PASSWORD),
            "pg-user": profile(username="stranger"),
            "pg-plain": profile(sslmode="disable"),
            "pg-database": profile(database="nowhere"),
            "pg-ca": profile(sslrootcert=str(self.folder / "stranger.pem")),
            "pg-name": profile(sslrootcert=str(self.folder / "elsewhere.pem")),
            "pg-dns": profile(host="db.nowhere.invalid"),
            "pg-refused": profile(self.closed_port),
            "pg-hole": profile(self.hole.port, timeout=1),
            "pg-silent": profile(self.silent.port, timeout=1),
            "pg-mariadb": profile(self.mariadb.port),
            "pg-http": profile(self.application.port, timeout=4),
            "pg-ssh": profile(self.ssh.port, timeout=4),
        }

    def _sqlite_profiles(self) -> dict[str, object]:
        lite = {"adapter": "sqlite", "database": str(self.folder / "lite.db")}
        return {
            "lite": lite,
            "lite-one": lite | {"pool": {"max": 1, "wait": 1}},
            "lite-read-only": lite | {"policy": {"read_only": True}},
            "lite-missing": lite | {"database": str(self.folder / "missing.db")},
            "lite-garbage": lite | {"database": str(self.folder / "garbage.db")},
        }

    def _http_profiles(self) -> dict[str, object]:
        def profile(port: int, scheme: str = "http", **other: object) -> dict[str, object]:
            return {"base_url": f"{scheme}://127.0.0.1:{port}", "timeout": 1, **other}

        application = self.application.port
        private = {"base_url": f"http://127.0.0.1:{application}/private"}
        return {
            "app": profile(application),
            "one": profile(application, pool={"max": 1, "wait": 0.3}),
            "rules": profile(application, methods=["GET"], paths=["/", "/api/**"]),
            "private": private
            | {"auth": {"basic": {"username": HTTP_USER, "password": HTTP_PASSWORD}}},
            "password": private
            | {"auth": {"basic": {"username": HTTP_USER, "password": WRONG_PASSWORD}}},
            "bearer": private | {"auth": {"bearer": WRONG_BEARER}},
            "self-signed": profile(self.secured.port, "https"),
            "misnamed": profile(self.misnamed.port, "https", ca=str(self.folder / "misnamed.pem")),
            "no-tls": profile(application, "https"),
            "dns": profile(80) | {"base_url": "http://crm.nowhere.invalid"},
            "refused": profile(self.closed_port),
            "hole": profile(self.hole.port),
            "postgresql": profile(self.postgresql.port),
            "postgresql-tls": profile(self.postgresql.port, "https"),
            "mariadb": profile(self.mariadb.port),
            "ssh": profile(self.ssh.port),
        }
