"""Profiles of Oracle databases."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import AliasChoices, ConfigDict, Field, field_validator, model_validator

from ..fields import ConfigPath, Port, Text, refuse
from ..secrets import Secret
from .base import DatabaseProfile, Host, pem_file, url_instead
from .properties import (
    KERBEROS,
    KEYSTORE,
    SOCKET_TIMEOUT,
    Rules,
    becomes,
    ignored,
    milliseconds,
    only,
    refused,
    several,
    silent,
)

_NATIVE_ENCRYPTION: Final = only(
    "accepted",
    "rejected",
    "requested",
    "",
    message="the driver has no native network encryption",
    hint="use TCPS (tls: true), or adapter: jdbc and a driverClass",
)
_ROLE: Final = refused("this adapter doesn't log in with a role", "a user with its own rights")
_RULES: Final = {
    "user": becomes("username"),
    "password": becomes("password"),
    **several("oracle.net.CONNECT_TIMEOUT", milliseconds("timeout")),
    **several("oracle.jdbc.ReadTimeout oracle.net.READ_TIMEOUT", SOCKET_TIMEOUT),
    **several("oracle.net.encryption_client oracle.net.crypto_checksum_client", _NATIVE_ENCRYPTION),
    **several("internal_logon oracle.jdbc.defaultRole", _ROLE),
    **several(
        "oracle.net.authentication_services oracle.net.kerberos5_cc_name"
        " oracle.net.kerberos5_mutual_authentication oracle.jdbc.accessToken",
        KERBEROS,
    ),
    **several(
        "oracle.net.wallet_location oracle.net.wallet_password javax.net.ssl.trustStore"
        " javax.net.ssl.trustStorePassword javax.net.ssl.trustStoreType javax.net.ssl.keyStore"
        " javax.net.ssl.keyStorePassword javax.net.ssl.keyStoreType",
        KEYSTORE,
    ),
    "oracle.net.ssl_server_dn_match": only(
        "true", "yes", "on", "", hint="the server's certificate names the host, always"
    ),
    **several("oracle.net.tns_admin TNS_ADMIN", ignored("tnsnames.ora is not read")),
    **several(
        "v$session.program v$session.machine v$session.osuser v$session.process v$session.terminal",
        ignored("sessions carry the agent's own name"),
    ),
    **several(
        "defaultRowPrefetch oracle.jdbc.defaultRowPrefetch defaultBatchValue"
        " oracle.jdbc.defaultBatchValue defaultExecuteBatch remarksReporting includeSynonyms"
        " processEscapes restrictGetTables useFetchSizeWithLongColumn disableDefineColumnType"
        " defaultNChar oracle.jdbc.defaultNChar SetFloatAndDoubleUseBinary AccumulateBatchResult"
        " fixedString oracle.jdbc.timezoneAsRegion oracle.jdbc.implicitStatementCacheSize"
        " oracle.jdbc.maxCachedBufferSize oracle.jdbc.J2EE13Compliant"
        " oracle.jdbc.mapDateToTimestamp"
        " oracle.jdbc.V8Compatible oracle.jdbc.convertNcharLiterals oracle.jdbc.fanEnabled"
        " oracle.jdbc.autoCommitSpecCompliant oracle.net.disableOob"
        " oracle.net.keepAlive oracle.net.networkCompression oracle.net.SDU"
        " oracle.net.encryption_types_client oracle.net.crypto_checksum_types_client"
        " oracle.net.ssl_version oracle.net.ssl_cipher_suites oracle.jdbc.enableQueryResultCache"
        " oracle.jdbc.freeMemoryOnEnterImplicitCache oracle.jdbc.useThreadLocalBufferCache",
        silent,
    ),
}


class OracleProfile(DatabaseProfile):
    """An Oracle database, named by one of ``database``, ``service`` and ``dsn``.

    :ivar database: its SID, as in the documented format.
    :ivar dsn: a connect descriptor or an Easy Connect string in place of host, port and names.
    :ivar tls: TCPS.
    :ivar ssl_ca: PEM file of the authority; None for the system's trust store.
    """

    model_config = ConfigDict(json_schema_extra=url_instead)
    rules: ClassVar[Rules] = Rules(_RULES, further=True)

    adapter: Literal["oracle"] = "oracle"
    host: Host = "localhost"
    port: Port = 1521
    database: Text | None = Field(None, validation_alias=AliasChoices("database", "sid"))
    service_name: Text | None = Field(
        None, validation_alias=AliasChoices("service", "service_name")
    )
    dsn: Text | None = Field(None, repr=False)
    username: Text = Field(validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
    tls: bool = False
    ssl_ca: ConfigPath | None = Field(None, validation_alias=AliasChoices("ssl_ca", "sslrootcert"))

    @field_validator("ssl_ca")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        return pem_file(value)

    @model_validator(mode="after")
    def _one_name(self) -> OracleProfile:
        names = (self.database, self.service_name, self.dsn)
        if sum(name is not None for name in names) != 1:
            refuse(
                "expected one of database (the SID), service and dsn",
                "or url: jdbc:oracle:thin:@//HOST:PORT/SERVICE",
            )
        if self.ssl_ca is not None and not self.tls and self.dsn is None:
            refuse("ssl_ca is for TCPS", "add tls: true", at="ssl_ca")
        return self
