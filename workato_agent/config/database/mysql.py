"""Profiles of MySQL and MariaDB servers."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import AliasChoices, ConfigDict, Field

from ..fields import Port, Text
from ..secrets import Secret
from .base import TlsProfile, url_instead
from .properties import (
    CLASS,
    KERBEROS,
    KEYSTORE,
    READ_ONLY,
    SOCKET_TIMEOUT,
    Rules,
    Translation,
    becomes,
    flag,
    ignored,
    milliseconds,
    only,
    refused,
    several,
    silent,
)

_SSL_MODES: Final = {
    "disabled": "disable",
    "disable": "disable",
    "false": "disable",
    "preferred": "prefer",
    "prefer": "prefer",
    "required": "require",
    "require": "require",
    "trust": "require",
    "verify_ca": "verify-ca",
    "verify-ca": "verify-ca",
    "verify_identity": "verify-full",
    "verify-full": "verify-full",
    "verify_full": "verify-full",
    "true": "verify-full",
}
"""``sslMode`` of MySQL's and of MariaDB's driver."""


def _mode(text: str) -> str:
    if (mode := _SSL_MODES.get(text.strip().lower())) is None:
        raise ValueError
    return mode


def _tls(translation: Translation) -> None:
    """The flags from before ``sslMode``; whoever asks for TLS never gets plain text.

    ``useSSL`` alone means verified TLS to MariaDB's driver and unverified to MySQL's, so it is
    read as the latter unless MariaDB's own flags stand beside it.
    """
    if "sslmode" in translation.keys:
        return
    use = translation.flag("useSSL" if "usessl" in translation.flags else "ssl")
    require = translation.flag("requireSSL")
    verify = translation.flag("verifyServerCertificate")
    trust = translation.flag("trustServerCertificate")
    no_name = translation.flag("disableSslHostnameVerification")
    if use is False and not require:
        translation.keys["sslmode"] = "disable"
    elif verify:
        translation.keys["sslmode"] = "verify-ca"
    elif trust is False or no_name is not None:
        translation.keys["sslmode"] = "verify-ca" if no_name else "verify-full"
    elif use or require or trust:
        translation.keys["sslmode"] = "require"


_ZONE: Final = ignored("dates and times are passed on as the server has them")
_RULES: Final = {
    "user": becomes("username"),
    "password": becomes("password"),
    "sslMode": becomes("sslmode", _mode, "DISABLED, PREFERRED, REQUIRED, VERIFY_CA, …"),
    "serverSslCert": becomes("sslrootcert"),
    **several(
        "ssl useSSL requireSSL verifyServerCertificate trustServerCertificate"
        " disableSslHostnameVerification",
        flag,
    ),
    "connectTimeout": milliseconds("timeout"),
    "localSocket": becomes("host"),
    "socketTimeout": SOCKET_TIMEOUT,
    **several("serverTimezone connectionTimeZone timezone useTimezone", _ZONE),
    **several("useLegacyDatetimeCode zeroDateTimeBehavior preserveInstants", _ZONE),
    "forceConnectionTimeZoneToSession": only("false", "", hint="remove it"),
    "tinyInt1isBit": ignored("TINYINT(1) is a number, as the server says"),
    "yearIsDateType": ignored("YEAR is a number, as the server says"),
    **several("characterEncoding connectionCollation useUnicode", silent),
    "sessionVariables": refused("session variables are not set", "set them for the server"),
    **several("initSQL connectionAttributes", only("", "none", hint="remove it")),
    "readOnly": READ_ONLY,
    **several("tlsVersions enabledTLSProtocols enabledSslProtocolSuites", silent),
    **several("enabledSSLCipherSuites enabledSslCipherSuites tlsCiphersuites", silent),
    **several(
        "trustCertificateKeyStoreUrl trustCertificateKeyStorePassword"
        " trustCertificateKeyStoreType clientCertificateKeyStoreUrl"
        " clientCertificateKeyStorePassword clientCertificateKeyStoreType trustStore"
        " trustStorePassword trustStoreType keyStore keyStorePassword keyStoreType"
        " keyPassword fallbackToSystemTrustStore fallbackToSystemKeyStore",
        KEYSTORE,
    ),
    **several(
        "socketFactory authenticationPlugins disabledAuthenticationPlugins"
        " defaultAuthenticationPlugin queryInterceptors statementInterceptors"
        " exceptionInterceptors credentialType restrictedAuth",
        CLASS,
    ),
    **several("servicePrincipalName ociConfigFile ldapServerHostname", KERBEROS),
    **several(
        "allowMultiQueries allowPublicKeyRetrieval allowLoadLocalInfile allowUrlInLocalInfile"
        " allowLoadLocalInfileInPath allowLocalInfile serverRsaPublicKeyFile"
        " useCursorFetch defaultFetchSize rewriteBatchedStatements useCompression autoReconnect"
        " autoReconnectForPools maxReconnects initialTimeout failOverReadOnly reconnectAtTxEnd"
        " cachePrepStmts prepStmtCacheSize prepStmtCacheSqlLimit useServerPrepStmts"
        " cacheCallableStmts cacheResultSetMetadata cacheServerConfiguration"
        " useLocalSessionState useLocalTransactionState elideSetAutoCommits maintainTimeStats"
        " useInformationSchema noAccessToProcedureBodies nullCatalogMeansCurrent"
        " nullNamePatternMatchesAll nullDatabaseMeansCurrent useOldAliasMetadataBehavior"
        " useColumnNamesInFindColumn useAffectedRows jdbcCompliantTruncation dumpQueriesOnException"
        " tcpKeepAlive tcpNoDelay useReadAheadInput useUnbufferedInput useBulkStmts"
        " useHostsInPrivileges"
        " dontTrackOpenResources holdResultsOpenOverStatementClose queryTimeoutKillsConnection"
        " gatherPerfMetrics profileSQL logger log maxQuerySizeToLog permitMysqlScheme"
        " functionsNeverReturnBlobs blobsAreStrings treatUtilDateAsTimestamp"
        " transformedBitIsBoolean emptyStringsConvertToZero sendFractionalSeconds"
        " generateSimpleParameterMetadata allowNanAndInf pinGlobalTxToPhysicalConnection"
        " autoDeserialize allowSlaveDownConnection retriesAllDown usePipelineAuth maxRows"
        " useJDBCCompliantTimezoneShift useGmtMillisForDatetimes useFastDateParsing"
        " useSSPSCompatibleTimezoneShift populateInsertRowWithDefaultValues"
        " allowEncodingChanges capitalizeTypeNames useDynamicCharsetInfo"
        " netTimeoutForStreamingResults",
        silent,
    ),
}


class MysqlProfile(TlsProfile):
    """A MySQL or MariaDB server.

    :ivar host: a name, an address, or the path of a Unix socket.
    :ivar database: None for none: statements then qualify their tables.
    """

    model_config = ConfigDict(json_schema_extra=url_instead)
    rules: ClassVar[Rules] = Rules(_RULES, _tls, further=True)

    other_names: ClassVar[tuple[str, ...]] = ("mariadb",)

    adapter: Literal["mysql"] = "mysql"
    port: Port = 3306
    database: Text | None = None
    username: Text = Field(validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
