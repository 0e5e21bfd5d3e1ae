"""The JSON Schema says what the loader says."""

from __future__ import annotations

import jsonschema
import yaml

from tests.agent.test_config_load import SAMPLE
from tests.support.configs import ConfigTestCase
from workato_agent.config.jsonschema import config_schema

VALID = (
    "{}",
    "logging: {level: warn, workato_agent.tunnel: debug}",
    "gateway: {url: wss://x, identity: /x}\nproxy: {host: x, port: 1, username: u, password: 12}",
    "audit: {max_size: 64MiB, keep: 3}\nmetrics: {listen: 127.0.0.1:1}\nhttp:",
    "database: {a: {adapter: sqlite, database: x.db, pool: {max: 2}}}",
    "database: {a: {adapter: postgresql, database: d, user: u, password: {env: P}}}",
    "database: {a: {url: 'jdbc:postgresql://h/d?user=u', driverClass: x.Y}}",
    "database: {a: {adapter: mysql, user: u, connectTimeout: 5000, useSSL: true}}",
    "database: {a: {adapter: mariadb, user: u, queries: {q: select 1}, session_timeout: 5m}}",
    "database: {a: {adapter: sqlserver, host: 'h\\i', username: u, encrypt: optional}}",
    "database: {a: {adapter: sqlserver, host: h, username: u, applicationName: {env: P}}}",
    "database: {a: {adapter: oracle, database: XE, username: u}}",
    "database: {a: {adapter: redshift, database: d, username: u}}",
    "database: {a: {adapter: odbc, driver: FreeTDS, Server: h, Port: 1433, PWD: {env: P}}}",
    "database: {a: {adapter: odbc, connection_string: {env: D}}}",
    "database: {a: {adapter: jdbc, url: 'jdbc:h2:mem:x', driverClass: org.h2.Driver, X: 1}}",
    "database: {a: {adapter: jdbc, url: 'jdbc:mysql://h/d', user: u}}",
    "server: {classpath: [a.jar, 'lib/*.jar']}",
    "files: {a: {base: ., policy: {operations: [read], windows: [Mon-Fri], max_bytes: 1MiB}}}",
    "http: {trustAll: true, a: {base_url: http://a, methods: [GET], paths: [/a/**]}}",
    "kafka: {a: {url: 'kafka://b', acks: all, client.id: {env: P}, ack_timeout: 5m}}",
    "http: {a: {base_url: http://a, auth: {basic: {username: u, password: {env: P}}}}}",
    "jms: {a: {provider: activemq, url: 'tcp://a:61616', username: u, password: {env: P}}}",
    "jms: {a: {provider: sqs, region: eu-west-1, accessKey: a, secretKey: {env: P}}}",
    "jms: {a: {provider: amqp, url: 'amqps://a', ack_timeout: 1m, limits: {message: 1MiB}}}",
    "jms: {a: {provider: custom, class: org.x.Y, remoteURI: 'amqps://a', port: 1}}",
    "jms: {a: {provider: custom, jndi: {initial_context: org.x.Y, factory: f}}}",
    "ldap: {a: {url: 'ldaps://a,ldaps://b', userDN: cn=x, password: {env: P}, base: dc=x}}",
    "ldap: {a: {url: ldap://a, startTls: true, ssl: {trustAll: true}, policy: {bases: [ou=p]}}}",
)
INVALID = (
    "jms: {a: {provider: nothing, url: 'tcp://x'}}",
    "jms: {a: {provider: activemq}}",
    "jms: {a: {provider: sqs, region: eu-west-1}}",
    "gatewy: {}",
    "gateway: {uri: x}",
    "database: {a: {adapter: sqlite}}",
    "database: {a: {adapter: mysql, database: x}}",
    "database: {a: {adapter: odbc, username: u}}",
    "database: {a: {adapter: jdbc, url: 'jdbc:h2:mem:x'}}",
    "database: {a: {adapter: postgresql, database: d, user: u, prt: 1}}",
    "files: {a: {}}",
    "files: {'a b': {base: .}}",
    "http: {a: {base_url: http://a, policy: {max_bytes: 1}}}",
    "ldap: {a: {base: dc=x}}",
    "ldap: {a: {url: ldap://a, policy: {read: [cn]}}}",
    "proxy: {host: x, port: {env: P, file: Q}}",
)


class Schema(ConfigTestCase):
    def setUp(self) -> None:
        super().setUp()
        schema = config_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        self.validator = jsonschema.Draft202012Validator(schema)

    def test_the_sample_fits(self) -> None:
        self.validator.validate(yaml.safe_load(SAMPLE.read_text()))

    def test_what_loads_fits(self) -> None:
        for text in VALID:
            self.load(text, {"P": "p", "D": "DSN=x"})
            self.validator.validate(yaml.safe_load(text))

    def test_what_does_not_load_does_not_fit(self) -> None:
        for text in INVALID:
            self.faults(text, {"P": "1"})
            self.assertFalse(self.validator.is_valid(yaml.safe_load(text)), text)
