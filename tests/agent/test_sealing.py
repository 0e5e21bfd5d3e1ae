"""Secrets that only one agent can read: the key, the text, the config and the command."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from workato_agent.cli.main import main
from workato_agent.config import ConfigError, parse_config
from workato_agent.identity.sealing import KEY_FILE, SealError, SealingKey

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
CONFIG = """
gateway: {{ identity: id }}
proxy: {{ host: h, port: 1, username: u, password: {{ encrypted: '{sealed}' }} }}
"""


class SealingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self) / "id"

    @settings(max_examples=50)
    @given(TEXT)
    def test_what_is_sealed_is_opened_with_the_same_key_only(self, text: str) -> None:
        key, other = SealingKey(bytes(32)), SealingKey(b"x" * 32)
        sealed = key.seal(text)
        self.assertEqual(key.open(sealed), text)
        self.assertNotEqual(key.seal(text), sealed)
        self.assertRaises(SealError, other.open, sealed)

    def test_no_character_of_it_can_be_changed(self) -> None:
        key = SealingKey(bytes(32))
        sealed = key.seal("pass")
        for index in range(len(sealed)):
            for other in ("A", "B", "=", " ", "é", ""):
                changed = sealed[:index] + other + sealed[index + 1 :]
                if changed.rstrip("=") == sealed:
                    continue
                try:
                    opened = key.open(changed)
                except SealError as error:
                    self.assertNotIn("pass", str(error))
                else:
                    # The last character of base64 has bits that mean nothing.
                    self.assertEqual((opened, index), ("pass", len(sealed) - 1))
        for text in ("", "v1.", "v2.AAAA", "v1." + "A" * 10, "pass"):
            self.assertRaises(SealError, key.open, text)

    def test_the_key_is_made_once_and_for_its_owner_alone(self) -> None:
        sealed = SealingKey.load_or_make(self.folder).seal("x")
        path = self.folder / KEY_FILE
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(SealingKey.load_or_make(self.folder).open(sealed), "x")
        path.chmod(0o644)
        self.assertIn("chmod 600", str(self.assertRaises(SealError, SealingKey.load, self.folder)))

    def test_keys_that_are_none(self) -> None:
        self.assertRaises(SealError, SealingKey.load, self.folder)
        SealingKey.load_or_make(self.folder)
        (self.folder / KEY_FILE).write_bytes(b"short")
        error = self.assertRaises(SealError, SealingKey.load, self.folder)
        self.assertIn("5 bytes, not 32", str(error))


class ConfigTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.file = self.folder / "config.yml"

    def test_a_config_is_read_with_the_identitys_key(self) -> None:
        sealed = SealingKey.load_or_make(self.folder / "id").seal("pass")
        config = parse_config(CONFIG.format(sealed=sealed), self.file)
        assert config.proxy is not None
        assert config.proxy.password is not None
        self.assertEqual(config.proxy.password.reveal(), "pass")
        again = SealingKey.load(self.folder / "id").seal("another")
        other = parse_config(CONFIG.format(sealed=again), self.file)
        self.assertEqual(config.config_hash, other.config_hash)

    def test_another_agents_text_is_an_error_of_its_line(self) -> None:
        SealingKey.load_or_make(self.folder / "id")
        sealed = SealingKey(bytes(32)).seal("pass")
        error = self.assertRaises(
            ConfigError, parse_config, CONFIG.format(sealed=sealed), self.file
        )
        (problem,) = error.problems
        self.assertEqual((problem.path, problem.line), ("proxy.password", 3))
        self.assertIn("another agent's key", problem.message)
        self.assertIn("workato-agent encrypt", problem.hint or "")

    def test_the_gateways_section_holds_none(self) -> None:
        error = self.assertRaises(
            ConfigError, parse_config, "gateway: {identity: {encrypted: v1.x}}", self.file
        )
        self.assertIn("gateway.identity", str(error))


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.config = self.folder / "config.yml"
        self.config.write_text("gateway: { identity: id }\n")

    def run_with(self, text: str, *more: str) -> tuple[int, str, str]:
        output, errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdin", io.StringIO(text))
        self.patch(sys, "stdout", output)
        self.patch(sys, "stderr", errors)
        status = main(["encrypt", "--config", str(self.config), *more])
        return status, output.getvalue(), errors.getvalue()

    def test_what_it_prints_goes_into_the_config(self) -> None:
        status, output, _ = self.run_with("it's: {a} secret #1\n")
        self.assertEqual(status, 0)
        self.config.write_text(
            "gateway: { identity: id }\n"
            f"proxy: {{ host: h, port: 1, username: u, password: {output.strip()} }}\n"
        )
        config = parse_config(self.config.read_text(), self.config)
        assert config.proxy is not None
        assert config.proxy.password is not None
        self.assertEqual(config.proxy.password.reveal(), "it's: {a} secret #1")

    def test_json_for_scripts(self) -> None:
        _, output, _ = self.run_with("x", "--json")
        sealed = json.loads(output)["encrypted"]
        self.assertEqual(SealingKey.load(self.folder / "id").open(sealed), "x")

    def test_what_is_no_secret_is_said(self) -> None:
        for text, status, word in (("", 2, "no secret"), ("x" * 70_000, 2, "65536")):
            found, output, errors = self.run_with(text)
            self.assertEqual((found, output), (status, ""))
            self.assertIn(word, errors)
        (self.folder / "id").mkdir(mode=0o755)
        Path(self.folder / "id").chmod(0o755)
        found, _, errors = self.run_with("x")
        self.assertEqual(found, 1)
        self.assertIn("chmod 700", errors)
