"""Profiles of Microsoft SQL Server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from ..fields import ConfigPath, Port, Text, refuse
from ..secrets import Secret
from .base import DatabaseProfile, Host, pem_file, tls_warnings, url_instead
from .odbc import Properties
from .properties import (
    CLASS,
    KERBEROS,
    KEYSTORE,
    SOCKET_TIMEOUT,
    Rule,
    Rules,
    Translation,
    becomes,
    ignored,
    only,
    refused,
    seconds,
    several,
    silent,
    truth_of,
)


def _encrypt(text: str) -> bool:
    word = text.strip().lower()
    if word in ("mandatory", "strict"):
        return True
    if word == "optional":
        return False
    return _truth(text)


def _encrypt_word(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return _encrypt(value)
    except ValueError:
        refuse("expected true or false, mandatory, strict or optional")


def _truth(text: str) -> bool:
    if (truth := truth_of(text)) is None:
        raise ValueError
    return truth


def _port(text: str) -> str:
    if not text.strip().isdecimal():
        raise ValueError
    return text.strip()


def _ssl(text: str) -> bool:
    """jTDS: ``require`` and ``authenticate`` encrypt; ``off`` is plain text."""
    words = {"off": False, "request": True, "require": True, "authenticate": True}
    if (word := words.get(text.strip().lower())) is None:
        raise ValueError
    return word


def _passed_on(keyword: str) -> Rule:
    """A property that ODBC drivers have as well, under this keyword."""

    def rule(translation: Translation, name: str, value: str) -> None:
        properties = translation.keys.setdefault("properties", {})
        if isinstance(properties, dict):
            properties[keyword] = value

    return rule


_ENCRYPTED_COLUMNS: Final = refused(
    "columns that the client decrypts are not supported", "reach them with adapter: jdbc"
)
_RULES: Final = {
    **several("user userName UID", becomes("username")),
    **several("password PWD", becomes("password")),
    **several("database databaseName", becomes("database")),
    **several("server serverName dataSource", becomes("host")),
    **several("port portNumber", becomes("port", _port, "a port's number")),
    **several("instance instanceName", becomes("instance")),
    "encrypt": becomes("encrypt", _encrypt, "true or false, mandatory, strict or optional"),
    "trustServerCertificate": becomes("trustServerCertificate", _truth, "true or false"),
    "ssl": becomes("encrypt", _ssl, "off, request, require or authenticate"),
    **several("loginTimeout connectTimeout", seconds("timeout")),
    "queryTimeout": seconds("statement_timeout"),
    "socketTimeout": SOCKET_TIMEOUT,
    **several("applicationName appName", _passed_on("APP")),
    **several("workstationID wsid", _passed_on("WSID")),
    "applicationIntent": _passed_on("ApplicationIntent"),
    "multiSubnetFailover": _passed_on("MultiSubnetFailover"),
    "failoverPartner": _passed_on("Failover_Partner"),
    "hostNameInCertificate": _passed_on("HostNameInCertificate"),
    "integratedSecurity": only(
        "false", "", hint="give username and password, or use adapter: odbc with Trusted_Connection"
    ),
    "authentication": only("sqlpassword", "notspecified", "", hint="give username and password"),
    "authenticationScheme": only("nativeauthentication", "", hint="give username and password"),
    "columnEncryptionSetting": only("disabled", "", hint="reach them with adapter: jdbc"),
    **several(
        "keyStoreAuthentication keyStoreSecret keyStoreLocation keyVaultProviderClientId"
        " keyVaultProviderClientKey enclaveAttestationUrl enclaveAttestationProtocol",
        _ENCRYPTED_COLUMNS,
    ),
    **several(
        "trustStore trustStorePassword trustStoreType serverCertificate clientCertificate"
        " clientKey clientKeyPassword",
        KEYSTORE,
    ),
    **several(
        "trustManagerClass trustManagerConstructorArg socketFactoryClass"
        " socketFactoryConstructorArg accessTokenCallbackClass",
        CLASS,
    ),
    **several(
        "accessToken gsscredential jaasConfigurationName useDefaultJaasConfig realm serverSpn"
        " msiClientId AADSecurePrincipalId"
        " AADSecurePrincipalSecret domain useNTLMv2 ntlm",
        KERBEROS,
    ),
    "lockTimeout": ignored("statements wait as long as statement_timeout or the call's deadline"),
    "fips": only("false", "", hint="remove it"),
    **several(
        "sendStringParametersAsUnicode sendTimeAsDatetime sendTemporalDataTypesAsStringForBulkCopy"
        " selectMethod responseBuffering packetSize lastUpdateCount xopenStates"
        " disableStatementPooling statementPoolingCacheSize"
        " enablePrepareOnFirstPreparedStatementCall"
        " serverPreparedStatementDiscardThreshold cancelQueryTimeout serverNameAsACE"
        " transparentNetworkIPResolution sslProtocol useBulkCopyForBatchInsert"
        " bulkCopyForBatchInsertBatchSize cacheBulkCopyMetadata useFmtOnly delayLoadingLobs"
        " maxResultBuffer replication connectRetryCount connectRetryInterval iPAddressPreference"
        " datetimeParameterType calcBigDecimalPrecision retryExec retryConn prepareMethod"
        " ignoreOffsetOnDateTimeOffsetConversion concatNullYieldsNull quotedIdentifier"
        " tds bufferDir bufferMaxMemory bufferMinPackets cacheMetaData charset"
        " lobBuffer maxStatements namedPipe prepareSQL progName processId sendStringParameters"
        " tcpNoDelay useCursors useJCIFS useLOBs xaEmulation batchSize language macAddress"
        " vectorTypeSupport",
        silent,
    ),
}


class SqlserverProfile(DatabaseProfile):
    """A Microsoft SQL Server, through an ODBC driver.

    :ivar host: a name or address; ``host\\instance`` names an instance as well.
    :ivar instance: a named instance, found through the server's browser service.
    :ivar port: None for an instance's own, or 1433.
    :ivar driver: name of the ODBC driver; None for the best one that is installed.
    :ivar encrypt: None leaves it to the driver.
    :ivar trust_certificate: TLS without proof of who answers.
    :ivar ssl_ca: PEM file of the authority.
    :ivar properties: further keys of the ODBC driver's connection string.
    """

    model_config = ConfigDict(json_schema_extra=url_instead)
    rules: ClassVar[Rules] = Rules(_RULES, further=True)

    adapter: Literal["sqlserver"] = "sqlserver"
    host: Host = "localhost"
    port: Port | None = None
    instance: Text | None = None
    database: Text | None = None
    username: Text = Field(validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
    driver: Text | None = None
    encrypt: Annotated[
        bool | None, BeforeValidator(_encrypt_word, json_schema_input_type=bool | str | None)
    ] = None
    trust_certificate: bool = Field(
        False, validation_alias=AliasChoices("trustServerCertificate", "trust_certificate")
    )
    ssl_ca: ConfigPath | None = Field(None, validation_alias=AliasChoices("ssl_ca", "sslrootcert"))
    properties: Properties = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _instance(cls, data: object) -> object:
        """``host\\instance`` taken apart."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        host = data.get("host")
        if isinstance(host, str) and (parts := re.fullmatch(r"([^\\]+)\\+([^\\]+)", host)):
            if data.get("instance") is not None:
                refuse("given by the host as well", "keep one of the two", at="instance")
            data["host"], data["instance"] = parts[1], parts[2]
        return data

    @field_validator("ssl_ca")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        return pem_file(value)

    @model_validator(mode="after")
    def _sensible(self) -> SqlserverProfile:
        if self.trust_certificate and self.ssl_ca is not None:
            refuse(
                "trustServerCertificate verifies nothing, ssl_ca is there to verify",
                "keep one of the two",
            )
        return self

    def warnings(self, facts: Mapping[str, object]) -> tuple[str, ...]:
        return tls_warnings(
            self.host, facts, not self.trust_certificate, "encrypt: true, and ssl_ca"
        )
