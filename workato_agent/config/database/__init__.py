"""Profiles of the ``database`` section: one model for each adapter."""

from .base import DatabaseProfile, Pool, SslMode
from .choice import ADAPTERS, AnyDatabase
from .jdbc import JdbcProfile
from .mysql import MysqlProfile
from .odbc import OdbcProfile
from .oracle import OracleProfile
from .postgresql import LibpqProfile, PostgresqlProfile, RedshiftProfile
from .sqlite import SqliteProfile
from .sqlserver import SqlserverProfile

__all__ = [
    "ADAPTERS",
    "AnyDatabase",
    "DatabaseProfile",
    "JdbcProfile",
    "LibpqProfile",
    "MysqlProfile",
    "OdbcProfile",
    "OracleProfile",
    "Pool",
    "PostgresqlProfile",
    "RedshiftProfile",
    "SqliteProfile",
    "SqlserverProfile",
    "SslMode",
]
