"""The command line on a store: what it prints where, and how it ends."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from tests.support.gateway_commands import Outcome, gateway_here
from workato_gateway.config import load
from workato_gateway.identity.authority import Authority, load_chain, sha256_of
from workato_gateway.storage import sqlite
from workato_tunnel.activation import ActivationCode

URL = "https://gw.example:8443"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self) / "gateway"
        self.outcome = gateway_here("init", "--dir", self.folder, "--public-url", URL)
        self.assertEqual(self.outcome.status, 0, self.outcome.err)

    def ran(self, *arguments: object) -> Outcome:
        return gateway_here(*arguments, "--config", self.folder / "gateway.yml")

    def done(self, *arguments: object) -> Outcome:
        outcome = self.ran(*arguments)
        self.assertEqual(outcome.status, 0, outcome.err)
        return outcome

    def json(self, *arguments: object) -> Any:
        return json.loads(self.done(*arguments, "--json").out)

    def failed(self, *arguments: object, status: int = 1) -> str:
        outcome = self.ran(*arguments)
        self.assertEqual((outcome.status, outcome.out), (status, ""), outcome.err)
        self.assertNotIn("Traceback", outcome.err)
        return outcome.err


class Init(Case):
    def test_it_makes_all_that_a_gateway_needs(self) -> None:
        names = {path.name: path.stat().st_mode & 0o777 for path in self.folder.iterdir()}
        self.assertEqual(
            names,
            {
                "ca.crt": 0o644,
                "ca.key": 0o600,
                "gateway.db": 0o600,
                "gateway.yml": 0o640,
                "server.pem": 0o600,
            },
        )
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        config = load(self.folder / "gateway.yml")
        self.assertEqual(str(config.public_url), URL)
        self.assertTrue(config.api.plain)
        authority = Authority.load(config.ca.certificate, config.ca.key)
        self.assertEqual(load_chain(config.ca.server)[-1], authority.certificate)

    def test_the_admin_token_is_the_only_thing_on_stdout(self) -> None:
        self.assertRegex(self.outcome.out, r"\Aonprem_[A-Za-z0-9_-]{43}\n\Z")
        self.assertNotIn(self.outcome.value, self.outcome.err)
        self.assertIn("workato-gateway run --config", self.outcome.err)
        (token,) = self.json("token", "list")
        self.assertEqual((token["owner"], token["scopes"]), ("admin", ["admin"]))

    def test_it_does_not_overwrite(self) -> None:
        before = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        outcome = gateway_here("init", "--dir", self.folder, "--public-url", URL)
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("nothing was changed", outcome.err)
        self.assertEqual({path.name: path.read_bytes() for path in self.folder.iterdir()}, before)

    def test_one_file_that_is_there_is_enough_to_refuse(self) -> None:
        other = self.folder.parent / "other"
        other.mkdir()
        (other / "ca.key").write_text("precious")
        outcome = gateway_here("init", "--dir", other, "--public-url", URL)
        self.assertEqual(outcome.status, 1)
        self.assertIn("holds ca.key already", outcome.err)
        self.assertEqual([path.name for path in other.iterdir()], ["ca.key"])

    def test_a_folder_that_can_not_be_made_is_named(self) -> None:
        (self.folder.parent / "file").write_text("")
        outcome = gateway_here("init", "--dir", self.folder.parent / "file/x", "--public-url", URL)
        self.assertEqual(outcome.status, 1)
        self.assertIn("file/x: Not a directory", outcome.err)

    def test_off_loopback_the_api_speaks_tls(self) -> None:
        folder = self.folder.parent / "tls"
        outcome = gateway_here(
            "init",
            "--dir",
            folder,
            "--public-url",
            URL,
            "--listen-api",
            "[::]:9443",
            "--listen-tunnel",
            "10.0.0.1:9444",
            "--json",
        )
        document = json.loads(outcome.out)
        self.assertEqual(document["api"], "https://[::]:9443")
        self.assertEqual(document["tunnel"], "wss://gw.example:8443/tunnel")
        config = load(folder / "gateway.yml")
        self.assertFalse(config.api.plain)
        self.assertEqual(str(config.tunnel.listen), "10.0.0.1:9444")

    def test_what_a_config_file_names_is_made_where_it_wants_it(self) -> None:
        folder = self.folder.parent / "elsewhere"
        (folder / "state").mkdir(parents=True)
        file = folder / "gateway.yml"
        text = (
            "# kept\npublic_url: https://old.example\nstorage: sqlite:state/gateway.db\n"
            "ca: { certificate: state/ca.crt, key: state/ca.key, server: state/server.pem }\n"
        )
        file.write_text(text)
        file.chmod(0o640)
        outcome = gateway_here("init", "--config", file, "--public-url", URL)
        self.assertEqual(outcome.status, 0, outcome.err)
        self.assertRegex(outcome.out, r"\Aonprem_[A-Za-z0-9_-]{43}\n\Z")
        self.assertEqual(file.read_text(), text.replace("https://old.example", URL))
        self.assertEqual(file.stat().st_mode & 0o777, 0o640)
        names = {path.name: path.stat().st_mode & 0o777 for path in (folder / "state").iterdir()}
        self.assertEqual(
            names, {"ca.crt": 0o644, "ca.key": 0o600, "gateway.db": 0o600, "server.pem": 0o600}
        )
        listed = gateway_here("token", "list", "--config", file, "--json")
        self.assertEqual([each["owner"] for each in json.loads(listed.out)], ["admin"])

        again = gateway_here("init", "--config", file, "--public-url", "https://other.example")
        self.assertEqual((again.status, again.out), (1, ""))
        self.assertIn("state/ca.key", again.err)
        self.assertIn(URL, file.read_text())

    def test_a_config_file_may_hold_the_url_already(self) -> None:
        file = self.folder.parent / "mine.yml"
        file.write_text(f"public_url: {URL}\n")
        self.assertEqual(gateway_here("init", "--config", file).status, 0)
        self.assertEqual(file.read_text(), f"public_url: {URL}\n")

    def test_what_can_not_be_made_leaves_nothing(self) -> None:
        file = self.folder.parent / "mine.yml"
        file.write_text(f"public_url: {URL}\nstorage: sqlite:missing/gateway.db\n")
        outcome = gateway_here("init", "--config", file)
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("missing/gateway.db", outcome.err)
        self.assertFalse((self.folder.parent / "ca.key").exists())

    def test_wrong_use_is_2(self) -> None:
        for arguments in (
            [],
            ["--dir", "x", "--config", "y", "--public-url", URL],
            ["--config", "y", "--listen-api", "127.0.0.1:1"],
            ["--dir", "x"],
            ["--dir", "x", "--public-url", "http://gw"],
            ["--dir", "x", "--public-url", URL, "--listen-api", "nowhere"],
            ["--dir", "x", "--public-url", URL, "--unknown"],
        ):
            outcome = gateway_here("init", *arguments)
            self.assertEqual((outcome.status, outcome.out), (2, ""), arguments)


class Commands(Case):
    def test_groups(self) -> None:
        self.assertEqual(self.done("group", "create", "b", "--allow", "10.0.0.0/8").out, "b\n")
        self.done("group", "create", "a")
        self.assertEqual([group["name"] for group in self.json("group", "list")], ["a", "b"])
        table = self.done("group", "list").out.splitlines()
        self.assertEqual(table[0].split(), ["NAME", "AGENTS", "ALLOWED", "NETWORKS", "CREATED"])
        self.assertEqual(table[2].split()[:3], ["b", "0", "10.0.0.0/8"])
        self.assertEqual(self.done("group", "allow", "b").out, "from everywhere\n")
        self.assertEqual(
            self.done("group", "allow", "b", "::1", "10.1.0.0/16").out, "::1/128 10.1.0.0/16\n"
        )
        self.done("group", "delete", "a")
        self.assertIn("there is no group 'a'", self.failed("group", "delete", "a"))
        self.assertIn("there is a group 'b' already", self.failed("group", "create", "b"))
        self.assertIn(
            "allowed_networks: expected", self.failed("group", "allow", "b", "10.0.0.1/8")
        )

    def test_a_code_is_the_last_line(self) -> None:
        self.done("group", "create", "g")
        code = ActivationCode.parse(self.done("agent", "code", "g").value)
        self.assertEqual(code.authority, "gw.example:8443")
        (ca,) = load_chain(self.folder / "ca.crt")
        self.assertEqual(code.ca_sha256, sha256_of(ca))
        self.assertEqual(self.json("agent", "list"), [])
        self.assertIn("there is no group none", self.failed("agent", "code", "none"))

    def test_agents(self) -> None:
        for group in ("g", "h"):
            self.done("group", "create", group)
            self.done("agent", "code", group, "--name", "one")
        self.done("agent", "code", "g", "--name", "two")
        rows = [line.split()[:3] for line in self.done("agent", "list").out.splitlines()[1:]]
        self.assertEqual(
            rows,
            [
                ["g", "one", "awaiting_setup"],
                ["g", "two", "awaiting_setup"],
                ["h", "one", "awaiting_setup"],
            ],
        )
        self.assertEqual(len(self.json("agent", "list", "--group", "h")), 1)
        said = self.failed("agent", "disable", "one")
        self.assertIn("say which: g/one, h/one", said)
        self.assertEqual(self.json("agent", "disable", "h/one")["status"], "disabled")
        self.assertIn("g/two is disabled", self.done("agent", "disable", "two").err)
        self.assertIn("g/two is awaiting_setup", self.done("agent", "enable", "two").err)
        identity = self.json("agent", "list", "--group", "h")[0]["id"]
        self.done("agent", "revoke", identity)
        self.assertEqual(self.json("agent", "list", "--group", "h"), [])
        self.assertIn("there is no agent none", self.failed("agent", "revoke", "none"))
        self.assertIn("has no agent 'none'", self.failed("agent", "revoke", "g/none"))
        self.assertIn("has 2 agents", self.failed("group", "delete", "g"))
        self.done("group", "delete", "g", "--force")

    def test_tokens(self) -> None:
        outcome = self.done(
            "token",
            "create",
            "--owner",
            "bob",
            "--scope",
            "g:files:*:get",
            "--scope",
            "admin",
            "--expires",
            "30d",
        )
        self.assertRegex(outcome.value, r"\Aonprem_[A-Za-z0-9_-]{43}\Z")
        self.assertEqual(outcome.out.count("\n"), 1)
        self.assertNotIn(outcome.value, outcome.err)
        token = self.json("token", "list")[-1]
        self.assertEqual((token["scopes"], token["status"]), (["admin", "g:files:*:GET"], "valid"))
        self.assertNotIn(outcome.value, self.done("token", "list").out)
        self.done("token", "revoke", token["id"])
        self.assertEqual(self.json("token", "list")[-1]["status"], "revoked")
        self.assertIn("there is no token 'x'", self.failed("token", "revoke", "x"))
        self.assertIn(
            "scopes: scope 'g:files' has 2 of 4 parts",
            self.failed("token", "create", "--owner", "bob", "--scope", "g:files"),
        )

    def test_wrong_use_is_2(self) -> None:
        for arguments in (
            [],
            ["nonsense"],
            ["group"],
            ["group", "create"],
            ["token", "create", "--owner", "x"],
            ["token", "create", "--owner", "x", "--scope", "admin", "--expires", "soon"],
            ["group", "list", "--token", "x"],
            ["group", "list", "--url", "ftp://x", "--token", "x"],
            ["group", "list", "--url", "https://x:99999", "--token", "x"],
            ["group", "list", "--url", "https://x"],
        ):
            outcome = gateway_here(*arguments)
            self.assertEqual((outcome.status, outcome.out), (2, ""), arguments)

    def test_help_shows_an_example(self) -> None:
        for command in ("init", "run", "group", "agent", "token"):
            outcome = gateway_here(command, "--help")
            self.assertEqual(outcome.status, 0)
            self.assertIn(f"example:\n  workato-gateway {command}", outcome.out)

    def test_what_is_missing_or_broken_is_named(self) -> None:
        config = self.folder / "gateway.yml"
        text = config.read_text()
        (self.folder / "gateway.db").rename(self.folder / "away")
        self.assertIn("gateway.db: unable to open", self.failed("group", "list"))
        (self.folder / "away").rename(self.folder / "gateway.db")
        (self.folder / "ca.key").write_text("x")
        self.assertIn("ca.key: is no unencrypted private key", self.failed("group", "list"))
        config.write_text(text + "bogus: 1\n")
        self.assertIn("gateway.yml:15: bogus: unknown key", self.failed("group", "list"))
        config.unlink()
        self.assertIn("gateway.yml: No such file", self.failed("group", "list"))

    def test_a_store_that_another_process_holds_is_told(self) -> None:
        self.patch(sqlite, "BUSY_TIMEOUT", 0.05)
        other = sqlite3.connect(self.folder / "gateway.db", isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertIn("gateway.db: database is locked", self.failed("group", "create", "g"))

    def test_the_command_line_is_named_in_the_audit(self) -> None:
        self.done("group", "create", "g")
        row = (
            sqlite3.connect(self.folder / "gateway.db")
            .execute("SELECT actor, action FROM audit ORDER BY seq DESC")
            .fetchone()
        )
        self.assertEqual(row[1], "group.create")
        self.assertTrue(row[0].endswith("(command line)"), row)


class Folder(Case):
    def test_a_gateways_folder_can_be_moved(self) -> None:
        moved = Path(f"{self.folder}-moved")
        self.folder.rename(moved)
        self.folder = moved
        self.done("group", "create", "g")
