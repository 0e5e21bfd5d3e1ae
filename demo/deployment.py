"""A gateway and an agent of this checkout in a folder of their own, set up with their commands."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from attrs import define, field

from .processes import Background, ProgramError, command, free_port, run


@define
class Deployment:
    """The two processes, and what a caller needs to reach them.

    :ivar folder: holds everything: the gateway's folder, the agent's identity and config, the logs.
    :ivar group: the group that the agent joins.
    :ivar sections: the agent's config without its ``gateway`` section (YAML).
    :ivar public_port: where the agent dials, when something (a relay) stands before the tunnel.
    """

    folder: Path
    group: str
    sections: str
    public_port: int | None = None
    api_port: int = field(factory=free_port)
    tunnel_port: int = field(factory=free_port)
    admin_token: str = field(default="", repr=False)
    gateway: Background | None = None
    agent: Background | None = None

    @property
    def config(self) -> Path:
        """The agent's config file."""
        return self.folder / "config.yml"

    @property
    def gateway_config(self) -> Path:
        """The gateway's config file."""
        return self.folder / "gateway" / "gateway.yml"

    @property
    def identity(self) -> Path:
        """The agent's key, certificate and audit."""
        return self.folder / "identity"

    @property
    def tunnel(self) -> str:
        """The address of the gateway's listener for agents."""
        return f"127.0.0.1:{self.tunnel_port}"

    @property
    def url(self) -> str:
        """The API's URL."""
        return f"http://127.0.0.1:{self.api_port}"

    def start(self) -> None:
        """All of it: when this returns, a call would succeed."""
        self.make_gateway()
        self.start_gateway()
        self.admin("group", "create", self.group)
        self.enrol(self.admin("agent", "code", self.group))
        self.start_agent()

    def make_gateway(self) -> None:
        """``workato-gateway init``."""
        output = run(
            [
                command("workato-gateway"),
                "init",
                f"--dir={self.folder / 'gateway'}",
                f"--public-url=https://127.0.0.1:{self.public_port or self.tunnel_port}",
                f"--listen-api=127.0.0.1:{self.api_port}",
                f"--listen-tunnel=127.0.0.1:{self.tunnel_port}",
            ],
            cwd=self.folder,
        )
        self.admin_token = last_line(output)

    def admin(self, *arguments: str) -> str:
        """The last line that a ``workato-gateway`` command prints."""
        argv = [command("workato-gateway"), *arguments, f"--config={self.gateway_config}"]
        return last_line(run(argv, cwd=self.folder))

    def token(self, owner: str, *scopes: str) -> str:
        """A new token for callers, each scope ``group:service:profile:method``, once it is valid.

        A running gateway looks at the store about once a second.
        """
        text = self.admin(
            "token", "create", f"--owner={owner}", *(f"--scope={scope}" for scope in scopes)
        )
        if self.gateway is not None:
            self.gateway.wait_until(lambda: self._known(text), "accepting the new token")
        return text

    def _known(self, token: str) -> bool:
        return self.get(f"/v1/groups/{self.group}/agents", token)[0] != 401

    def start_gateway(self) -> None:
        """``twistd -n workato-gateway``, until it is ready."""
        self.gateway = self._twistd("gateway", self.gateway_config)
        self.gateway.wait_until(lambda: self.get("/readyz")[0] == 200, "ready")

    def enrol(self, code: str) -> None:
        """Write the agent's config and exchange the activation code for its identity."""
        self.config.write_text(
            f"gateway:\n  identity: {self.identity}\n{self.sections}", encoding="utf-8"
        )
        self.config.chmod(0o600)
        run(
            [command("workato-agent"), "enrol", f"--code={code}", f"--config={self.config}"],
            cwd=self.folder,
        )

    def start_agent(self) -> None:
        """``twistd -n workato-agent``, until the gateway takes it for active."""
        self.agent = self._twistd("agent", self.config)
        self.agent.wait_until(self.connected, "connected to the gateway")

    def connected(self) -> bool:
        """Whether the gateway says that an agent of the group is active and what it offers."""
        status, body = self.get(f"/v1/groups/{self.group}/agents", self.admin_token)
        if status != 200:
            return False
        agents = json.loads(body)["agents"]
        return any(agent["status"] == "active" and agent["profiles"] for agent in agents)

    def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        """A GET on the API: status and body; status 0 while nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop both; the agent first, so that it says goodbye."""
        for process in (self.agent, self.gateway):
            if process is not None:
                process.stop()

    def _twistd(self, name: str, config: Path) -> Background:
        return Background.start(
            name,
            [
                command("twistd"),
                "--nodaemon",
                f"--pidfile={self.folder / name}.pid",
                f"workato-{name}",
                f"--config={config}",
            ],
            cwd=self.folder,
        )


def last_line(output: str) -> str:
    """The last line of what a command printed: the bare value, for scripts."""
    lines = output.strip().splitlines()
    if not lines:
        raise ProgramError("the command printed nothing")
    return lines[-1].strip()
