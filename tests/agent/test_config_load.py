"""What a valid config becomes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
from pydantic import ValidationError

from tests.support.configs import ConfigTestCase
from workato_agent.config import AgentConfig, ConfigError, Secret, load_config, load_options
from workato_agent.config.database import DatabaseProfile, PostgresqlProfile, SqliteProfile
from workato_agent.config.files import FilesProfile
from workato_agent.config.http import HttpProfile

SAMPLE = Path(__file__).parents[2] / "etc" / "workato-agent" / "config.yml"


class Files(ConfigTestCase):
    def test_the_sample_is_valid(self) -> None:
        config = load_config(SAMPLE)
        self.assertEqual(config.identity, Path("/var/lib/workato-agent"))

    def test_an_empty_file_is_a_config_of_defaults(self) -> None:
        config = self.load("")
        self.assertEqual(list(config.every_profile()), [])
        self.assertEqual(config.audit_path, Path("/var/lib/workato-agent/audit/audit.jsonl"))
        self.assertEqual(config.status_socket, Path("/var/lib/workato-agent/status.sock"))

    def test_a_missing_file_is_one_fault(self) -> None:
        error = self.assertRaises(ConfigError, load_config, self.folder / "none.yml")
        self.assertIn("none.yml: can't be read: No such file", str(error))

    def test_a_folder_is_one_fault(self) -> None:
        self.assertIn(
            "Is a directory", str(self.assertRaises(ConfigError, load_config, self.folder))
        )

    def test_a_file_past_the_limit_is_refused_before_it_is_parsed(self) -> None:
        self.file.write_bytes(b"#" * (1024 * 1024 + 1))
        self.assertIn("larger than", str(self.assertRaises(ConfigError, load_config, self.file)))

    def test_text_that_is_not_utf8_is_named_with_its_line(self) -> None:
        self.file.write_bytes(b"logging:\n  level: \xff\n")
        error = self.assertRaises(ConfigError, load_config, self.file)
        self.assertIn("config.yml:2: not UTF-8", str(error))

    def test_a_byte_order_mark_and_windows_line_ends_are_fine(self) -> None:
        self.file.write_bytes(b"\xef\xbb\xbflogging:\r\n  level: warn\r\n")
        self.assertEqual(load_config(self.file).logging.level, "warn")

    def test_some_sections_can_be_read_without_the_secrets_of_others(self) -> None:
        self.file.write_text(
            "gateway: {identity: id}\ndatabase: {x: {password: {env: NO}}}\njms: {}"
        )
        config = load_options(self.file, ("gateway",))
        self.assertEqual(config.identity, self.folder.absolute() / "id")
        self.assertEqual(config.profiles, {})


class Values(ConfigTestCase):
    def test_relative_paths_start_from_the_files_folder(self) -> None:
        config = self.load("gateway: {identity: ../id}\nfiles: {hr: {base: data/hr}}")
        here = self.folder.absolute()
        self.assertEqual(config.identity, here.parent / "id")
        self.assertEqual(config.of(FilesProfile)["hr"].base, here / "data" / "hr")

    def test_text_stays_what_was_written_whatever_yaml_would_make_of_it(self) -> None:
        config = self.load(
            """
            database:
              a: {adapter: postgresql, database: 2024_01, username: no, password: 012345}
            """
        )
        profile = config.of(PostgresqlProfile)["a"]
        self.assertEqual((profile.database, profile.username), ("2024_01", "no"))
        assert profile.password is not None
        self.assertEqual(profile.password.reveal(), "012345")

    def test_numbers_and_booleans_are_read_where_they_are_expected(self) -> None:
        config = self.load(
            """
            database:
              a: {adapter: sqlite, database: x.db, debug: yes, timeout: 2m, pool: {max: "7"}}
            files:
              b: {base: ., policy: {max_bytes: 2MiB}}
            """
        )
        database = config.of(SqliteProfile)["a"]
        self.assertEqual((database.debug, database.timeout, database.pool.max), (True, 120.0, 7))
        self.assertEqual(config.of(FilesProfile)["b"].policy.max_bytes, 2 * 1024 * 1024)

    def test_anchors_and_merge_keys_share_values(self) -> None:
        config = self.load(
            """
            database:
              a: &login {adapter: postgresql, database: a, username: u, password: p}
              b: {<<: *login, database: b}
            """
        )
        b = config.of(PostgresqlProfile)["b"]
        self.assertEqual((b.database, b.username), ("b", "u"))

    def test_loggers_are_the_further_keys_of_logging(self) -> None:
        config = self.load("logging: {level: WARNING, format: json, workato_agent.tunnel: debug}")
        self.assertEqual(config.logging.level, "warn")
        self.assertEqual(config.logging.loggers, {"workato_agent.tunnel": "debug"})

    def test_a_gateway_url_gets_the_tunnels_path(self) -> None:
        for given in ("wss://gw.example:8443", "wss://gw.example:8443/"):
            url = self.load(f"gateway: {{url: '{given}'}}").gateway.url
            self.assertEqual(url, "wss://gw.example:8443/tunnel")

    def test_metrics_listen_is_a_host_and_port(self) -> None:
        self.assertEqual(self.load("metrics: {listen: '[::1]:9464'}").metrics.listen, ("::1", 9464))

    def test_a_config_can_not_be_changed(self) -> None:
        config = self.load("files: {a: {base: .}}")
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            config.config_hash = "x"  # type: ignore[misc]
        with self.assertRaises(ValidationError):
            config.of(FilesProfile)["a"].base = Path("/")


class Http(ConfigTestCase):
    def test_the_sections_options_are_its_profiles_defaults(self) -> None:
        profiles = self.load(
            """
            http:
              trustAll: true
              a: {base_url: https://a/}
              b: {base_url: https://b/x/, trustAll: false}
            """
        ).of(HttpProfile)
        self.assertEqual(profiles["a"].trust_all, True)
        self.assertEqual(profiles["b"].trust_all, False)
        self.assertEqual(profiles["b"].base_url, "https://b/x")

    def test_methods_and_paths_are_policy_wherever_they_stand(self) -> None:
        for text in (
            "a: {base_url: http://a, methods: [get], paths: [/x/**]}",
            "a: {base_url: http://a, policy: {methods: [get], paths: [/x/**]}}",
        ):
            policy = self.load("http: {" + text + "}").of(HttpProfile)["a"].policy
            self.assertEqual(policy.methods, frozenset({"GET"}))
            assert policy.paths is not None
            self.assertEqual([pattern.text for pattern in policy.paths], ["/x/**"])

    def test_buffering_of_the_documented_format_is_accepted_and_remarked(self) -> None:
        config = self.load("agent: {disable_response_buffering: true}")
        self.assertIn("never buffered", config.remarks[0])

    def test_verification_that_is_off_is_remarked(self) -> None:
        config = self.load("http: {verifyHost: false, a: {base_url: https://a}}")
        self.assertEqual(len(config.remarks), 1)
        self.assertIn("http.a: verifyHost is off", config.remarks[0])


class Jdbc(ConfigTestCase):
    def profile(self, text: str) -> DatabaseProfile:
        return self.load(f"database: {{a: {{{text}}}}}").of(DatabaseProfile)["a"]

    def test_a_postgresql_url_becomes_a_native_profile(self) -> None:
        profile = self.profile(
            'url: "jdbc:postgresql://db.intra:5433/s%20x?user=u&password=p&sslmode=require",'
            " driverClass: org.postgresql.Driver"
        )
        assert isinstance(profile, PostgresqlProfile)
        self.assertEqual(
            (profile.host, profile.port, profile.database, profile.username, profile.sslmode),
            ("db.intra", 5433, "s x", "u", "require"),
        )
        self.assertEqual(profile.password, Secret("p"))

    def test_the_profiles_own_login_wins_over_the_urls(self) -> None:
        profile = self.profile(
            'url: "jdbc:postgresql://h/d?user=u&password=p", user: v, password: q'
        )
        assert isinstance(profile, PostgresqlProfile)
        self.assertEqual((profile.username, profile.password), ("v", Secret("q")))

    def test_a_url_without_a_host_is_the_local_server(self) -> None:
        for url in ("jdbc:postgresql:d", "jdbc:postgresql:/d"):
            profile = self.profile(f'url: "{url}", user: u')
            assert isinstance(profile, PostgresqlProfile)
            self.assertEqual(
                (profile.host, profile.port, profile.database), ("localhost", 5432, "d")
            )

    def test_ssl_true_verifies(self) -> None:
        profile = self.profile('url: "jdbc:postgresql://h/d?ssl=true", user: u')
        assert isinstance(profile, PostgresqlProfile)
        self.assertEqual(profile.sslmode, "verify-full")

    def test_a_sqlite_url_is_a_file(self) -> None:
        profile = self.profile('url: "jdbc:sqlite:x.db"')
        assert isinstance(profile, SqliteProfile)
        self.assertEqual(profile.database, self.folder.absolute() / "x.db")

    def test_an_address_of_ipv6_is_taken_apart(self) -> None:
        profile = self.profile('url: "jdbc:postgresql://[::1]:5432/d", user: u')
        assert isinstance(profile, PostgresqlProfile)
        self.assertEqual(profile.host, "::1")


class PostgresqlTls(ConfigTestCase):
    def mode(self, keys: str) -> str:
        text = f"database: {{a: {{adapter: postgresql, database: d, user: u{keys}}}}}"
        return self.load(text).of(PostgresqlProfile)["a"].sslmode

    def test_without_an_authority_it_is_prefer(self) -> None:
        self.assertEqual(self.mode(""), "prefer")

    def test_with_an_authority_the_server_is_verified(self) -> None:
        (self.folder / "ca.pem").write_text("x")
        self.assertEqual(self.mode(", sslrootcert: ca.pem"), "verify-full")
        self.assertEqual(self.mode(", ssl_ca: ca.pem"), "verify-full")
        self.assertEqual(self.mode(", ssl_ca: ca.pem, sslmode: verify-ca"), "verify-ca")
        self.assertEqual(self.mode(", ssl_ca: system"), "verify-full")


class Hash(ConfigTestCase):
    TEXT = """
        database:
          a: {adapter: postgresql, host: {env: HOST}, database: d, user: u, password: one}
        """

    def hash(self, text: str, host: str = "h") -> str:
        return self.load(text, {"HOST": host}).config_hash

    def test_layout_comments_and_spelt_out_defaults_do_not_change_it(self) -> None:
        other = self.TEXT.replace("{adapter:", "{port: 5432, adapter:") + "# comment\n"
        self.assertEqual(self.hash(self.TEXT), self.hash(other))

    def test_content_changes_it(self) -> None:
        self.assertNotEqual(self.hash(self.TEXT), self.hash(self.TEXT.replace("d,", "e,")))

    def test_no_secret_has_a_part_in_it(self) -> None:
        self.assertEqual(self.hash(self.TEXT), self.hash(self.TEXT.replace("one", "two")))
        self.assertEqual(self.hash(self.TEXT), self.hash(self.TEXT, host="elsewhere"))

    def test_it_is_the_same_in_every_process(self) -> None:
        self.file.write_text("http: {a: {base_url: http://a, methods: [GET, PUT, HEAD, POST]}}")
        program = "import sys; from workato_agent.config import *; from pathlib import Path"
        program += "; print(load_config(Path(sys.argv[1])).config_hash)"
        hashes = {
            subprocess.check_output(
                [sys.executable, "-c", program, self.file.absolute()],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(SAMPLE.parents[2])},
            )
            for seed in ("1", "2")
        }
        self.assertEqual(len(hashes), 1)


class InMemory(ConfigTestCase):
    def test_a_config_can_be_made_without_a_file(self) -> None:
        config = AgentConfig(profiles={"files": {"a": FilesProfile(base=self.folder)}})
        self.assertEqual([name for _, name, _ in config.every_profile()], ["a"])
