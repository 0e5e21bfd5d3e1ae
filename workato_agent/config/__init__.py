"""The agent's config.yml: read once into frozen values, every fault reported at once."""

from .errors import ConfigError, ConfigProblem
from .load import load_config, load_options, parse_config
from .schema import AgentConfig
from .secrets import Secret

__all__ = [
    "AgentConfig",
    "ConfigError",
    "ConfigProblem",
    "Secret",
    "load_config",
    "load_options",
    "parse_config",
]
