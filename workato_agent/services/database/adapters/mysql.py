"""MySQL and MariaDB, through PyMySQL in threads."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..settings import DatabasePolicy, MysqlSettings
from ..statements import MYSQL, Dialect
from .driver import DriverConnection
from .mysql_connection import MysqlConnection
from .mysql_errors import login_problem, wrong_type_problem
from .mysql_login import NONSENSE, Login


@frozen
class MysqlDriver:
    """Opens connections to one server for one user."""

    type: ClassVar[str] = "mysql"
    dialect: ClassVar[Dialect] = MYSQL

    _settings: MysqlSettings
    _policy: DatabasePolicy

    @classmethod
    def build(cls, settings: MysqlSettings, policy: DatabasePolicy) -> MysqlDriver:
        """The driver of one profile."""
        return cls(settings, policy)

    @property
    def connect_timeout(self) -> float:
        """Seconds to connect and log in."""
        return self._settings.connect_timeout

    def thd_open(self) -> DriverConnection:
        """A connection, logged in and set up. Raises Problem."""
        login = Login(self._settings)
        wire = login.thd_open()
        connection = MysqlConnection(wire, login, self._settings, self._policy)
        try:
            wire.limit(self._settings.connect_timeout)
            connection.thd_set_up()
            wire.limit(None)
        except connection.errors as error:
            secure = wire.is_secure
            connection.thd_close()
            raise login_problem(error, self._settings, secure=secure) from None
        except NONSENSE:
            connection.thd_close()
            raise wrong_type_problem(self._settings, "something") from None
        except BaseException:
            connection.thd_close()
            raise
        return connection
