"""Microsoft SQL Server, through the best ODBC driver that is installed."""

from __future__ import annotations

from typing import Any, Final

from attrs import define

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, OdbcSettings, SqlserverSettings
from ..statements import MSSQL, Dialect
from .odbc import OdbcDriver
from .odbc_connection import OdbcConnection
from .odbc_keys import thd_pyodbc

_BEST: Final = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server", "FreeTDS")


@define(eq=False)
class SqlserverDriver:
    """See :class:`~.driver.Driver`."""

    _settings: SqlserverSettings
    _policy: DatabasePolicy
    _driver: OdbcDriver | None = None

    @classmethod
    def build(cls, settings: SqlserverSettings, policy: DatabasePolicy) -> SqlserverDriver:
        """A driver for these settings; nothing is loaded or looked up yet."""
        return cls(settings, policy)

    @property
    def type(self) -> str:
        return "sqlserver"

    @property
    def dialect(self) -> Dialect:
        return MSSQL

    @property
    def connect_timeout(self) -> float:
        return self._settings.connect_timeout

    def thd_open(self) -> OdbcConnection:
        if self._driver is None:
            settings = self._settings
            odbc = OdbcSettings(
                keys=keys(settings, self._thd_name()),
                user=settings.user,
                password=settings.password,
                connect_timeout=settings.connect_timeout,
            )
            self._driver = OdbcDriver(odbc, self._policy, "sqlserver")
        return self._driver.thd_open()

    def _thd_name(self) -> str:
        """Which driver to use. Raises Problem when there is none."""
        if self._settings.driver is not None:
            return self._settings.driver
        pyodbc: Any = thd_pyodbc()
        installed = pyodbc.drivers()
        for name in _BEST:
            if name in installed:
                return name
        raise Problem(
            "target_unreachable",
            "no ODBC driver for SQL Server is installed on the agent's machine",
            hint="Debian: apt install tdsodbc; or msodbcsql18 from Microsoft's own repository",
        )


def keys(settings: SqlserverSettings, driver: str) -> dict[str, str]:
    """The connection string's keys in the words of a driver."""
    words = {"Driver": driver, **settings.properties}
    if settings.database:
        words["Database"] = settings.database
    if "freetds" in driver.lower() or "tdsodbc" in driver.lower():
        words |= _freetds(settings)
    else:
        words |= _microsofts(settings)
    return words


def _microsofts(settings: SqlserverSettings) -> dict[str, str]:
    server = f"tcp:{settings.host}"
    words = {}
    if settings.instance:
        server = f"{settings.host}\\{settings.instance}"
    else:
        server += f",{settings.port}"
    words["Server"] = server
    if settings.encrypt is not None:
        words["Encrypt"] = "yes" if settings.encrypt else "no"
    if settings.trust_certificate:
        words["TrustServerCertificate"] = "yes"
    if settings.ca_file is not None:
        words["ServerCertificate"] = str(settings.ca_file)
    if settings.connect_timeout:
        words["LoginTimeout"] = str(max(1, round(settings.connect_timeout)))
    return words


def _freetds(settings: SqlserverSettings) -> dict[str, str]:
    words = {"TDS_Version": "7.4", "ClientCharset": "UTF-8"}
    if settings.instance:
        words["Server"] = f"{settings.host}\\{settings.instance}"
    else:
        words["Server"] = settings.host
        words["Port"] = str(settings.port)
    if settings.encrypt is not None:
        words["Encryption"] = "require" if settings.encrypt else "off"
    if settings.ca_file is not None:
        words["CAFile"] = str(settings.ca_file)
        words.setdefault("Encryption", "require")
    if settings.encrypt and settings.ca_file is None and not settings.trust_certificate:
        raise Problem(
            "target_tls_failed",
            "FreeTDS verifies no certificate unless it is given the authority's",
            hint="set ssl_ca to the authority's PEM file, or trust_certificate: true",
        )
    return words
