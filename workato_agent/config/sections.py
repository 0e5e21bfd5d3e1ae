"""The sections of config.yml: one line for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .database import AnyDatabase
from .extensions import ExtensionProfile
from .fields import Model
from .files import FilesProfile
from .http import HttpProfile
from .jms import AnyJms
from .kafka import KafkaProfile
from .ldap import LdapProfile
from .ntlm import NtlmProfile
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
from .scripts import ScriptsProfile
from .secretstores import SecretsOptions
from .tcp import TcpProfile

OPTIONS: Final[Mapping[str, type[Model]]] = {
    "config": ConfigOptions,
    "agent": AgentOptions,
    "gateway": GatewayOptions,
    "proxy": ProxyOptions,
    "server": ServerOptions,
    "logging": LoggingOptions,
    "audit": AuditOptions,
    "metrics": MetricsOptions,
    "status": StatusOptions,
    "secrets": SecretsOptions,
}

PROFILES: Final[Mapping[str, type[ProfileConfig]]] = {
    "database": AnyDatabase,
    "files": FilesProfile,
    "http": HttpProfile,
    "ntlm": NtlmProfile,
    "ldap": LdapProfile,
    "command_line_scripts": ScriptsProfile,
    "tcp": TcpProfile,
    "jms": AnyJms,
    "extensions": ExtensionProfile,
    "kafka": KafkaProfile,
}

NOT_SERVED: Final = (
    "sap",
    "saprfc",
)
"""Sections of the documented format for which this version has no service."""
