"""Config files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from workato_agent.config import AgentConfig, ConfigError, parse_config


class ConfigTestCase(SynchronousTestCase):
    """Tests that load configs from a folder of their own."""

    def setUp(self) -> None:
        self.folder = Path(mkdtemp(dir="."))
        self.file = self.folder / "config.yml"

    def load(self, text: str, environ: Mapping[str, str] | None = None) -> AgentConfig:
        return parse_config(dedent(text), self.file, environ or {})

    def faults(self, text: str, environ: Mapping[str, str] | None = None) -> ConfigError:
        return self.assertRaises(ConfigError, self.load, text, environ)

    def only_fault(self, text: str, environ: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Path and whole description of the one fault there is."""
        error = self.faults(text, environ)
        self.assertEqual(len(error.problems), 1, str(error))
        return error.problems[0].path, str(error)
