"""Any database with a JDBC driver, through a Java virtual machine within the agent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final

from attrs import define, field, frozen

from workato_agent.jvm import PROCESS_JVM, Jvm, expand
from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, JdbcSettings
from ..statements import GENERIC, MSSQL, MYSQL, ORACLE, POSTGRESQL, SQLITE, Dialect
from .attempts import Attempts
from .jdbc_connection import JdbcConnection
from .jdbc_errors import address, connect_problem, fault
from .jdbc_parameters import Setters
from .jdbc_reading import block_reader

_DIALECTS: Final[Mapping[str, Dialect]] = {
    "postgresql": POSTGRESQL,
    "redshift": POSTGRESQL,
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "sqlite": SQLITE,
    "sqlserver": MSSQL,
    "jtds": MSSQL,
    "oracle": ORACLE,
}
_JARS: Final = Path("/usr/share/java")


@frozen
class _DebianJar:
    package: str
    jars: tuple[str, ...]


# By the beginning of the driver's class.
_DEBIAN: Final[Mapping[str, _DebianJar]] = {
    "org.postgresql.": _DebianJar("libpostgresql-jdbc-java", ("postgresql.jar",)),
    "org.mariadb.": _DebianJar("libmariadb-java", ("mariadb-java-client.jar",)),
    "org.h2.": _DebianJar("libh2-java", ("h2.jar",)),
    "org.hsqldb.": _DebianJar("libhsqldb-java", ("hsqldb.jar",)),
    "org.apache.derby.": _DebianJar(
        "libderbyclient-java libderby-java",
        ("derbyclient.jar", "derby.jar", "derbyshared.jar", "derbytools.jar"),
    ),
    "net.sourceforge.jtds.": _DebianJar("libjtds-java", ("jtds.jar",)),
    "org.sqlite.": _DebianJar("libxerial-sqlite-jdbc-java", ("sqlite-jdbc.jar",)),
}


def _own_properties(scheme: str, seconds: float) -> dict[str, str]:
    """What the drivers that are known are told, unless the profile says otherwise."""
    whole, thousandths = str(max(1, round(seconds))), str(round(seconds * 1000))
    if scheme == "postgresql":
        return {
            "loginTimeout": whole,
            "connectTimeout": whole,
            "tcpKeepAlive": "true",
            "ApplicationName": "workato-agent",
            # Plain text takes the type of its context, as it does with the native adapter.
            "stringtype": "unspecified",
            "escapeSyntaxCallMode": "callIfNoReturn",
            # A plan that the server keeps fails when a table changes.
            "prepareThreshold": "0",
            "options": "-c IntervalStyle=iso_8601",
            # What doesn't fit is an exception, not the end of the JVM's memory.
            "maxResultBuffer": "60p",
        }
    if scheme in ("mysql", "mariadb"):
        own = {
            "connectTimeout": thousandths,
            "tcpKeepAlive": "true",
            "yearIsDateType": "false",
        }
        # Bulk statements don't tell how many rows they have changed.
        return {**own, "useBulkStmts": "false"} if scheme == "mariadb" else own
    if scheme in ("sqlserver", "jtds"):
        return {"loginTimeout": whole}
    if scheme == "oracle":
        return {"oracle.net.CONNECT_TIMEOUT": thousandths}
    return {}


@define(eq=False)
class JdbcDriver:
    """See :class:`~.driver.Driver`. One for each profile: its driver's classes are its own."""

    type: ClassVar[str] = "jdbc"

    _settings: JdbcSettings
    _policy: DatabasePolicy
    _jvm: Jvm
    _driver: Any = field(default=None, init=False)
    _loader: Any = field(default=None, init=False)
    _attempts: Attempts[Any] = field(init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._attempts = Attempts(address(self._settings))

    @classmethod
    def build(
        cls, settings: JdbcSettings, policy: DatabasePolicy, jvm: Jvm = PROCESS_JVM
    ) -> JdbcDriver:
        """A driver; nothing of Java is started or loaded before the first connection."""
        return cls(settings, policy, jvm)

    @property
    def scheme(self) -> str:
        """What comes after ``jdbc:``."""
        match = re.match(r"(?i)jdbc:([a-z0-9_+-]+)", self._settings.url)
        return match[1].lower() if match else ""

    @property
    def dialect(self) -> Dialect:
        """By the URL: nothing is known of a database that has its own rules."""
        return _DIALECTS.get(self.scheme, GENERIC)

    @property
    def connect_timeout(self) -> float:
        """Seconds; the JVM's start comes on top of it, once."""
        return self._settings.connect_timeout

    def thd_open(self) -> JdbcConnection:
        jpype = self._jvm.thd_start()
        driver, loader = self._thd_driver(jpype)
        raw = self._thd_connect(jpype, driver, loader)
        errors = (jpype.JException,)
        try:
            raw.setAutoCommit(False)
            product = str(raw.getMetaData().getDatabaseProductName()).lower()
        except errors as error:
            problem = connect_problem(fault(error), self._settings)
            raw.close()
            raise problem from None
        return JdbcConnection(
            raw,
            product,
            self.dialect,
            Setters(jpype, raw, product, loader),
            errors,
            self._settings,
            block_reader(jpype),
            self._settings.driver_class.startswith("com.mysql."),
        )

    def _thd_driver(self, jpype: Any) -> tuple[Any, Any]:
        """The JDBC driver and its class loader. Raises Problem that names jars and packages."""
        with self._lock:
            if self._driver is None:
                self._driver, self._loader = self._thd_load(jpype)
            return self._driver, self._loader

    def _thd_load(self, jpype: Any) -> tuple[Any, Any]:
        name = self._settings.driver_class
        paths = expand(self._settings.classpath)
        debian = next((jar for start, jar in _DEBIAN.items() if name.startswith(start)), None)
        own = [_JARS / jar for jar in debian.jars if (_JARS / jar).exists()] if debian else []
        reason = "is in none of them"
        for places in (paths, own):
            if not places:
                continue
            loader = self._jvm.thd_loader(places)
            try:
                found = jpype.JClass("java.lang.Class").forName(name, True, loader)
                driver = found.getDeclaredConstructor().newInstance()
            except jpype.JException as error:
                first = fault(error)
                if "ClassNotFound" not in first.everything and "NoClassDef" not in first.everything:
                    reason = f"can't be used: {first.text}"
                elif name.replace(".", "/") not in first.text and name not in first.text:
                    reason = f"needs a class that is in none of them: {first.text}"
                continue
            if not isinstance(driver, jpype.JClass("java.sql.Driver")):
                raise Problem(
                    "target_not_found",
                    f"{name} is no JDBC driver: it doesn't implement java.sql.Driver",
                    hint="driverClass is named in the driver's manual",
                )
            return driver, loader
        looked = ", ".join(str(path) for path in (*paths, *own)) or "server.classpath is empty"
        hint = "put the driver's jar into server.classpath, and check driverClass"
        if debian is not None:
            hint += f"; Debian has it as {debian.package}"
        raise Problem("target_not_found", f"the JDBC driver {name} {reason} ({looked})", hint=hint)

    def _thd_connect(self, jpype: Any, driver: Any, loader: Any) -> Any:
        """Connect, in a thread that is left behind if it takes too long: nothing can end it."""
        settings = self._settings
        thread = jpype.JClass("java.lang.Thread")

        def connect() -> Any:
            try:
                # Some drivers look for their parts by way of it.
                thread.currentThread().setContextClassLoader(loader)
                return driver.connect(settings.url, self._properties(jpype))
            finally:
                thread.detach()

        def close(late: Any) -> None:
            late.close()
            thread.detach()

        try:
            # The driver's own time-out, which knows more, comes first where it has one.
            connection = self._attempts.thd_within(settings.connect_timeout + 1.0, connect, close)
        except jpype.JException as error:
            raise connect_problem(fault(error), settings) from None
        if connection is None:
            raise Problem(
                "target_wrong_type",
                f"the driver {settings.driver_class} doesn't accept the profile's URL "
                f"(jdbc:{self.scheme}:…)",
                hint="check url and driverClass: they belong together",
            )
        return connection

    def _properties(self, jpype: Any) -> Any:
        properties = jpype.JClass("java.util.Properties")()
        own = _own_properties(self.scheme, self._settings.connect_timeout)
        for name, value in (own | dict(self._settings.properties)).items():
            properties.setProperty(name, value)
        for name, login in (("user", self._settings.user), ("password", self._settings.password)):
            if login is not None:
                properties.setProperty(name, login)
        return properties
