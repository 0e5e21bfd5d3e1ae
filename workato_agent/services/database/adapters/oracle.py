"""Oracle Database, through python-oracledb in its thin mode: no client software of Oracle's."""

from __future__ import annotations

import importlib
import ssl
from typing import Any, ClassVar, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, OracleSettings
from ..statements import ORACLE, Dialect
from .attempts import Attempts
from .oracle_connection import OracleConnection
from .oracle_errors import connect_problem
from .oracle_values import output_handler

# Plain text takes the type of its context by these; thin mode's own zone would be the machine's.
_SESSION: Final = (
    "ALTER SESSION SET TIME_ZONE = '+00:00' NLS_DATE_FORMAT = 'YYYY-MM-DD\"T\"HH24:MI:SS'"
    " NLS_TIMESTAMP_FORMAT = 'YYYY-MM-DD\"T\"HH24:MI:SS.FF'"
    " NLS_TIMESTAMP_TZ_FORMAT = 'YYYY-MM-DD\"T\"HH24:MI:SS.FFTZH:TZM'"
    " NLS_NUMERIC_CHARACTERS = '.,'"
)


@define(eq=False)
class OracleDriver:
    """See :class:`~.driver.Driver`."""

    type: ClassVar[str] = "oracle"
    dialect: ClassVar[Dialect] = ORACLE

    _settings: OracleSettings
    _policy: DatabasePolicy
    _load: Any
    _attempts: Attempts[Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._attempts = Attempts(self.where)

    @classmethod
    def build(
        cls, settings: OracleSettings, policy: DatabasePolicy, load: Any = importlib.import_module
    ) -> OracleDriver:
        """A driver; ``load`` brings the module ``oracledb`` at the first connection."""
        return cls(settings, policy, load)

    @property
    def where(self) -> str:
        """What is connected to, without secrets."""
        settings = self._settings
        if settings.dsn is not None:
            return "the profile's dsn"
        return f"{settings.host}:{settings.port}/{settings.service or settings.sid}"

    @property
    def connect_timeout(self) -> float:
        """Seconds for TCP, TLS and login together."""
        return self._settings.connect_timeout

    def thd_open(self) -> OracleConnection:
        try:
            oracledb = self._load("oracledb")
        except ImportError as error:
            raise Problem(
                "internal_error",
                f"the Python package oracledb is missing: {error}",
                hint="install it with pip install 'workato-agent[oracle]'",
            ) from None
        errors = (oracledb.Error,)
        try:
            raw = self._attempts.thd_within(
                self._settings.connect_timeout,
                lambda: self._thd_connect(oracledb),
                lambda late: late.close(),
            )
        except (*errors, OSError, ValueError) as error:
            raise connect_problem(error, self.where, self._settings) from None
        raw.outputtypehandler = output_handler(oracledb)
        return OracleConnection(raw, oracledb, errors)

    def _thd_connect(self, oracledb: Any) -> Any:
        settings = self._settings
        options: dict[str, Any] = {
            "user": settings.user,
            "password": settings.password,
            "tcp_connect_timeout": settings.connect_timeout,
            "retry_count": 0,
            "program": "workato-agent",
        }
        if settings.dsn is not None:
            options["dsn"] = settings.dsn
        else:
            options |= {"host": settings.host, "port": settings.port}
            if settings.service is not None:
                options["service_name"] = settings.service
            else:
                options["sid"] = settings.sid
            if settings.tls:
                options["protocol"] = "tcps"
        if settings.tls or settings.ca_file is not None:
            options["ssl_context"] = ssl.create_default_context(
                cafile=None if settings.ca_file is None else str(settings.ca_file)
            )
            options["ssl_server_dn_match"] = True
        raw = oracledb.connect(**options)
        try:
            cursor = raw.cursor()
            cursor.execute(_SESSION)
            cursor.close()
        except BaseException:
            raw.close()
            raise
        return raw
