"""Every error that a caller can meet, provoked for real: true, helpful, and without a secret."""

from __future__ import annotations

import time
from typing import Any

from tests.support.cutting_relay import wait_until
from tests.support.error_table import ErrorTableCase
from tests.support.landscape import EMPTY_GROUP, GROUP, MAX_BYTES
from workato_tunnel.problems import CONTENT_TYPE

SELECT = {"sql": "select 1"}


class Callers(ErrorTableCase):
    def test_who_calls_is_not_known(self) -> None:
        expired = self.land.new_token("*:*:*:*", seconds=0.01)["token"]
        time.sleep(0.02)
        revoked = self.land.new_token("*:*:*:*")
        self.land.administer("DELETE", f"/v1/tokens/{revoked['id']}")
        unknown = "onprem_" + "a" * 43
        for field, word in (
            ({"token": ""}, "no Authorization"),
            ({"Authorization": "Basic dXNlcjpwdw=="}, "another scheme"),
            ({"Authorization": "Bearer"}, "malformed"),
            ({"token": "onprem_short"}, "malformed"),
            ({"token": unknown}, "unknown"),
            ({"token": expired}, "expired"),
            ({"token": revoked["token"]}, "revoked"),
        ):
            for path in ("database/pg", "/v1/groups"):
                answer = self.land.call("GET", path, **field)
                problem = self.assert_problem("unauthenticated", answer, word)
                self.assertIn("Bearer", answer.headers["www-authenticate"])
                self.assertNotIn(unknown, str(problem))

    def test_a_token_that_covers_something_else(self) -> None:
        other = self.land.new_token(f"{GROUP}:files:*:GET")["token"]
        self.fails("forbidden", "GET", "database/pg", None, "plant:database:pg:GET", token=other)
        self.fails("forbidden", "PUT", "files/share/content/x", b"", ":PUT", token=other)
        self.fails("forbidden", "GET", "/v1/groups", None, "admin")
        admin = self.land.deployment.admin_token
        self.fails("forbidden", "GET", "database/pg", None, "no scope", token=admin)

    def test_names_that_do_not_exist(self) -> None:
        self.fails("group_not_found", "GET", "/v1/groups/nowhere/database/pg", None, "'nowhere'")
        problem = self.fails("service_not_found", "GET", "jms/queue", None, "'jms'")
        self.assertIn("database, files, http", problem["hint"])
        self.fails("profile_not_found", "GET", "database/sales", None, "'sales'", "'database'")
        self.fails("operation_not_found", "POST", "database/pg/nothing", None, "nothing")
        self.fails("operation_not_found", "GET", "database/pg/query", None, "POST")
        self.fails("operation_not_found", "PATCH", "files/share/content/x", b"", "PATCH")
        self.fails("operation_not_found", "TRACE", "http/app/x", None, "TRACE")
        self.fails("not_found", "GET", "/v2", None, "/v2")

    def test_times_that_are_none(self) -> None:
        for text in ("0", "-1", "soon", "1e3", "nan", "86401", ""):
            problem = self.fails("bad_request", "GET", "database/lite", X_Timeout=text)
            self.assertEqual(problem["field"], "X-Timeout")
            problem = self.fails("bad_request", "GET", f"database/lite?timeout={text}")
            self.assertEqual(problem["field"], "timeout")
        self.fails("bad_request", "GET", "database/lite?timeout=1&timeout=2", None, "twice")

    def test_bodies_and_parameters_that_are_wrong_name_the_field(self) -> None:
        for body, field in (
            ({"sql": 5}, "sql"),
            ({"sql": " "}, "sql"),
            ({"sqll": "select 1"}, "sqll"),
            ({}, "sql"),
            ({"sql": "select ?", "params": [1, 2]}, "params"),
            ({"sql": "select :a", "params": {"b": 1}}, "params.a"),
            ({"sql": "select ?", "params": [{"type": "date", "value": "x"}]}, "params[0].value"),
            ({"sql": "select 1", "max_rows": -1}, "max_rows"),
        ):
            problem = self.fails("bad_request", "POST", "database/pg/query", body)
            self.assertEqual(problem["field"], field, problem)
        for text in ("", "{", "[]", "\x00"):
            self.fails("bad_request", "POST", "database/pg/query", text)
        problem = self.fails("bad_request", "POST", "database/pg/query", SELECT, Accept="image/png")
        self.assertEqual(problem["field"], "Accept")
        problem = self.fails("bad_request", "GET", "files/share/list/?limt=3", None, "limt")
        self.assertEqual(problem["field"], "limt")
        self.fails("bad_request", "GET", "files/share/content/../hello.txt", None, "..")
        self.fails("bad_request", "GET", "http/app/%2e%2e/x", None, "..")

    def test_bodies_that_are_too_large(self) -> None:
        self.fails("payload_too_large", "PUT", "files/share/content/x", b"x" * 1001, str(MAX_BYTES))
        statement = {"sql": f"select '{'x' * 1024 * 1024}'"}
        self.fails("payload_too_large", "POST", "database/pg/query", statement, "1048576")
        admin = self.land.deployment.admin_token
        self.fails("payload_too_large", "POST", "/v1/groups", b" " * 1_100_000, token=admin)

    def test_an_error_to_head_has_the_same_head_and_no_body(self) -> None:
        for path in ("database/pg-password", "files/share/content/none", "jms/queue", "http/rules"):
            head, get = self.land.call("HEAD", path), self.land.call("GET", path)
            if path == "http/rules":
                get = self.land.call("POST", path, b"")  # its HEAD is a request to the application
            self.assertEqual((head.status, head.body), (get.status, b""))
            self.assertEqual(head.headers["content-type"], CONTENT_TYPE)
            self.assertIn("x-request-id", head.headers)


class Agents(ErrorTableCase):
    def test_no_agent_is_there(self) -> None:
        path = f"/v1/groups/{EMPTY_GROUP}/database/pg"
        problem = self.fails("agent_inactive", "GET", path, None, "no agent", EMPTY_GROUP)
        self.assertIn("workato-agent status", problem["hint"])
        self.fails("agent_inactive", "GET", "database/pg", None, "'nobody'", X_Agent="nobody")

    def test_agents_that_may_not_be_connected_any_more_are_cut(self) -> None:
        land = self.land
        second = land.second_agent("leaving")
        self.addCleanup(second.stop)
        path = "/v1/groups/leaving/files/share/list/"
        token = land.new_token("leaving:*:*:*")["token"]
        agent = land.administer("GET", "/v1/groups/leaving/agents")["agents"][0]["name"]
        resource = f"/v1/groups/leaving/agents/{agent}"

        def is_served() -> bool:
            return land.call("GET", path, token=token).status == 200

        def check(word: str) -> None:
            """It is cut at once; its ``status`` and its log say why."""
            self.fails("agent_inactive", "GET", path, None, "leaving", token=token)
            wait_until(lambda: "refused" in second.status())
            self.assertIn(word, second.status())
            self.assertIn(word, second.log())

        self.assertTrue(is_served())
        land.operate("agent", "disable", f"leaving/{agent}")
        wait_until(lambda: not is_served(), 2.0)
        check("disabled")
        land.administer("PATCH", resource, {"enabled": True})
        second.restart()
        self.assertTrue(is_served())
        land.administer("PATCH", "/v1/groups/leaving", {"allowed_networks": ["10.9.0.0/16"]})
        check("not in the allowed networks")
        land.administer("PATCH", "/v1/groups/leaving", {"allowed_networks": []})
        second.restart()
        self.assertTrue(is_served())
        land.administer("DELETE", resource)
        check("revoked")


class Targets(ErrorTableCase):
    def everywhere(self, code: str, profile: str, *words: str) -> list[dict[str, Any]]:
        """The profile's test, a query and one in CSV all fail alike."""
        path = f"database/{profile}"
        return [
            self.fails(code, "GET", path, None, *words),
            self.fails(code, "POST", f"{path}/query", SELECT, *words),
            self.fails(code, "POST", f"{path}/query", SELECT, *words, Accept="text/csv"),
            self.fails(code, "POST", f"{path}/execute", SELECT, *words),
        ]

    def over_http(self, code: str, profile: str, *words: str) -> dict[str, Any]:
        """The profile's test and a call fail alike."""
        self.fails(code, "GET", f"http/{profile}", None, *words)
        return self.fails(code, "POST", f"http/{profile}/x", b"y", *words)

    def test_unreachable(self) -> None:
        land = self.land
        refused, hole, silent = land.closed_port, land.hole.port, land.silent.port
        self.everywhere("target_unreachable", "pg-dns", "db.nowhere.invalid", "resolved")
        self.everywhere("target_unreachable", "pg-refused", f"127.0.0.1:{refused}", "refused")
        self.fails(
            "target_unreachable", "GET", "database/pg-hole", None, f"127.0.0.1:{hole}", "1 s"
        )
        self.fails("target_unreachable", "GET", "database/pg-silent", None, f"127.0.0.1:{silent}")
        for profile, reason, host in (
            ("dns", "dns", "crm.nowhere.invalid"),
            ("refused", "refused", f"127.0.0.1:{refused}"),
            ("hole", "timeout", f"127.0.0.1:{hole}"),
        ):
            problem = self.over_http("target_unreachable", profile, host)
            self.assertEqual(problem["reason"], reason)

    def test_tls(self) -> None:
        port = self.land.postgresql.port
        for problem in self.everywhere("target_tls_failed", "pg-ca", f"127.0.0.1:{port}", "verify"):
            self.assertIn("sslrootcert", problem["hint"])
        for profile, reason, word in (
            ("self-signed", "self_signed", "CN=localhost"),
            ("misnamed", "name", "crm.elsewhere"),
            ("no-tls", "no_tls", "TLS"),
        ):
            problem = self.over_http("target_tls_failed", profile, word, "127.0.0.1:")
            self.assertEqual(problem["reason"], reason)

    def test_a_certificate_of_another_name(self) -> None:
        self.addCleanup(self.land.certify_postgresql, self.land.folder / "postgresql.pem")
        self.land.certify_postgresql(self.land.folder / "elsewhere.pem")
        words = ("db.elsewhere", "127.0.0.1")
        wait_until(
            lambda: all(word in str(self.land.call("GET", "database/pg-name")) for word in words)
        )
        self.everywhere("target_tls_failed", "pg-name", *words)

    def test_login(self) -> None:
        self.everywhere("target_login_failed", "pg-password", "password authentication failed")
        self.everywhere("target_login_failed", "pg-user", '"stranger"')
        for problem in self.everywhere("target_login_failed", "pg-plain", "no pg_hba.conf entry"):
            self.assertIn("sslmode", problem["hint"])
        for profile in ("password", "bearer"):
            self.fails("target_login_failed", "GET", f"http/{profile}", None, "401")
            answer = self.land.call("GET", f"http/{profile}/x")
            self.assertEqual(answer.headers["x-onprem-target-status"], "1")
            self.assertEqual(answer.status, 401)
        self.assertEqual(self.land.call("GET", "http/private").status, 200)

    def test_permission(self) -> None:
        problem = self.fails(
            "target_permission_denied",
            "POST",
            "database/pg-reader/query",
            {"sql": "select * from secrets"},
            "permission denied for table secrets",
        )
        self.assertEqual(problem["sqlstate"], "42501")
        self.everywhere("target_permission_denied", "pg-closed", '"closed"')

    def test_not_found(self) -> None:
        self.everywhere("target_not_found", "pg-database", 'database "nowhere" does not exist')
        self.everywhere("target_not_found", "lite-missing", "missing.db")

    def test_another_protocol(self) -> None:
        land = self.land
        mariadb, ssh = f"127.0.0.1:{land.mariadb.port}", f"127.0.0.1:{land.ssh.port}"
        self.everywhere("target_wrong_type", "pg-mariadb", mariadb, "MariaDB")
        self.fails("target_wrong_type", "GET", "database/pg-ssh", None, ssh, "SSH")
        self.fails("target_wrong_type", "GET", "database/pg-http", None, "HTTP server")
        self.fails("target_wrong_type", "GET", "database/lite-garbage", None, "garbage.db")
        for profile, name in (
            ("postgresql", "PostgreSQL"),
            ("postgresql-tls", "PostgreSQL"),
            ("mariadb", "MariaDB"),
            ("ssh", "SSH"),
        ):
            self.over_http("target_wrong_type", profile, name, "127.0.0.1:")
