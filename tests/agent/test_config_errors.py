"""What an invalid config is told: everything at once, with path, line and hint, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from tests.support.configs import ConfigTestCase
from workato_agent.config import ConfigError, parse_config
from workato_agent.config.sections import OPTIONS, PROFILES


class Places(ConfigTestCase):
    def test_every_fault_is_told_with_its_line(self) -> None:
        error = self.faults(
            """\
            gatewy: {}
            database:
              sales:
                adapter: postgresql
                port: abc
                passwrd: x
            files:
              hr:
                base: /nonexistent
            """
        )
        self.assertEqual(
            [(problem.path, problem.line) for problem in error.problems],
            [
                ("gatewy", 1),
                ("database.sales.database", 3),
                ("database.sales.username", 3),
                ("database.sales.port", 5),
                ("database.sales.passwrd", 6),
                ("files.hr.base", 9),
            ],
        )
        lines = str(error).splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn("config.yml:1: gatewy: unknown section (did you mean 'gateway'?)", lines[0])
        self.assertIn(":5: database.sales.port: expected a whole number, found 'abc'", lines[3])
        self.assertIn("did you mean 'password'?", lines[4])
        self.assertIn("No such file or directory (create it", lines[5])

    def test_a_fault_in_a_list_names_its_entry_and_line(self) -> None:
        error = self.faults(
            """\
            files:
              a:
                base: .
                policy:
                  windows:
                    - Mon-Fri 08:00-18:00
                    - Mon-Fri 25:00-26:00
            """
        )
        self.assertEqual(error.problems[0].path, "files.a.policy.windows[1]")
        self.assertEqual(error.problems[0].line, 7)

    def test_https_rules_are_named_where_they_stand(self) -> None:
        path, text = self.only_fault(
            "http:\n  a:\n    base_url: http://a\n    methods:\n      - 'G T'"
        )
        self.assertEqual(path, "http.a.methods[0]")
        self.assertIn("config.yml:5", text)

    def test_a_key_given_twice_names_both_lines(self) -> None:
        path, text = self.only_fault("files:\n  a: {base: .}\n  a: {base: .}")
        self.assertEqual(path, "files.a")
        self.assertIn(":3: files.a: given twice, first on line 2", text)

    def test_a_section_given_twice_is_a_fault(self) -> None:
        self.assertEqual(self.only_fault("files: {}\nfiles: {}")[0], "files")


class Sections(ConfigTestCase):
    def test_sections_without_a_service_are_refused_by_name_all_at_once(self) -> None:
        error = self.faults("sap: {}\nsaprfc: {}")
        self.assertEqual(
            [problem.message for problem in error.problems],
            [f"section '{name}' is not served by this version" for name in ("sap", "saprfc")],
        )

    def test_rules_that_nobody_would_enforce_are_refused(self) -> None:
        text = "http: {a: {base_url: http://a, policy: {max_bytes: 1}}}"
        self.assertIn("is not in this version", self.only_fault(text)[1])

    def test_what_is_not_a_mapping_is_said_to_be_expected_as_one(self) -> None:
        for text in ("- a", "just text", "files: text", "files: {a: text}", "gateway: [1]"):
            self.assertIn("expected a mapping", self.only_fault(text)[1])

    def test_profile_names_are_checked(self) -> None:
        for name in ("'a b'", "a.b", "ä", f"'{'x' * 129}'"):
            self.assertIn("profile's name", self.only_fault(f"files: {{{name}: {{base: .}}}}")[1])


class Values(ConfigTestCase):
    def test_each_wrong_value_says_what_was_expected(self) -> None:
        postgresql = "adapter: postgresql, database: d, user: u"
        for text, expected in (
            ("gateway: {url: ws://x}", "never plain text"),
            ("gateway: {url: https://x}", "expected a URL with wss://"),
            ("gateway: {ca: none.pem}", "no such file"),
            ("metrics: {listen: 0.0.0.0:9464}", "expected a loopback address"),
            ("metrics: {listen: 9464}", "expected ADDRESS:PORT"),
            ("proxy: {host: x, port: 99999}", "expected at most 65535"),
            ("proxy: {host: x, port: 1, password: y}", "without a username"),
            ("logging: {level: loud}", "expected 'debug', 'info', 'warn', 'error' or 'critical'"),
            ("logging: {some.logger: loud}", "expected 'debug'"),
            ("audit: {max_size: many}", "expected a size"),
            ("audit: {keep: 0}", "expected at least 1"),
            (f"status: {{socket: /{'x' * 120}}}", "at most 107 bytes"),
            ("database: {a: {adapter: sqlite}}", "missing"),
            ("database: {a: {adapter: sqlight, database: x}}", "did you mean 'sqlite'?"),
            ("database: {a: {database: x}}", "expected an adapter or a jdbc: url"),
            ("database: {a: {adapter: sqlite, database: [x]}}", "path of a SQLite file"),
            (
                f"database: {{a: {{{postgresql}, pool: {{min: 5, max: 2}}}}}}",
                "min (5) is above max",
            ),
            (f"database: {{a: {{{postgresql}, timeout: soon}}}}", "expected a time in seconds"),
            (f"database: {{a: {{{postgresql}, sslmode: on}}}}", "expected 'disable', 'allow'"),
            (f"database: {{a: {{{postgresql}, ssl_ca: no.pem}}}}", "no such file"),
            (f"database: {{a: {{{postgresql}, ssl_ca: system, sslmode: require}}}}", "verify-full"),
            (f"database: {{a: {{{postgresql}, policy: {{operations: [qury]}}}}}}", "'query'"),
            (f"database: {{a: {{{postgresql}, policy: {{operations: []}}}}}}", "at least 1 entry"),
            (f"database: {{a: {{{postgresql}, host: }}}}", "expected text, found nothing"),
            (f"database: {{a: {{{postgresql}, debug: maybe}}}}", "expected true or false"),
            ('database: {a: {url: "jdbc:postgresql://a,b/d", user: u}}', "single host"),
            ('database: {a: {url: "jdbc:postgresql://h/d?x=y", user: u}}', "property 'x'"),
            ('database: {a: {url: "jdbc:postgresql://h/d", host: h, user: u}}', "given by the url"),
            ('database: {a: {url: "postgresql://h/d", user: u}}', "expected a jdbc: URL"),
            ('database: {a: {url: "jdbc:sqlite:", adapter: sqlite}}', "expected jdbc:sqlite: and"),
            ("files: {a: {base: }}", "expected a path"),
            (f"files: {{a: {{base: {__file__}}}}}", "expected a folder"),
            ("http: {a: {base_url: ftp://a}}", "http:// or https://"),
            ("http: {a: {base_url: 'http://a?x'}}", "without query"),
            ("http: {a: {base_url: http://a, auth: {}}}", "expected one of basic, bearer"),
            ("http: {a: {base_url: http://a, paths: [x]}}", "begins with /"),
            ("http: {a: {base_url: http://a, paths: [/a], policy: {paths: [/b]}}}", "as well"),
            ("http: {trustal: true}", "did you mean 'trustAll'?"),
        ):
            with self.subTest(text):
                self.assertIn(expected, self.only_fault(text)[1])

    def test_a_secret_never_shows_in_a_fault(self) -> None:
        secret = "hunter2secret"
        for text in (
            f"database: {{a: {{adapter: sqlite, database: x, passwrd: {secret}}}}}",
            f"database: {{a: {{adapter: postgresql, password: [{secret}]}}}}",
            f"database: {{a: {{adapter: postgresql, password: {{x: {secret}}}}}}}",
            f'database: {{a: {{url: "jdbc:postgresql://u:{secret}@h/d"}}}}',
            f'database: {{a: {{url: "jdbc:postgresql://h:{secret}/d"}}}}',
            f'database: {{a: {{url: "jdbc:postgresql://h/d?passwrd={secret}"}}}}',
            f"http: {{a: {{base_url: 'http://u:{secret}@a'}}}}",
            f"http: {{a: {{base_url: http://a, auth: {{bearer: [{secret}]}}}}}}",
            f"http: {{a: {{base_url: http://a, auth: {{basic: {secret}}}}}}}",
            f"proxy: {{host: x, port: x, password: {{encrypted: {secret}}}}}",
            f"proxy: {{host: x, port: 1, username: u, password: *{secret}}}",
            f"proxy: {{host: x, port: 1, username: u, password: !{secret} x}}",
            f"proxy: {{host: x, port: 1, username: u, password: @{secret}}}",
            f"proxy: {{host: x, port: 1, username: u, password: '{secret}}}",
            f'proxy: {{host: x, port: 1, username: u, password: "\\{secret}"}}',
            "database: {a: {adapter: {env: P}}}",
            "database: {a: {adapter: postgresql, port: {env: P}}}",
            "database: {a: {adapter: sqlite, database: x, debug: {env: P}}}",
            "gateway: {url: {env: P}}",
            "logging: {level: {env: P}}",
            "audit: {max_size: {env: P}}",
            "files: {a: {base: {env: P}, policy: {operations: [{env: P}]}}}",
            "http: {a: {base_url: {env: P}, methods: [{env: P}]}}",
        ):
            with self.subTest(text):
                self.assertNotIn(secret, str(self.faults(text, {"P": secret})))


class Yaml(ConfigTestCase):
    def test_broken_yaml_names_its_line(self) -> None:
        text = self.only_fault("files:\n  a: {base: .\n  b: x")[1]
        self.assertIn("config.yml:3: not valid YAML", text)

    def test_tabs_tags_and_second_documents_are_faults(self) -> None:
        for text in ("files:\n\ta: b", "files: !x {}", "files: {}\n---\nhttp: {}", "files: *none"):
            self.assertEqual(len(self.faults(text).problems), 1)

    def test_nesting_ends_in_a_fault(self) -> None:
        for text in ("a: " * 1, "[" * 100_000, "{a: " * 50_000, "- " * 20_000 + "x"):
            self.assertTrue(self.faults(text).problems)

    def test_an_alias_bomb_ends_in_a_fault(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
        self.assertIn("aliases expand to more", str(self.faults("\n".join(lines))))

    def test_a_merge_bomb_ends_in_a_fault(self) -> None:
        lines = ["a0: &a0 {x: y}"]
        lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 40)]
        self.assertIn("aliases expand to more", str(self.faults("\n".join(lines))))

    def test_an_alias_of_itself_ends_in_a_fault(self) -> None:
        self.assertTrue(self.faults("files: &a {x: *a}").problems)
        self.assertTrue(self.faults("files: &a {<<: *a}").problems)
        self.assertTrue(self.faults("files: &a [*a]").problems)

    @given(st.text(alphabet=st.sampled_from(" \n:-?[]{}&*!|>'\"%@`#,<ab0~\t\x00é"), max_size=60))
    def test_no_text_raises_anything_else(self, text: str) -> None:
        try:
            parse_config(text, Path("config.yml"), {})
        except ConfigError as error:
            self.assertTrue(str(error))

    @given(
        st.recursive(
            st.one_of(st.none(), st.sampled_from(["", "x", "1", "true", "/tmp", "get"])),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(
                        [
                            "adapter",
                            "url",
                            "host",
                            "port",
                            "database",
                            "policy",
                            "operations",
                            "windows",
                            "pool",
                            "max",
                            "base",
                            "base_url",
                            "auth",
                            "basic",
                            "bearer",
                            "methods",
                            "paths",
                            "env",
                            "file",
                            "a",
                            "trustAll",
                        ]
                    ),
                    inner,
                    max_size=4,
                ),
            ),
            max_leaves=12,
        ),
        st.sampled_from([*OPTIONS, *PROFILES]),
    )
    def test_no_shape_raises_anything_else(self, value: object, section: str) -> None:
        text = json.dumps({section: value, "database": {"a": value}, "http": {"b": value}})
        try:
            parse_config(text, Path("config.yml"), {})
        except ConfigError as error:
            self.assertTrue(all(problem.message for problem in error.problems))


class References(ConfigTestCase):
    TEXT = "proxy: {host: x, port: 1, username: u, password: {%s}}"

    def password(self, reference: str, environ: dict[str, str] | None = None) -> str:
        proxy = self.load(self.TEXT % reference, environ).proxy
        assert proxy is not None
        assert proxy.password is not None
        return proxy.password.reveal()

    def test_a_value_comes_from_the_environment(self) -> None:
        self.assertEqual(self.password("env: P", {"P": " s p "}), " s p ")

    def test_a_value_comes_from_a_file_without_its_last_newline(self) -> None:
        (self.folder / "p").write_text("s\n\n")
        self.assertEqual(self.password("file: p"), "s\n")

    def test_a_systemd_credential_is_a_file(self) -> None:
        with TemporaryDirectory() as folder:
            (Path(folder) / "p").write_text("s")
            environ = {"CREDENTIALS_DIRECTORY": folder}
            self.assertEqual(self.password("file: $CREDENTIALS_DIRECTORY/p", environ), "s")

    def test_any_value_may_be_a_reference(self) -> None:
        text = "proxy: {host: {env: H}, port: {env: P}}\nfiles: {a: {base: {env: B}}}"
        config = self.load(text, {"H": "h", "P": "3128", "B": "/tmp"})
        assert config.proxy is not None
        self.assertEqual((config.proxy.host, config.proxy.port), ("h", 3128))

    def test_what_leads_nowhere_is_one_fault(self) -> None:
        (self.folder / "empty").write_text("\n")
        (self.folder / "binary").write_bytes(b"\xff\xfe")
        (self.folder / "large").write_bytes(b"x" * 70_000)
        for reference, expected in (
            ("env: NONE", "variable NONE is not set"),
            ("env: EMPTY", "variable EMPTY is empty"),
            ("file: none", "can't be read: No such file"),
            ("file: .", "can't be read: Is a directory"),
            ("file: empty", "is empty"),
            ("file: binary", "is not UTF-8"),
            ("file: large", "more than 65536 bytes"),
            ("encrypted: x", "secret.key: there is no key"),
            ("secret: x", "no section 'secrets'"),
        ):
            path, text = self.only_fault(self.TEXT % reference, {"EMPTY": ""})
            self.assertEqual(path, "proxy.password")
            self.assertIn(expected, text)

    def test_a_logger_may_be_called_like_a_reference(self) -> None:
        self.assertEqual(self.load("logging: {file: debug}").logging.loggers, {"file": "debug"})
