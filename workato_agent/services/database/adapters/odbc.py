"""Any database with an ODBC driver, through pyodbc."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, OdbcSettings
from ..statements import Dialect
from .odbc_connection import OdbcConnection
from .odbc_dbms import Dbms, Link
from .odbc_errors import connect_problem
from .odbc_keys import Source, connection_string, thd_pyodbc, thd_source, value_of
from .odbc_mysql import Mysql
from .odbc_postgresql import Postgresql
from .odbc_reach import Endpoint, thd_look
from .odbc_sqlite import Sqlite
from .odbc_sqlserver import Sqlserver

_KNOWN: Final[tuple[type[Dbms], ...]] = (Postgresql, Mysql, Sqlite, Sqlserver)
_SERVERS: Final = ("Server", "Servername", "Host", "Hostname", "Address", "Addr", "Data Source")
_SERVER: Final = re.compile(r"(?:tcp:)?(?P<host>[^,:\\]+|\[[^\]]+\])(?:,(?P<port>\d{1,5}))?")
_DBMS_NAME, _DBMS_VERSION, _DRIVER_NAME, _DRIVER_VERSION = 17, 18, 6, 7


def dbms_of(name: str) -> Dbms:
    """What is known of a database, by its own name or its driver's."""
    for known in _KNOWN:
        if re.search(known.names, name, re.IGNORECASE):
            return known()
    return Dbms()


@define(eq=False)
class OdbcDriver:
    """See :class:`~.driver.Driver`."""

    _settings: OdbcSettings
    _policy: DatabasePolicy
    _type: str = "odbc"
    _known: bool = field(default=False, init=False)

    @classmethod
    def build(cls, settings: OdbcSettings, policy: DatabasePolicy) -> OdbcDriver:
        """A driver for these keys; nothing is loaded or looked up yet."""
        return cls(settings, policy)

    @property
    def type(self) -> str:
        return self._type

    @property
    def dialect(self) -> Dialect:
        name = Source.of(self._settings.keys).name
        if not name:
            try:
                name = thd_source(self._settings.keys).name
            except Problem:
                name = ""
        return dbms_of(name).dialect

    @property
    def connect_timeout(self) -> float:
        return self._settings.connect_timeout

    def thd_open(self) -> OdbcConnection:
        pyodbc = thd_pyodbc()
        settings = self._settings
        source = thd_source(settings.keys)
        dbms = dbms_of(source.name)
        given = dict(source.keys)
        _check_file(dbms, given)
        endpoint = _endpoint(dbms, given)
        if endpoint is not None and not self._known:
            # The driver is on its own afterwards: servers count connections that say nothing.
            thd_look(endpoint, settings.connect_timeout)
            self._known = True
        keys = {name: value for name, value in given.items() if name.lower() not in dbms.own_keys}
        there = {name.lower() for name in keys}
        defaults = dbms.keys(given, settings.connect_timeout)
        keys |= {name: value for name, value in defaults.items() if name.lower() not in there}
        if settings.user is not None:
            keys["UID"] = settings.user
        if settings.password is not None:
            keys["PWD"] = settings.password
        text = connection_string(keys, dbms.braces(keys))

        def thd_connect() -> Any:
            return pyodbc.connect(text, timeout=max(1, ceil(settings.connect_timeout)))

        try:
            raw = thd_connect()
        except pyodbc.Error as error:
            self._known = False
            where = str(endpoint) if endpoint else value_of(keys, "Database", "DSN") or ""
            raise connect_problem(error, where, settings.password) from None
        return self._prepared(pyodbc, raw, thd_connect, dbms)

    def _prepared(self, pyodbc: Any, raw: Any, thd_connect: Any, dbms: Dbms) -> OdbcConnection:
        errors = (pyodbc.Error, ValueError, OverflowError)
        try:
            product = str(raw.getinfo(_DBMS_NAME))
            version = str(raw.getinfo(_DBMS_VERSION))
            driver = f"{raw.getinfo(_DRIVER_NAME)} {raw.getinfo(_DRIVER_VERSION)}"
            if type(dbms) is Dbms:
                dbms = dbms_of(product)
            for number, converter in dbms.converters().items():
                raw.add_output_converter(number, converter)
            link = Link(raw, thd_connect, self._policy)
            dbms.thd_prepare(link)
        except errors as error:
            raw.close()
            raise connect_problem(error, "", self._settings.password) from None
        facts = {"target": f"{product} {version}", "driver": driver}
        return OdbcConnection(link, dbms, facts, errors)


def _check_file(dbms: Dbms, keys: Mapping[str, str]) -> None:
    if not isinstance(dbms, Sqlite):
        return
    name = value_of(keys, "Database") or ""
    may_create = (value_of(keys, "NoCreat") or "1") in ("0", "no", "false")
    if name and not name.startswith((":", "file:")) and not may_create and not Path(name).exists():
        raise Problem(
            "target_not_found",
            f"there is no file {name}",
            hint="check the profile's Database, or set NoCreat to 0 to have it made",
        )


def _endpoint(dbms: Dbms, keys: Mapping[str, str]) -> Endpoint | None:
    """Where the server listens, when the keys tell."""
    server = value_of(keys, *_SERVERS)
    if server is None or (parts := _SERVER.fullmatch(server.strip())) is None:
        return None
    port = parts["port"] or value_of(keys, "Port") or str(dbms.port or "")
    if server.startswith("/") or not port.isdecimal() or not 0 < int(port) < 2**16:
        return None
    return Endpoint(parts["host"].strip("[]"), int(port), dbms.speaks)
