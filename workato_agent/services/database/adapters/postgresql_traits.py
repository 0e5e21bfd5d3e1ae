"""In what PostgreSQL and the databases that speak its protocol differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from ..statements import POSTGRESQL, Dialect
from .postgresql_connection import RENEWAL
from .postgresql_literals import literal, opening


@frozen
class Traits:
    """What an adapter can count on.

    :ivar type: the adapter's name in the config.
    :ivar settings: statements that fix the text form of values, for one transaction.
    :ivar set_local: how a setting is made for a transaction.
    :ivar plpgsql: ``DO`` blocks, which take a statement as text, and make sure that it is one.
    :ivar copies: ``COPY … TO STDOUT`` and ``FROM STDIN``.
    :ivar renewal: removes what a call has left on a connection.
    :ivar literal: writes a value as SQL.
    :ivar facts: a query of database, user, version and whether the server refuses writing.
    :ivar product: name and version for people, from the server's version.
    :ivar opening: a statement that opens the portal of rows for another one.
    """

    type: str
    settings: str
    set_local: str
    plpgsql: bool
    copies: bool
    renewal: str
    literal: Callable[[object], str]
    opening: Callable[[str], str]
    facts: str
    product: Callable[[str], str]
    dialect: Dialect = POSTGRESQL


SETTINGS: Final = (
    "SET LOCAL standard_conforming_strings=on;SET LOCAL DateStyle='ISO';"
    "SET LOCAL IntervalStyle='iso_8601';SET LOCAL extra_float_digits=3;"
    "SET LOCAL bytea_output='hex';"
)

POSTGRESQL_TRAITS: Final = Traits(
    type="postgresql",
    settings=SETTINGS,
    set_local="SET LOCAL",
    plpgsql=True,
    copies=True,
    renewal=RENEWAL,
    literal=literal,
    opening=opening,
    facts="SELECT current_database(), current_user, version(),"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool",
    product=lambda version: " ".join(version.split()[:2]),
)
