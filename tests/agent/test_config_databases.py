"""Profiles of each database adapter: keys, driver properties, class path, documented samples."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.support.configs import ConfigTestCase
from workato_agent.config import AgentConfig, load_config
from workato_agent.config.database import (
    ADAPTERS,
    DatabaseProfile,
    JdbcProfile,
    MysqlProfile,
    OracleProfile,
    PostgresqlProfile,
    RedshiftProfile,
    SqlserverProfile,
)

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((Path(__file__).parent / "workato_samples").glob("*.yml"))
OURS = ROOT / "etc" / "workato-agent" / "config.yml"
LOGIN = "username: u, password: p"


class ProfileTestCase(ConfigTestCase):
    def config(self, keys: str) -> AgentConfig:
        return self.load(f"database: {{a: {{{keys}}}}}")

    def profile(self, keys: str) -> DatabaseProfile:
        return self.config(keys).of(DatabaseProfile)["a"]

    def fault(self, keys: str) -> str:
        return self.only_fault(f"database: {{a: {{{keys}}}}}")[1]

    def mysql(self, keys: str) -> MysqlProfile:
        profile = self.profile(f"adapter: mysql, {LOGIN}, {keys}")
        assert isinstance(profile, MysqlProfile)
        return profile

    def sqlserver(self, keys: str) -> SqlserverProfile:
        profile = self.profile(f"adapter: sqlserver, {LOGIN}, {keys}")
        assert isinstance(profile, SqlserverProfile)
        return profile

    def oracle(self, keys: str) -> OracleProfile:
        profile = self.profile(f"adapter: oracle, {LOGIN}, {keys}")
        assert isinstance(profile, OracleProfile)
        return profile


class Samples(ConfigTestCase):
    def test_every_documented_form_loads(self) -> None:
        self.assertGreaterEqual(len(SAMPLES), 6)
        for sample in SAMPLES:
            with self.subTest(sample.name):
                config = load_config(sample)
                written = yaml.safe_load(sample.read_text())
                for name, keys in written.get("database", {}).items():
                    profile = config.of(DatabaseProfile)[name]
                    self.assertEqual(profile.adapter, keys.get("adapter", profile.adapter))

    def test_a_url_alone_names_the_adapter(self) -> None:
        profiles = load_config(ROOT / "tests/agent/workato_samples/urls.yml").of(DatabaseProfile)
        for name, profile in profiles.items():
            self.assertEqual(profile.adapter, name.partition("-")[0])
        sid, service = profiles["oracle-sid"], profiles["oracle-service"]
        assert isinstance(sid, OracleProfile)
        assert isinstance(service, OracleProfile)
        self.assertEqual((sid.database, service.service_name), ("XE", "PROD"))

    def test_the_examples_of_our_own_file_are_valid_when_they_are_uncommented(self) -> None:
        here = self.folder.absolute()
        for name in ("db-ca.pem", "sales.password"):
            (here / name).write_text("x")
        whole = OURS.read_text()
        section = whole[whole.index("\ndatabase:") : whole.index("\nfiles:")]
        lines = section.replace("/etc/workato-agent/", f"{here}/").splitlines()
        text = "\n".join(re.sub(r"^( *)# ?", r"\1", line) for line in lines)
        config = self.load(text, dict.fromkeys(("ERP_PASSWORD", "DB_PASSWORD"), "x"))
        profiles = config.of(DatabaseProfile)
        self.assertEqual({profile.adapter for profile in profiles.values()}, set(ADAPTERS))
        jdbc = profiles["legacy"]
        assert isinstance(jdbc, JdbcProfile)
        self.assertEqual(dict(jdbc.properties), {"IFEXISTS": "true"})


class Mysql(ProfileTestCase):
    def test_its_defaults(self) -> None:
        profile = self.mysql("database: shop")
        self.assertEqual(
            (profile.host, profile.port, profile.database, profile.sslmode, profile.timeout),
            ("localhost", 3306, "shop", "prefer", 30.0),
        )

    def test_mariadb_is_the_same_adapter_and_needs_no_database(self) -> None:
        profile = self.profile(f"adapter: MariaDB, {LOGIN}")
        assert isinstance(profile, MysqlProfile)
        self.assertEqual((profile.adapter, profile.database), ("mysql", None))

    def test_an_authority_is_there_to_be_used(self) -> None:
        (self.folder / "ca.pem").write_text("x")
        profile = self.mysql("ssl_ca: ca.pem")
        self.assertEqual(profile.sslmode, "verify-full")
        self.assertEqual(profile.sslrootcert, self.folder.absolute() / "ca.pem")

    def test_the_drivers_flags_of_tls_never_end_in_plain_text_that_was_not_asked_for(self) -> None:
        for keys, mode in (
            ("ssl: true", "require"),
            ("useSSL: false", "disable"),
            ("useSSL: true", "require"),
            ("requireSSL: true", "require"),
            ("useSSL: false, requireSSL: true", "require"),
            ("useSSL: true, verifyServerCertificate: true", "verify-ca"),
            ("useSSL: true, verifyServerCertificate: false", "require"),
            ("useSSL: true, trustServerCertificate: true", "require"),
            ("useSSL: true, trustServerCertificate: false", "verify-full"),
            ("useSSL: true, disableSslHostnameVerification: true", "verify-ca"),
            ("sslMode: DISABLED", "disable"),
            ("sslMode: REQUIRED", "require"),
            ("sslMode: VERIFY_CA", "verify-ca"),
            ("sslMode: VERIFY_IDENTITY, useSSL: false", "verify-full"),
            ("sslMode: trust", "require"),
            ("SSLMODE: Preferred", "prefer"),
        ):
            with self.subTest(keys):
                self.assertEqual(self.mysql(keys).sslmode, mode)

    def test_our_own_key_wins_over_the_drivers(self) -> None:
        self.assertEqual(self.mysql("useSSL: false, sslmode: require").sslmode, "require")

    def test_a_time_in_milliseconds_becomes_seconds(self) -> None:
        self.assertEqual(self.mysql("connectTimeout: 2500").timeout, 2.5)
        self.assertEqual(self.mysql("connectTimeout: 0").timeout, 30.0)


class Sqlserver(ProfileTestCase):
    def test_its_defaults(self) -> None:
        profile = self.sqlserver("host: h")
        self.assertEqual(
            (profile.port, profile.instance, profile.encrypt, profile.trust_certificate),
            (None, None, None, False),
        )

    def test_an_instance_stands_in_the_host_or_by_itself(self) -> None:
        for keys in (
            "host: 'h\\SALES'",
            "host: h, instance: SALES",
            "host: h, instanceName: SALES",
        ):
            profile = self.sqlserver(keys)
            self.assertEqual((profile.host, profile.instance), ("h", "SALES"))
        text = self.fault(f"adapter: sqlserver, {LOGIN}, host: 'h\\a', instance: b")
        self.assertIn("given by the host as well", text)

    def test_encrypt_has_the_words_of_every_driver(self) -> None:
        for word, encrypt in (
            ("true", True),
            ("yes", True),
            ("strict", True),
            ("mandatory", True),
            ("optional", False),
            ("false", False),
        ):
            self.assertEqual(self.sqlserver(f"encrypt: {word}").encrypt, encrypt)
        self.assertIn(
            "expected true or false", self.fault(f"adapter: sqlserver, {LOGIN}, encrypt: x")
        )

    def test_what_odbc_drivers_know_as_well_is_passed_on(self) -> None:
        profile = self.sqlserver(
            "applicationName: recipes, applicationIntent: ReadOnly,"
            " properties: {TDS_Version: '7.4'}"
        )
        self.assertEqual(
            dict(profile.properties),
            {"APP": "recipes", "ApplicationIntent": "ReadOnly", "TDS_Version": "7.4"},
        )

    def test_a_certificate_is_either_verified_or_trusted(self) -> None:
        (self.folder / "ca.pem").write_text("x")
        text = self.fault(
            f"adapter: sqlserver, {LOGIN}, ssl_ca: ca.pem, trustServerCertificate: true"
        )
        self.assertIn("keep one of the two", text)

    def test_a_login_that_is_not_by_password_is_refused_with_a_way_out(self) -> None:
        for keys in ("integratedSecurity: true", "authenticationScheme: NTLM", "domain: CORP"):
            text = self.fault(f"adapter: sqlserver, {LOGIN}, {keys}")
            self.assertIn("user name" if "domain" in keys else "username and password", text)
        self.sqlserver("integratedSecurity: false")


class Oracle(ProfileTestCase):
    def test_database_is_the_sid(self) -> None:
        profile = self.oracle("host: h, database: XE")
        self.assertEqual((profile.port, profile.database), (1521, "XE"))
        self.assertEqual(self.oracle("sid: XE").database, "XE")

    def test_a_service_has_a_key_of_its_own(self) -> None:
        profile = self.oracle("service: prod.intra, tls: true")
        self.assertEqual((profile.service_name, profile.tls), ("prod.intra", True))

    def test_one_name_is_needed_and_enough(self) -> None:
        for keys in ("host: h", "database: XE, service: s", "dsn: h/s, service: s"):
            text = self.fault(f"adapter: oracle, {LOGIN}, {keys}")
            self.assertIn("expected one of database (the SID), service and dsn", text)

    def test_encryption_that_the_driver_has_not_is_refused(self) -> None:
        text = self.fault(
            f"adapter: oracle, {LOGIN}, database: XE, oracle.net.encryption_client: REQUIRED"
        )
        self.assertIn("no native network encryption", text)
        self.oracle("database: XE, oracle.net.encryption_client: ACCEPTED")


class Redshift(ProfileTestCase):
    def test_it_is_no_postgresql_profile_but_has_its_keys(self) -> None:
        profile = self.profile(f"adapter: redshift, {LOGIN}, database: dev, ssl: true")
        assert isinstance(profile, RedshiftProfile)
        self.assertNotIsInstance(profile, PostgresqlProfile)
        self.assertEqual((profile.port, profile.sslmode), (5439, "verify-full"))

    def test_iam_is_refused(self) -> None:
        text = self.fault(f"adapter: redshift, {LOGIN}, database: dev, ClusterID: x")
        self.assertIn("database user", text)


class Properties(ProfileTestCase):
    BASE = f"adapter: postgresql, {LOGIN}, database: d"

    def remarks(self, keys: str) -> tuple[str, ...]:
        return self.config(f"{self.BASE}, {keys}").remarks

    def test_what_changes_nothing_is_accepted_silently(self) -> None:
        self.assertEqual(self.remarks("tcpKeepAlive: true, prepareThreshold: 5"), ())

    def test_what_has_no_effect_is_told(self) -> None:
        (remark,) = self.remarks("ApplicationName: recipes")
        self.assertIn("database.a: 'ApplicationName' is left out", remark)

    def test_a_property_that_nobody_knows_is_left_out_and_told(self) -> None:
        (remark,) = self.remarks("someFutureProperty: 1")
        self.assertIn("'someFutureProperty' has no meaning to this adapter's driver", remark)
        (remark,) = self.remarks("vendor.tuning: 1")
        self.assertIn("'vendor.tuning'", remark)

    def test_one_that_speaks_of_security_is_never_left_out(self) -> None:
        for name in ("futureSslThing", "requireEncryption", "vendor.authMode", "trustEverything"):
            self.assertIn(
                "can't do what this property asks for", self.fault(f"{self.BASE}, {name}: x")
            )

    def test_a_misspelt_key_is_an_error_that_says_what_was_meant(self) -> None:
        for name, meant in (
            ("passwrd", "password"),
            ("Timeuot", "timeout"),
            ("statment_timeout", "statement_timeout"),
            ("statementTimeout", "statement_timeout"),
            ("hots", "host"),
            ("poool", "pool"),
        ):
            text = self.fault(f"{self.BASE}, {name}: x")
            self.assertIn(f"did you mean '{meant}'?", text)

    def test_a_key_that_is_no_drivers_word_is_an_error(self) -> None:
        self.assertIn("unknown key", self.fault(f"{self.BASE}, colour: red"))
        self.assertIn("unknown key", self.fault("adapter: sqlite, database: x, fooBar: 1"))

    def test_what_must_not_be_ignored_is_refused(self) -> None:
        for keys in (
            "currentSchema: x",
            "readOnly: true",
            "options: '-c role=x'",
            "sslfactory: com.example.Factory",
            "socketFactory: com.example.Factory",
            "kerberosServerName: x",
            "targetServerType: secondary",
        ):
            self.fault(f"{self.BASE}, {keys}")
        for keys in ("readOnly: false", "targetServerType: any"):
            self.assertEqual(self.remarks(keys), ())

    def test_tls_that_verifies_nothing_is_what_the_file_asks_for_and_told(self) -> None:
        config = self.config(
            f"{self.BASE}, ssl: true, sslfactory: org.postgresql.ssl.NonValidatingFactory"
        )
        self.assertEqual(config.of(PostgresqlProfile)["a"].sslmode, "require")
        self.assertIn("doesn't verify", config.remarks[0])

    def test_a_property_that_is_no_text_is_an_error(self) -> None:
        for value, found in (("[1]", "a list"), ("{x: y}", "a mapping"), ("", "nothing")):
            text = self.fault(f"{self.BASE}, ApplicationName: {value}")
            self.assertIn(f"ApplicationName: expected text, found {found}", text)

    def test_every_fault_is_told_at_once(self) -> None:
        error = self.faults(
            """\
            database:
              a:
                adapter: mysql
                port: abc
                readOnly: true
                useSSL: perhaps
                passwrd: x
            """
        )
        self.assertEqual(
            [(problem.path.rpartition(".")[2], problem.line) for problem in error.problems],
            [("username", 2), ("port", 4), ("readOnly", 5), ("useSSL", 6), ("passwrd", 7)],
        )


class Hosts(ProfileTestCase):
    BASE = f"adapter: mysql, {LOGIN}"

    def test_spaces_round_a_host_and_brackets_of_an_address_are_no_part_of_it(self) -> None:
        for written, host in (("' db.intra '", "db.intra"), ("'[::1]'", "::1"), ("'::1'", "::1")):
            self.assertEqual(self.mysql(f"host: {written}").host, host)

    def test_what_is_not_one_host_is_an_error(self) -> None:
        for written in ("'a,b'", "'a b'", "'jdbc:mysql://h/d'", "'u@h'", "' '", "''"):
            self.assertIn("one host", self.fault(f"{self.BASE}, host: {written}"))
        for written in ("'db.intra:3306'", "'[::1]:3306'"):
            self.assertIn("a port as well", self.fault(f"{self.BASE}, host: {written}"))

    def test_a_user_is_named_once(self) -> None:
        for keys in (self.BASE, f"adapter: odbc, dsn: x, {LOGIN}"):
            self.assertIn("keep one of the two", self.fault(f"{keys}, user: v"))


class Warnings(ProfileTestCase):
    """What is told of a connection that works."""

    def warnings(self, keys: str, **facts: object) -> str:
        return " ".join(self.profile(f"{LOGIN}, {keys}").warnings(facts))

    def test_a_connection_over_a_network_should_be_encrypted_and_verified(self) -> None:
        (self.folder / "ca.pem").write_text("x")
        for keys in (
            "adapter: postgresql, database: d, host: db.intra",
            "adapter: redshift, database: d, host: db.intra",
            "adapter: mysql, host: db.intra",
        ):
            self.assertIn("not encrypted", self.warnings(keys, tls=False))
            self.assertIn("anybody could be", self.warnings(keys, tls="TLSv1.3"))
            self.assertEqual(self.warnings(f"{keys}, ssl_ca: ca.pem", tls="TLSv1.3"), "")
        server = "adapter: sqlserver, host: db.intra"
        self.assertIn("not encrypted", self.warnings(server, tls=False))
        self.assertEqual(self.warnings(server, tls=True), "")
        trusting = f"{server}, trustServerCertificate: true"
        self.assertIn("anybody could be", self.warnings(trusting, tls=True))

    def test_nothing_is_said_of_this_machine_nor_of_what_is_not_known(self) -> None:
        for host in ("localhost", "127.0.0.1", "/run/postgresql"):
            keys = f"adapter: postgresql, database: d, host: {host}"
            self.assertEqual(self.warnings(keys, tls=False), "")
        self.assertEqual(self.warnings("adapter: mysql, host: db.intra"), "")


class Sessions(ProfileTestCase):
    BASE = "adapter: sqlite, database: x"

    def test_named_queries_are_texts_by_name(self) -> None:
        profile = self.profile(f"{self.BASE}, queries: {{top-10: 'select 1', b: select 2}}")
        self.assertEqual(profile.queries, {"top-10": "select 1", "b": "select 2"})

    def test_a_querys_name_and_text_are_checked(self) -> None:
        self.assertIn("a query's name", self.fault(f"{self.BASE}, queries: {{a b: select 1}}"))
        self.assertIn("expected text", self.fault(f"{self.BASE}, queries: {{a: }}"))
        self.assertIn("expected text", self.fault(f"{self.BASE}, queries: {{a: ''}}"))
        self.assertIn("mapping", self.fault(f"{self.BASE}, queries: [select 1]"))

    def test_sessions_end_after_a_minute_unless_told_otherwise(self) -> None:
        self.assertEqual(self.profile(self.BASE).session_timeout, 60.0)
        self.assertEqual(self.profile(f"{self.BASE}, session_timeout: 5m").session_timeout, 300.0)
        self.assertIn("more than 0", self.fault(f"{self.BASE}, session_timeout: 0"))


class Classpath(ConfigTestCase):
    JDBC = "database: {a: {adapter: jdbc, url: 'jdbc:h2:mem:x', driverClass: org.h2.Driver}}\n"

    def setUp(self) -> None:
        super().setUp()
        self.here = self.folder.absolute()
        (self.here / "lib").mkdir()
        for name in ("lib/a.jar", "lib/b.jar", "lib/readme", "c.jar"):
            (self.here / name).write_text("")

    def jars(self, written: str) -> list[str]:
        config = self.load(f"{self.JDBC}server: {{classpath: {written}}}")
        assert isinstance(config.of(JdbcProfile)["a"], JdbcProfile)
        return [str(path.relative_to(self.here)) for path in config.server.jars()]

    def test_it_is_a_text_with_separators_or_a_list(self) -> None:
        for written in (
            "lib/a.jar:c.jar",
            "'lib/a.jar;c.jar'",
            "'lib/a.jar, c.jar'",
            "[lib/a.jar, c.jar]",
        ):
            self.assertEqual(self.jars(written), ["lib/a.jar", "c.jar"])

    def test_globs_and_folders_stand_for_their_jars(self) -> None:
        self.assertEqual(self.jars("lib/*.jar"), ["lib/a.jar", "lib/b.jar"])
        self.assertEqual(self.jars("lib"), ["lib", "lib/a.jar", "lib/b.jar"])
        self.assertEqual(self.jars("[lib/*.jar, lib]"), ["lib/a.jar", "lib/b.jar", "lib"])

    def test_a_missing_jar_is_an_error_where_a_profile_needs_jars(self) -> None:
        for written in ("none.jar", "[lib/a.jar, none.jar]", "none/*.jar"):
            path, text = self.only_fault(f"{self.JDBC}server: {{classpath: {written}}}")
            self.assertEqual(path, "server.classpath")
            self.assertIn("there is no such file or folder", text)
            self.assertIn(":2:", text)

    def test_elsewhere_and_for_a_folder_it_is_a_remark(self) -> None:
        (remark,) = self.load("server: {classpath: none.jar}").remarks
        self.assertIn("none.jar: there is no such file", remark)
        (remark,) = self.load(f"{self.JDBC}server: {{classpath: /opt/none/jdbc}}").remarks
        self.assertIn("/opt/none/jdbc", remark)

    def test_what_is_no_path_is_an_error(self) -> None:
        for written in ("{a: b}", "[[x]]", "[{a: b, c: d}]"):
            self.assertIn(
                "expected a path", self.only_fault(f"server: {{classpath: {written}}}")[1]
            )
        self.assertEqual(self.load("server: {classpath: }").server.classpath, ())
