"""The packages themselves: what is in them, how large they are, what lintian says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.packages import NAMES, ROOT, built, once, run, workplace
from workato_agent.cli.main import parser as agent_parser
from workato_client.cli import parser as client_parser
from workato_gateway.cli.main import build_parser as gateway_parser

MOST_PACKED = 25_000_000
BUILD_SECONDS = 300
PARSERS: dict[str, Any] = {
    "workato-agent": agent_parser,
    "workato-gateway": gateway_parser,
    "onprem": client_parser,
}


@once
def unpacked() -> Path:
    """What the packages hold, in one tree."""
    tree = workplace() / "unpacked"
    for name in NAMES:
        run("dpkg-deb", "--extract", built().file(name), tree)
    return tree


def subcommands(parser: Any) -> dict[str, Any]:
    """The parsers below one, by name."""
    found: dict[str, Any] = {}
    for action in parser._actions:
        found |= action.choices if isinstance(action.choices, dict) else {}
    return found


def completed(command: str, *words: str) -> set[str]:
    """What bash offers after some words of a command."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        ' $(complete -p "$1" | sed "s/.*-F \\([^ ]*\\).*/\\1/") "$1" "${!#}" "";'
        ' echo "${COMPREPLY[@]}"'
    )
    file = unpacked() / "usr/share/bash-completion/completions" / command
    output = run("bash", "-c", script, "bash", file, command, *words)
    return set(output.split())


class PackageTests(SynchronousTestCase):
    def test_they_are_built_in_time_and_small(self) -> None:
        self.assertLess(built().seconds, BUILD_SECONDS)
        packed = sum(built().file(name).stat().st_size for name in NAMES)
        self.assertLess(packed, MOST_PACKED)

    def test_lintian_finds_no_error_that_is_not_explained(self) -> None:
        (changes,) = built().folder.glob("*.changes")
        run("lintian", "--fail-on", "error,warning", "--allow-root", str(changes))
        for name in NAMES:
            overrides = (ROOT / f"debian/{name}.lintian-overrides").read_text(encoding="utf-8")
            # A comment begins the file, and after each override comes another or a comment.
            self.assertRegex(overrides, rf"\A(?:(?:#.+\n)+(?:{name}: .+\n)+)+\Z")

    def test_the_version_is_the_projects(self) -> None:
        version = re.search(r'version="(.*?)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
        assert version is not None
        self.assertEqual(built().version, version[1])

    def test_the_versions_inside_are_those_that_the_tests_run_with(self) -> None:
        from importlib.metadata import distributions  # noqa: PLC0415 - of this run

        tested = {each.name.lower(): each.version for each in distributions()}
        (packages,) = unpacked().glob("opt/workato-agent/lib/python3*/site-packages")
        shipped = {each.name.lower(): each.version for each in distributions(path=[str(packages)])}
        self.assertGreater(len(shipped), 25)
        self.assertEqual({}, {k: v for k, v in shipped.items() if tested.get(k) != v})
        for expected in ("twisted", "pyodbc", "oracledb", "jpype1", "pyspnego", "botocore"):
            self.assertIn(expected, shipped)
        self.assertNotIn("pip", shipped)

    def test_the_configuration_is_the_sample_and_not_for_everybody(self) -> None:
        for path in ("etc/workato-agent/config.yml", "etc/workato-gateway/gateway.yml"):
            self.assertEqual((unpacked() / path).read_bytes(), (ROOT / path).read_bytes())
            self.assertEqual((unpacked() / path).stat().st_mode & 0o777, 0o640)
        for name in NAMES:
            listed = run("dpkg-deb", "--info", built().file(name), "conffiles").split()
            self.assertIn(f"/etc/{name}/", listed[0])

    def test_what_is_open_does_not_widen_what_is_held(self) -> None:
        """Each unit has the hardening that the documentation claims."""
        for name in NAMES:
            unit = (unpacked() / f"lib/systemd/system/{name}.service").read_text(encoding="utf-8")
            for line in (
                *("Type=notify", f"User={name}", "NoNewPrivileges=yes", "ProtectSystem=strict"),
                *("WatchdogSec=60", f"StateDirectory={name}", "SystemCallFilter=@system-service"),
                f"LoadCredential=secret:/etc/{name}/credentials",
            ):
                self.assertIn(f"\n{line}\n", unit)
            for setting in ("RestrictAddressFamilies", "MemoryMax", "TimeoutStopSec"):
                self.assertRegex(unit, rf"(?m)^{setting}=.")


class CommandLineTests(SynchronousTestCase):
    def test_man_pages_name_every_command_and_option(self) -> None:
        for name, parser in PARSERS.items():
            page = subprocess.run(
                [
                    "man",
                    "--local-file",
                    "--warnings",
                    unpacked() / f"usr/share/man/man1/{name}.1.gz",
                ],
                capture_output=True,
                text=True,
                check=True,
                env={"PATH": "/usr/bin:/bin", "MANWIDTH": "200", "LC_ALL": "C.UTF-8"},
            )
            self.assertEqual(page.stderr, "")
            for command, below in subcommands(parser()).items():
                for words in subcommands(below) or [""]:
                    self.assertIn(f"{name} {command} {words}".strip(), page.stdout)
                for option in re.findall(r"--[a-z-]+", below.format_help()):
                    self.assertIn(option, page.stdout)

    def test_bash_completes_commands_and_options(self) -> None:
        for name, parser in PARSERS.items():
            below = subcommands(parser())
            self.assertEqual(completed(name, ""), set(below))
            for command, one in below.items():
                if subcommands(one):
                    self.assertEqual(completed(name, command, ""), set(subcommands(one)))
                else:
                    expected = set(re.findall(r"--[a-z-]+", one.format_usage()))
                    self.assertLessEqual(expected, completed(name, command, "--"), command)
