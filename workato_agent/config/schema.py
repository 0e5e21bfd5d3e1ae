"""The agent's config as the rest of the agent sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from attrs import Factory, frozen

from .options import (
    AgentOptions,
    AuditOptions,
    ConfigOptions,
    GatewayOptions,
    LoggingOptions,
    MetricsOptions,
    ProxyOptions,
    ServerOptions,
    StatusOptions,
)
from .profiles import ProfileConfig
from .secretstores import SecretsOptions

P = TypeVar("P", bound=ProfileConfig)


@frozen
class AgentConfig:
    """A valid config.yml.

    :ivar file: where it was read; None for one made in memory.
    :ivar profiles: by service (its name in the API), then by the profile's name.
    :ivar config_hash: 16 hex digits that change when the content does; secrets are not in it.
    :ivar remarks: what the operator should know although the file is valid; log them at start.
    """

    file: Path | None = None
    config: ConfigOptions = Factory(lambda: ConfigOptions.model_validate({}))
    agent: AgentOptions = Factory(AgentOptions)
    gateway: GatewayOptions = Factory(GatewayOptions)
    proxy: ProxyOptions | None = None
    server: ServerOptions = Factory(ServerOptions)
    logging: LoggingOptions = Factory(LoggingOptions)
    audit: AuditOptions = Factory(AuditOptions)
    metrics: MetricsOptions = Factory(MetricsOptions)
    status: StatusOptions = Factory(StatusOptions)
    secrets: SecretsOptions | None = None
    profiles: Mapping[str, Mapping[str, ProfileConfig]] = Factory(dict)
    config_hash: str = ""
    remarks: tuple[str, ...] = ()

    def of(self, kind: type[P]) -> Mapping[str, P]:
        """The profiles of one service, typed: ``config.of(FilesProfile)["hr"].base``."""
        entries = self.profiles.get(kind.service, {})
        return {name: entry for name, entry in entries.items() if isinstance(entry, kind)}

    def every_profile(self) -> Iterator[tuple[str, str, ProfileConfig]]:
        """Service, name and content of each profile, in the file's order."""
        for service, entries in self.profiles.items():
            for name, entry in entries.items():
                yield service, name, entry

    @property
    def identity(self) -> Path:
        """The folder of this agent's key, certificate and gateway."""
        return self.gateway.identity

    @property
    def audit_path(self) -> Path:
        """The audit file that is being written."""
        return self.audit.path or self.identity / "audit" / "audit.jsonl"

    @property
    def status_socket(self) -> Path:
        """The socket that answers ``workato-agent status``."""
        return self.status.socket or self.identity / "status.sock"
