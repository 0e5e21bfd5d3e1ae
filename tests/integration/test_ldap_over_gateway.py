"""A directory as callers reach it: through a gateway and an agent; and ``workato-agent check``."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from tests.support.commands import run_apart
from tests.support.cutting_relay import wait_until
from tests.support.folders import folder_for
from tests.support.ports import free_port
from tests.support.slapd import PEOPLE, ROOT, ROOT_PASSWORD, SUFFIX, Slapd, shared_slapd

NDJSON = "application/x-ndjson"


def profile(server: Slapd, **keys: Any) -> dict[str, Any]:
    return {
        "url": server.tls_url,
        "username": ROOT,
        "password": ROOT_PASSWORD,
        "base": SUFFIX,
        "ssl": {"cert": str(server.ca)},
        **keys,
    }


class GatewayTests(SynchronousTestCase):
    def test_calls_policy_audit_and_a_directory_that_hangs(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="ldap-"))
        self.addCleanup(shutil.rmtree, folder)
        self.hanging = Slapd.start()
        self.addCleanup(self.hanging.destroy)
        server = shared_slapd()
        rules = {"operations": ["search"], "read_attributes": ["uid"]}
        profiles = {
            "people": profile(server),
            "limited": profile(server, policy=rules),
            "hanging": profile(self.hanging, timeout=30),
        }
        self.deployment = Deployment(folder, "g", f"ldap: {json.dumps(profiles)}\n")
        self.addCleanup(self.deployment.stop)
        self.deployment.start()
        self.token = self.deployment.token("tester", "g:ldap:*:*")
        self.calls()
        self.the_audit_tells(folder)
        self.a_directory_that_hangs_holds_up_nobody()

    def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=60)
        fields = {"Authorization": f"Bearer {self.token}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        method = "GET" if body is None else "POST"
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, f"/v1/groups/g/ldap/{path}", data, fields)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def calls(self) -> None:
        status, content = self.post("people")
        self.assertEqual((status, json.loads(content)["ok"]), (200, True))
        search = {"base": "ou=people", "scope": "one", "page_size": 100}
        status, content = self.post("people/search", search, Accept=NDJSON)
        uids = {json.loads(line)["attributes"]["uid"][0] for line in content.splitlines()}
        self.assertEqual((status, len(uids)), (200, PEOPLE))
        hostile = {"filter": "(uid=:uid)", "params": {"uid": "*)(uid=*"}}
        status, content = self.post("people/search", hostile)
        self.assertEqual((status, json.loads(content)["entries"]), (200, []))
        status, content = self.post("people/search", {"base": "ou=nowhere"})
        problem = json.loads(content)
        self.assertEqual((status, problem["code"]), (404, "not_found"))
        self.assertEqual((problem["result_code"], problem["result_name"]), (32, "noSuchObject"))
        for path, body in (
            ("limited/delete", {"dn": "uid=u1,ou=people"}),
            ("limited/search", {"filter": "(userPassword=*)"}),
        ):
            status, content = self.post(path, body)
            self.assertEqual((status, json.loads(content)["code"]), (403, "policy_denied"))

    def the_audit_tells(self, folder: Path) -> None:
        def lines() -> list[dict[str, Any]]:
            (path,) = folder.rglob("audit.jsonl")
            found = [json.loads(line) for line in path.read_text().splitlines()]
            return [line for line in found if line.get("service") == "ldap"]

        wait_until(lambda: len(lines()) == 6)
        told = [
            (line["operation"], line["verdict"], line["code"], line["rows"]) for line in lines()
        ]
        self.assertEqual(
            told,
            [
                ("test", "allowed", "ok", None),
                ("search", "allowed", "ok", PEOPLE),
                ("search", "allowed", "ok", 0),
                ("search", "allowed", "not_found", 0),
                ("delete", "denied", "policy_denied", None),
                ("search", "denied", "policy_denied", None),
            ],
        )

    def a_directory_that_hangs_holds_up_nobody(self) -> None:
        search = {"scope": "base"}
        self.assertEqual(self.post("hanging/search", search)[0], 200)
        self.hanging.freeze()
        # On the connection that is there, and on a new one, which has no time to fail by itself.
        for _ in range(2):
            status, content = self.post("hanging/search", search, X_Timeout="0.5")
            self.assertIn(
                (status, json.loads(content)["code"]),
                ((504, "deadline_exceeded"), (502, "target_tls_failed")),
            )
            self.assertEqual(self.post("people/search", search)[0], 200)
        self.hanging.thaw()
        self.assertEqual(self.post("hanging/search", search)[0], 200)


class CheckTests(SynchronousTestCase):
    def test_each_profile_has_a_line_with_what_to_do(self) -> None:
        server = shared_slapd()
        folder = folder_for(self)
        closed = free_port()
        profiles = {
            "good": profile(server),
            "plain": profile(server, url=server.url, ssl={}),
            "next": profile(server, url=f"ldaps://127.0.0.1:{closed},{server.tls_url}"),
            "password": profile(server, password="wrong-secret"),
            "refused": profile(server, url=f"ldap://127.0.0.1:{closed}"),
            "base": profile(server, base="dc=nowhere"),
            "trust": profile(server, ssl={}),
        }
        file = folder / "config.yml"
        file.write_text(json.dumps({"ldap": profiles}))
        file.chmod(0o600)
        outcome = run_apart("check", "--config", file, *profiles)
        self.assertEqual(outcome.status, 1, outcome.err)
        self.assertNotIn("wrong-secret", outcome.out + outcome.err)
        lines = {line.split()[1]: line for line in outcome.out.splitlines()}
        for name, words in (
            ("good", "ok .*OpenLDAP at 127.0.0.1"),
            ("plain", "ok .*OpenLDAP"),
            ("next", "ok .*OpenLDAP"),
            ("password", r"FAILED .*target_login_failed: .*invalidCredentials \(49\).*username"),
            ("refused", "FAILED .*target_unreachable: .*refused.*url"),
            ("base", r"FAILED .*not_found: .*noSuchObject \(32\)"),
            ("trust", "FAILED .*target_tls_failed: .*trusted"),
        ):
            self.assertRegex(lines[f"ldap/{name}"], f"^{words}")
