"""jdbc: URLs taken apart for native drivers; profiles of JDBC and ODBC drivers."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.agent.test_config_databases import LOGIN, ProfileTestCase
from workato_agent.config import ConfigError, Secret, parse_config
from workato_agent.config.database import (
    DatabaseProfile,
    JdbcProfile,
    MysqlProfile,
    OdbcProfile,
    OracleProfile,
    PostgresqlProfile,
    RedshiftProfile,
    SqlserverProfile,
)
from workato_agent.config.database.odbc import connection_keys


class UrlTestCase(ProfileTestCase):
    def url(self, url: str, keys: str = LOGIN) -> DatabaseProfile:
        return self.profile(f"url: '{url}', {keys}")

    def url_fault(self, url: str, keys: str = LOGIN) -> str:
        return self.fault(f"url: '{url}', {keys}")


class Choice(UrlTestCase):
    H2 = "url: 'jdbc:h2:mem:x'"
    PG = "url: 'jdbc:postgresql://h/d', username: u"
    CLASS = "driverClass: org.postgresql.Driver"

    def test_a_url_of_a_known_database_goes_to_its_native_adapter(self) -> None:
        for url, model in (
            ("jdbc:postgresql://h/d", PostgresqlProfile),
            ("jdbc:redshift://h/d", RedshiftProfile),
            ("jdbc:mysql://h/d", MysqlProfile),
            ("jdbc:mariadb://h/d", MysqlProfile),
            ("jdbc:sqlserver://h", SqlserverProfile),
            ("jdbc:jtds:sqlserver://h/d", SqlserverProfile),
            ("jdbc:oracle:thin:@h:1521:d", OracleProfile),
            ("JDBC:PostgreSQL://h/d", PostgresqlProfile),
        ):
            self.assertIs(type(self.url(url)), model)

    def test_a_class_beside_it_is_left_out_and_told(self) -> None:
        config = self.config(f"{self.PG}, {self.CLASS}")
        self.assertIs(type(config.of(DatabaseProfile)["a"]), PostgresqlProfile)
        self.assertIn("driverClass has no meaning to adapter postgresql", config.remarks[0])

    def test_adapter_jdbc_with_a_class_wants_the_jdbc_driver(self) -> None:
        profile = self.profile(f"adapter: jdbc, {self.PG}, {self.CLASS}, ApplicationName: x")
        assert isinstance(profile, JdbcProfile)
        self.assertEqual(profile.url, "jdbc:postgresql://h/d")
        self.assertEqual(profile.driver_class, "org.postgresql.Driver")
        self.assertEqual(dict(profile.properties), {"ApplicationName": "x"})

    def test_adapter_jdbc_without_a_class_is_native_where_there_is_one(self) -> None:
        self.assertIs(type(self.profile(f"adapter: jdbc, {self.PG}")), PostgresqlProfile)
        for keys in (f"adapter: jdbc, {self.H2}", self.H2):
            self.assertIn("a.driverClass: missing", self.fault(keys))

    def test_a_url_of_an_unknown_database_with_a_class_is_jdbc(self) -> None:
        self.assertIs(type(self.profile(f"{self.H2}, driverClass: org.h2.Driver")), JdbcProfile)

    def test_redshift_may_be_reached_by_postgresqls_url(self) -> None:
        profile = self.url("jdbc:postgresql://h:5439/d", f"adapter: redshift, {LOGIN}")
        self.assertIs(type(profile), RedshiftProfile)

    def test_a_url_of_another_adapter_is_an_error(self) -> None:
        text = self.url_fault("jdbc:mysql://h/d", f"adapter: oracle, {LOGIN}")
        self.assertIn("the URL is not of adapter oracle", text)
        self.assertIn("jdbc:oracle:thin:@", text)


class Sqlserver(UrlTestCase):
    def sql(self, url: str, keys: str = LOGIN) -> SqlserverProfile:
        profile = self.url(url, keys)
        assert isinstance(profile, SqlserverProfile)
        return profile

    def test_host_instance_port_and_properties(self) -> None:
        profile = self.sql(
            "jdbc:sqlserver://db.intra\\SALES:1444;databaseName=sales;encrypt=true;"
            "trustServerCertificate=true;loginTimeout=7;applicationName=recipes;"
        )
        self.assertEqual(
            (profile.host, profile.instance, profile.port, profile.database),
            ("db.intra", "SALES", 1444, "sales"),
        )
        self.assertEqual(
            (profile.encrypt, profile.trust_certificate, profile.timeout), (True, True, 7.0)
        )
        self.assertEqual(dict(profile.properties), {"APP": "recipes"})

    def test_names_of_properties_have_no_case_and_synonyms(self) -> None:
        profile = self.sql(
            "jdbc:sqlserver://;ServerName=h;PortNumber=1;DATABASE=d;UserName=u;PassWord={a;}}b}",
            "debug: true",
        )
        self.assertEqual((profile.host, profile.port, profile.database), ("h", 1, "d"))
        self.assertEqual((profile.username, profile.password), ("u", Secret("a;}b")))

    def test_encrypt_as_newer_drivers_have_it(self) -> None:
        self.assertEqual(self.sql("jdbc:sqlserver://h;encrypt=strict").encrypt, True)
        self.assertEqual(self.sql("jdbc:sqlserver://h;encrypt=optional").encrypt, False)

    def test_jtds(self) -> None:
        profile = self.sql("jdbc:jtds:sqlserver://h:1433/sales;instance=I;ssl=require")
        self.assertEqual((profile.database, profile.instance), ("sales", "I"))
        self.assertEqual(profile.encrypt, True)
        self.assertIn("user name and", self.url_fault("jdbc:jtds:sqlserver://h/d;domain=CORP"))

    def test_the_profiles_own_keys_win_but_for_the_target(self) -> None:
        self.assertEqual(self.sql("jdbc:sqlserver://h;user=x;password=y").username, "u")
        text = self.url_fault("jdbc:sqlserver://h;databaseName=d", f"{LOGIN}, database: e")
        self.assertIn("given by the url as well", text)

    def test_malformed_urls(self) -> None:
        for url in (
            "jdbc:sqlserver:h",
            "jdbc:sqlserver://h:port",
            "jdbc:sqlserver://h/d;x=1",
            "jdbc:sqlserver://h;databaseName",
            "jdbc:sqlserver://h;a={b",
            "jdbc:jtds:sybase://h/d",
        ):
            self.assertIn("for example jdbc:", self.url_fault(url))


class Oracle(UrlTestCase):
    def oracle_url(self, url: str, keys: str = LOGIN) -> OracleProfile:
        profile = self.url(url, keys)
        assert isinstance(profile, OracleProfile)
        return profile

    def test_sid_and_service(self) -> None:
        for target, sid, service, port, tls in (
            ("h:1522:XE", "XE", None, 1522, False),
            ("h:1522/PROD", None, "PROD", 1522, False),
            ("//h:1522/prod.intra", None, "prod.intra", 1522, False),
            ("//h/PROD", None, "PROD", 1521, False),
            ("//h:1521/PROD:dedicated", None, "PROD", 1521, False),
            ("tcps://h:2484/PROD", None, "PROD", 2484, True),
            ("tcp://h:1521/PROD", None, "PROD", 1521, False),
            ("//[::1]:1521/PROD", None, "PROD", 1521, False),
        ):
            with self.subTest(target):
                profile = self.oracle_url(f"jdbc:oracle:thin:@{target}")
                self.assertEqual(profile.host, "::1" if "[" in target else "h")
                self.assertEqual((profile.database, profile.service_name), (sid, service))
                self.assertEqual((profile.port, profile.tls), (port, tls))

    def test_a_descriptor_stays_as_it_is(self) -> None:
        descriptor = (
            "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST=h)(PORT=1521))(CONNECT_DATA=(SID=X)))"
        )
        self.assertEqual(self.oracle_url(f"jdbc:oracle:thin:@{descriptor}").dsn, descriptor)

    def test_a_login_before_the_target(self) -> None:
        profile = self.oracle_url("jdbc:oracle:thin:scott/ti/ger@h:1521:XE", "debug: false")
        self.assertEqual((profile.username, profile.password), ("scott", Secret("ti/ger")))

    def test_what_is_not_understood_is_refused(self) -> None:
        for url, hint in (
            ("jdbc:oracle:thin:@SALES", "tnsnames.ora"),
            ("jdbc:oracle:thin:@h", "tnsnames.ora"),
            ("jdbc:oracle:thin:@h:1521", "for example"),
            ("jdbc:oracle:kprb:@x", "for example"),
            ("jdbc:oracle:thin:h:1521:XE", "for example"),
        ):
            self.assertIn(hint, self.url_fault(url))


class Mysql(UrlTestCase):
    def my(self, url: str, keys: str = LOGIN) -> MysqlProfile:
        profile = self.url(url, keys)
        assert isinstance(profile, MysqlProfile)
        return profile

    def test_its_parts_and_properties(self) -> None:
        profile = self.my(
            "jdbc:mysql://db:3307/sh%20op?user=x&useSSL=true&connectTimeout=5000&characterEncoding=utf8",
            "password: p",
        )
        self.assertEqual((profile.host, profile.port, profile.database), ("db", 3307, "sh op"))
        self.assertEqual(
            (profile.username, profile.sslmode, profile.timeout), ("x", "require", 5.0)
        )

    def test_a_login_in_the_authority(self) -> None:
        profile = self.my("jdbc:mysql://u:p%40ss@h/d", "debug: false")
        self.assertEqual((profile.username, profile.password), ("u", Secret("p@ss")))

    def test_without_host_or_database(self) -> None:
        self.assertEqual(self.my("jdbc:mysql:///d").host, "localhost")
        self.assertIsNone(self.my("jdbc:mysql://h").database)
        self.assertIsNone(self.my("jdbc:mysql://h/?useSSL=false").database)

    def test_clusters_are_refused(self) -> None:
        for url in (
            "jdbc:mysql:loadbalance://a,b/d",
            "jdbc:mysql://a,b/d",
            "jdbc:mariadb:sequential://a/d",
            "jdbc:mysql://address=(host=a)/d",
        ):
            self.assertIn(
                "single host", self.url_fault(url).replace("a list of hosts", "single host")
            )

    def test_a_key_store_is_refused_with_a_way_out(self) -> None:
        text = self.url_fault("jdbc:mysql://h/d?trustCertificateKeyStoreUrl=file:x")
        self.assertIn("PEM", text)


class Redshift(UrlTestCase):
    def test_older_urls_separate_properties_by_semicolons(self) -> None:
        for url in (
            "jdbc:redshift://h:5440/dev?ssl=true&loginTimeout=9",
            "jdbc:redshift://h:5440/dev;ssl=true;loginTimeout=9",
        ):
            profile = self.url(url)
            assert isinstance(profile, RedshiftProfile)
            self.assertEqual(
                (profile.port, profile.sslmode, profile.timeout), (5440, "verify-full", 9)
            )

    def test_iam_is_refused(self) -> None:
        self.assertIn("IAM", self.url_fault("jdbc:redshift:iam://h:5439/dev"))


class Secrets(UrlTestCase):
    def test_no_part_of_a_url_or_connection_string_shows(self) -> None:
        secret = "hunter2secret"
        for keys in (
            f"url: 'jdbc:postgresql://h/d?user=u&password=x&{secret}=y'",
            f"url: 'jdbc:postgresql://h/d?password=x&{secret}'",
            f"url: 'jdbc:postgresql://h/d?user=u&sslmode={secret}'",
            f"url: 'jdbc:postgresql://h/d?user=u&loginTimeout={secret}'",
            f"url: 'jdbc:mysql://u:{secret}@h:x/d'",
            f"url: 'jdbc:mysql://u:p@h/d?useSSL={secret}'",
            f"url: 'jdbc:mysql:u:{secret}@h/d'",
            f"url: 'jdbc:sqlserver://h:{secret}'",
            f"url: 'jdbc:sqlserver://h;user=u;password=a;{secret}=b'",
            f"url: 'jdbc:sqlserver://h;user=u;password=a;{secret}'",
            f"url: 'jdbc:sqlserver://h;user=u;port={secret}'",
            f"url: 'jdbc:sqlserver://h;user=u;password={{{secret}'",
            f"url: 'jdbc:oracle:thin:u/{secret}@h'",
            f"url: 'jdbc:oracle:thin:u/{secret}'",
            f"url: 'h2:mem:x;PASSWORD={secret}', adapter: jdbc",
            f"url: 'jdbc:h2:mem:x;PASSWORD={secret}', adapter: jdbc",
            f"url: 'jdbc:h2:mem:x;PASSWORD={secret}', adapter: jdbc, driverClass: 'a b'",
            f"adapter: odbc, connection_string: 'Driver=x;PWD={{{secret}'",
            f"adapter: odbc, connection_string: 'Server=x;PWD={secret}'",
            f"adapter: odbc, connection_string: [{secret}]",
            f"adapter: odbc, driver: x, PWD: [{secret}]",
            f"adapter: odbc, driver: x, Key: [{secret}]",
            f"adapter: jdbc, url: 'jdbc:h2:x', driverClass: a.B, prop: {{a: {secret}}}",
        ):
            with self.subTest(keys):
                error = self.faults(f"database: {{a: {{{keys}}}}}")
                self.assertNotIn(secret, str(error))

    def test_none_shows_in_a_profile_either(self) -> None:
        for keys in (
            "adapter: jdbc, driverClass: a.B, url: 'jdbc:h2:x;PASSWORD=hunter2', apiToken: hunter2",
            "adapter: odbc, connection_string: 'Driver=x;PWD=hunter2', Password: hunter2",
            "url: 'jdbc:mysql://u:hunter2@h/d?password=hunter2'",
            "url: 'jdbc:oracle:thin:u/hunter2@h:1:s'",
        ):
            config = self.config(keys)
            self.assertNotIn("hunter2", repr(config))

    def test_the_hash_knows_what_is_not_secret_only(self) -> None:
        def hashes(keys: str) -> str:
            return self.config(f"adapter: jdbc, driverClass: a.B, {keys}").config_hash

        plain = hashes("url: 'jdbc:h2:x;PASSWORD=a', token: b, size: 1")
        self.assertEqual(plain, hashes("url: 'jdbc:h2:x;PASSWORD=c', token: d, size: 1"))
        self.assertNotEqual(plain, hashes("url: 'jdbc:h2:x;PASSWORD=a', token: b, size: 2"))
        self.assertNotEqual(plain, hashes("url: 'jdbc:h2:y;PASSWORD=a', token: b, size: 1"))


class Jdbc(UrlTestCase):
    def test_every_further_key_is_a_property_of_the_driver(self) -> None:
        profile = self.profile(
            "adapter: jdbc, url: 'jdbc:presto://h:8889/c', driverClass: a.b.Driver, user: me,"
            " SSL: false, oracle.net.x: '1', session: a, loginTimeout: 5, useSSL: yes"
        )
        assert isinstance(profile, JdbcProfile)
        self.assertEqual(
            dict(profile.properties),
            {
                "SSL": "false",
                "oracle.net.x": "1",
                "session": "a",
                "loginTimeout": "5",
                "useSSL": "yes",
            },
        )
        self.assertEqual((profile.username, profile.password), ("me", None))

    def test_a_misspelt_key_of_ours_is_none(self) -> None:
        for name, meant in (
            ("passwrd", "password"),
            ("timout", "timeout"),
            ("driverclas", "driverClass"),
        ):
            text = self.fault(
                f"adapter: jdbc, url: 'jdbc:h2:mem:x', driverClass: org.h2.Driver, {name}: x"
            )
            self.assertIn(f"did you mean '{meant}'?", text)

    def test_url_and_class_are_checked(self) -> None:
        text = self.fault("adapter: jdbc, url: 'h2:mem', driverClass: org.h2.Driver")
        self.assertIn("expected a jdbc: URL", text)
        text = self.fault("adapter: jdbc, url: 'jdbc:h2:mem', driverClass: 'org.h2 Driver'")
        self.assertIn("name of a Java class", text)
        text = self.fault("adapter: jdbc, driverClass: org.h2.Driver")
        self.assertIn("a.url: missing", text)


class Odbc(UrlTestCase):
    def odbc(self, keys: str) -> OdbcProfile:
        profile = self.profile(f"adapter: odbc, {keys}")
        assert isinstance(profile, OdbcProfile)
        return profile

    def test_a_connection_string_without_its_login(self) -> None:
        profile = self.odbc(
            "connection_string: 'Server=h;Driver={Free TDS};UID=sa;PWD={a;b}};c};Port=1433;'"
        )
        self.assertEqual(
            list(profile.keys().items()),
            [("Driver", "Free TDS"), ("Server", "h"), ("Port", "1433")],
        )
        self.assertEqual(profile.login(), ("sa", "a;b};c"))

    def test_the_profiles_own_keys_win(self) -> None:
        profile = self.odbc(
            "connection_string: 'DSN=x;UID=sa;PWD=p;Port=1', username: me, password: q,"
            " port_: 2, PORT: 3"
        )
        self.assertEqual(profile.keys(), {"DSN": "x", "port_": "2", "PORT": "3"})
        self.assertEqual(profile.login(), ("me", "q"))

    def test_driver_or_data_source_with_further_keys(self) -> None:
        profile = self.odbc("driver: PostgreSQL Unicode, Servername: h, UID: u, pwd: p")
        self.assertEqual(profile.keys(), {"Driver": "PostgreSQL Unicode", "Servername": "h"})
        self.assertEqual(profile.login(), ("u", "p"))
        self.assertEqual(self.odbc("dsn: sales").keys(), {"DSN": "sales"})
        self.assertEqual(self.odbc("dsn: sales").login(), (None, None))

    def test_a_driver_has_to_be_named(self) -> None:
        self.assertIn("names no driver", self.fault("adapter: odbc, Server: h"))
        self.assertIn("names no driver", self.fault("adapter: odbc, connection_string: 'Server=h'"))

    def test_other_adapters_words_are_told_apart(self) -> None:
        for key in ("host", "port", "database", "url"):
            self.assertIn(
                "Server, Port and Database", self.fault(f"adapter: odbc, dsn: x, {key}: 1")
            )
        self.assertIn("did you mean 'password'?", self.fault("adapter: odbc, dsn: x, pasword: 1"))

    def test_keys_that_would_change_the_string_are_refused(self) -> None:
        for key in ("'a;b'", "'a=b'", "'{a}'"):
            self.assertIn("not a key", self.fault(f"adapter: odbc, dsn: x, {key}: 1"))

    @settings(max_examples=150)
    @given(
        st.dictionaries(
            st.from_regex(r"[A-Za-z][A-Za-z0-9_ ]{0,8}[a-z]", fullmatch=True),
            st.text(st.characters(blacklist_characters="\0"), max_size=12),
            max_size=5,
        )
    )
    def test_what_is_written_in_braces_is_read_as_it_was(self, keys: dict[str, str]) -> None:
        distinct = {key.lower(): (key, value) for key, value in keys.items()}
        wanted = dict(distinct.values())
        text = ";".join(f"{key}={{{value.replace('}', '}}')}}}" for key, value in wanted.items())
        self.assertEqual(connection_keys(text), wanted)

    @settings(max_examples=150)
    @given(st.text(st.sampled_from("ab={};} \\\t\n"), max_size=20))
    def test_no_text_raises_anything_but_value_error(self, text: str) -> None:
        try:
            connection_keys(text)
        except ValueError:
            return


_PIECES = st.sampled_from(
    [
        "jdbc:",
        "postgresql:",
        "mysql:",
        "sqlserver:",
        "oracle:",
        "thin:",
        "//",
        "h",
        ":",
        "1",
        "/d",
        "@",
        "?",
        ";",
        "&",
        "a=b",
        "=",
        "{",
        "}",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "%zz",
        "user",
        "password=",
        ",",
        "é",
    ]
)


class Hostile(UrlTestCase):
    @settings(max_examples=200)
    @given(st.lists(_PIECES, max_size=12).map("".join))
    @example("jdbc:postgresql://[h/d")
    @example("jdbc:sqlserver://h;" + "a={" * 50)
    @example("jdbc:oracle:thin:" + "/" * 200 + "@")
    def test_no_url_raises_anything_but_a_config_error(self, url: str) -> None:
        quoted = url.replace("'", "''")
        try:
            parse_config(f"database: {{a: {{url: '{quoted}', {LOGIN}}}}}", self.file, {})
        except ConfigError as error:
            self.assertTrue(str(error))
