"""Profiles of PostgreSQL and Amazon Redshift servers."""

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
    only,
    refused,
    seconds,
    several,
    silent,
)

_NON_VALIDATING: Final = ("nonvalidatingfactory",)


def _tls(translation: Translation) -> None:
    """``ssl`` and ``sslfactory`` together, as the JDBC drivers read them."""
    factory = translation.flags.get("sslfactory", "").rpartition(".")[2].lower()
    wanted = translation.flag("ssl")
    if factory and factory not in (*_NON_VALIDATING, "libpqfactory", "defaultjavasslfactory"):
        hint = "sslrootcert names the authority to trust"
        translation.fault("sslfactory", "a Java class has no meaning to this adapter", hint)
    if "sslmode" in translation.keys or "sslmode" in translation.flags or not wanted:
        return
    if factory in _NON_VALIDATING:
        translation.keys["sslmode"] = "require"
        translation.remark("'sslfactory' asks for TLS that doesn't verify who answers")
    else:
        translation.keys["sslmode"] = "verify-full"


_SCHEMA: Final = refused(
    "the search path is the database user's",
    "qualify the tables, or: alter role … set search_path",
)
_POSTGRESQL: Final = {
    "user": becomes("username"),
    "password": becomes("password"),
    "sslmode": becomes("sslmode", lambda text: text.strip().lower()),
    "sslrootcert": becomes("sslrootcert"),
    "sslcert": becomes("sslcert"),
    "sslkey": becomes("sslkey"),
    "ssl": flag,
    "sslfactory": flag,
    **several("loginTimeout connectTimeout connect_timeout", seconds("timeout")),
    "socketTimeout": SOCKET_TIMEOUT,
    "readOnly": READ_ONLY,
    "currentSchema": _SCHEMA,
    "options": refused("start-up options are not passed on", "set them for the database user"),
    "replication": only("false", "", hint="remove it"),
    "targetServerType": only("any", "", hint="name the server itself"),
    "loadBalanceHosts": only("false", "", hint="name one server"),
    "autosave": ignored("a session's transaction ends as the database ends it"),
    "stringtype": ignored("parameters take the type that the statement gives them"),
    "ApplicationName": ignored("connections carry the agent's own name"),
    **several("sslfactoryarg sslhostnameverifier sslpasswordcallback socketFactory", CLASS),
    **several("sslpassword", KEYSTORE),
    **several("kerberosServerName jaasApplicationName jaasLogin sspiServiceClass", KERBEROS),
    "gssEncMode": only("disable", "allow", "prefer", "", hint="remove it"),
    "channelBinding": only("disable", "prefer", "", hint="remove it"),
    "requireAuth": refused("this adapter can't limit how it logs in", "remove it"),
    **several(
        "prepareThreshold preparedStatementCacheQueries preparedStatementCacheSizeMiB"
        " defaultRowFetchSize reWriteBatchedInserts binaryTransfer binaryTransferEnable"
        " binaryTransferDisable preferQueryMode tcpKeepAlive tcpNoDelay sendBufferSize"
        " receiveBufferSize loggerLevel loggerFile logUnclosedConnections cancelSignalTimeout"
        " assumeMinServerVersion allowEncodingChanges disableColumnSanitiser"
        " databaseMetadataCacheFields databaseMetadataCacheFieldsMiB hostRecheckSeconds"
        " unknownLength cleanupSavepoints escapeSyntaxCallMode gsslib useSpnego"
        " logServerErrorDetail quoteReturningIdentifiers readOnlyMode maxResultBuffer"
        " groupStartupParameters adaptiveFetch adaptiveFetchMinimum adaptiveFetchMaximum"
        " sslResponseTimeout sslNegotiation hideUnprivilegedObjects charSet compatible"
        " gssResponseTimeout gssUseDefaultCreds xmlFactoryFactory convertBooleanToNumeric",
        silent,
    ),
}


class LibpqProfile(TlsProfile):
    """A server that speaks PostgreSQL's protocol.

    :ivar host: a name, an address, or the folder of a Unix socket.
    """

    port: Port = 5432
    database: Text
    username: Text = Field(validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None


class PostgresqlProfile(LibpqProfile):
    """A PostgreSQL server."""

    model_config = ConfigDict(json_schema_extra=url_instead)
    rules: ClassVar[Rules] = Rules(_POSTGRESQL, _tls, further=True)

    adapter: Literal["postgresql"] = "postgresql"


_IAM: Final = refused(
    "this adapter logs in with a user name and password only", "create a database user for it"
)
_REDSHIFT: Final = {
    **_POSTGRESQL,
    **several("UID", becomes("username")),
    **several("PWD", becomes("password")),
    "AuthMech": ignored("the agent encrypts as sslmode says"),
    **several(
        "iam AccessKeyID SecretAccessKey SessionToken DbUser DbGroups AutoCreate ClusterID"
        " Profile plugin_name IAMDisableCache idp_host idp_tenant preferred_role ssl_insecure"
        " IAMAuth webIdentityToken role_session_name",
        _IAM,
    ),
    **several(
        "BlockingRowsMode DSILogLevel LogLevel LogPath FilterLevel OpenSourceSubProtocolOverride"
        " DisableIsValidQuery LoadBalanceMode TCPKeepAliveMinutes loginToRp ForceLowercase"
        " enableFetchRingBuffer fetchRingBufferSize enableGeneratedName"
        " databaseMetadataCurrentDbOnly enableMultiSqlSupport reWriteBatchedInsertsSize"
        " StsEndpointUrl Region",
        silent,
    ),
}


class RedshiftProfile(LibpqProfile):
    """An Amazon Redshift cluster."""

    model_config = ConfigDict(json_schema_extra=url_instead)
    rules: ClassVar[Rules] = Rules(_REDSHIFT, _tls, further=True)

    adapter: Literal["redshift"] = "redshift"
    port: Port = 5439
