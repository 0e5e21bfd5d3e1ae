"""ODBC's errors as problems: SQLSTATE, the database's own number, and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy
from .base import read_only_problem

_LONGEST: Final = 1000
_TAIL: Final = re.compile(r"\s*\((-?\d+)\)\s*\((?:SQL|native)\w+\)\s*$")
_RECORD: Final = re.compile(r"; \[[0-9A-Z]{5}\] ")
_HEAD: Final = re.compile(r"^\[[0-9A-Z]{5}\]\s*")
_VENDOR: Final = re.compile(r"^(?:\[[^\]\n]{1,80}\]\s*)+")
_POSTGRESQL: Final = re.compile(
    r";?\s*Error while (?:executing the query|preparing parameters)\s*$"
)


@frozen
class Diagnosis:
    """What an error of the driver says.

    :ivar native: the database's own number; 0 where it says none.
    """

    state: str
    native: int
    text: str


def diagnosis(error: Exception) -> Diagnosis:
    """Take an error of pyodbc apart; of several records the first is the cause."""
    arguments = [str(each) for each in error.args]
    state = next((each for each in arguments if re.fullmatch(r"[0-9A-Z]{5}", each)), "")
    text = max((each for each in arguments if each != state), key=len, default=str(error))
    first = _RECORD.split(text)[0]
    tail = _TAIL.search(first) or _TAIL.search(text)
    native = int(tail[1]) if tail else 0
    first = _TAIL.sub("", first)
    first = _VENDOR.sub("", _HEAD.sub("", first))
    first = _POSTGRESQL.sub("", first).strip()
    first = re.sub(r"^ERROR:\s+", "", first).replace("\nDETAIL: ", "\n")
    if len(first) > _LONGEST:
        first = f"{first[:_LONGEST]} …"
    return Diagnosis(state, native, first or type(error).__name__)


@frozen
class Meaning:
    """What some errors mean: those of a state (or its beginning) or number, or of a pattern."""

    code: str
    hint: str
    states: tuple[str, ...] = ()
    natives: tuple[int, ...] = ()
    pattern: str = ""

    def covers(self, what: Diagnosis) -> bool:
        """Whether it is one of them."""
        if self.states and what.state.startswith(self.states):
            return True
        if what.native in self.natives:
            return True
        return bool(self.pattern and re.search(self.pattern, what.text, re.IGNORECASE))


_LOST: Final = (
    "a statement that changes data may or may not have taken effect: look before trying again"
)
GENERAL: Final = (
    Meaning("target_unreachable", _LOST, states=("08",)),
    Meaning(
        "target_unreachable",
        _LOST,
        pattern=r"lost connection|has gone away|connection (was |is )?(closed|reset|lost|killed)",
    ),
    Meaning("deadline_exceeded", "narrow the statement or raise the limit", states=("HYT00",)),
    Meaning(
        "query_failed", "the statement breaks a rule of the table; nothing was changed", ("23",)
    ),
    Meaning("query_failed", "nothing was changed: try again", ("40",)),
    Meaning("query_failed", "a value does not fit its type or the operation", ("22",)),
    Meaning("query_failed", "check the name and its schema", ("42S02", "42P01")),
    Meaning(
        "target_permission_denied", "grant the profile's user the privilege it lacks", ("42501",)
    ),
)
NO_TABLE: Final = Meaning(
    "not_found",
    "names are as the database's catalogue has them: check case and schema",
    states=("42S02", "42P01"),
    pattern=r"no such table",
)
NO_COLUMN: Final = Meaning(
    "bad_request",
    "the body's columns have the names of the table's, or ?columns= names others",
    states=("42S22", "42703"),
    pattern=r"no such column",
)
READ_ONLY: Final = "read_only"
LOST: Final = _LOST


def statement_problem(
    error: Exception, meanings: Sequence[Meaning], policy: DatabasePolicy
) -> Problem:
    """The problem that an error of a statement is."""
    what = diagnosis(error)
    extra: dict[str, object] = {}
    if what.state and what.state != "HY000":
        extra["sqlstate"] = what.state
    if what.native:
        extra["native_error"] = what.native
    for meaning in (*meanings, *GENERAL):
        if not meaning.covers(what):
            continue
        if meaning.code == READ_ONLY:
            if policy.read_only:
                return read_only_problem(what.text)
            continue
        detail = what.text
        if meaning.code == "target_unreachable":
            detail = f"the connection was lost during the statement: {detail}"
        return Problem(meaning.code, detail, hint=meaning.hint, extra=extra)
    return Problem("query_failed", what.text, extra=extra)


CONNECTING: Final = (
    Meaning(
        "target_tls_failed",
        "the server's certificate has to come from the authority that the profile names, be in "
        "date and name its host; or the server has TLS switched off",
        pattern=r"certificate|\bSSL\b|\bTLS\b|handshake failed",
    ),
    Meaning(
        "overloaded",
        "the server's connections are used up: lower pool.max or raise the server's limit",
        states=("53300",),
        natives=(1040, 1203, 10928),
        pattern=r"too many (clients|connections)|remaining connection slots",
    ),
    Meaning(
        "target_not_found",
        "check the profile's database name",
        states=("3D000",),
        natives=(1049, 4060, 911),
        pattern=r"database .* does not exist|unknown database|cannot open database",
    ),
    Meaning(
        "target_permission_denied",
        "grant the profile's user the right to use the database; the name may be wrong as well",
        natives=(1044, 916),
        pattern=r"permission denied for database|access denied .* to database",
    ),
    Meaning(
        "target_login_failed",
        "the server has no rule for this user, database and address; it may ask for TLS",
        pattern=r"no pg_hba\.conf entry|pg_hba\.conf rejects",
    ),
    Meaning(
        "target_login_failed",
        "check the profile's user and password",
        states=("28",),
        natives=(1045, 18456, 18452, 1017),
        pattern=r"password authentication failed|no password supplied|login failed|access denied"
        r"|role .* does not exist|authentication failed",
    ),
    Meaning(
        "target_wrong_type",
        "the port belongs to something else: check the profile's driver, server and port",
        pattern=r"expected authentication request|unsupported frontend protocol"
        r"|invalid response to SSL|wrong version number",
    ),
    Meaning(
        "target_wrong_type",
        "the file is no SQLite database, or an encrypted one",
        pattern=r"not a database",
    ),
    Meaning(
        "target_unreachable",
        "the driver is registered, but its library can't be loaded: check that it is installed",
        pattern=r"can't open lib|driver manager.*(not found|no default driver)",
    ),
    Meaning(
        "target_unreachable",
        "check server, port and the firewalls between the agent and the server",
        states=("08", "HYT"),
        natives=(2002, 2003, 2013, 20009),
    ),
)


def connect_problem(error: Exception, where: str, secret: str | None) -> Problem:
    """The problem that a failed connection is."""
    what = diagnosis(error)
    text = what.text.replace(secret, "(password)") if secret and len(secret) > 3 else what.text
    detail = f"{where}: {text}" if where else text
    for meaning in CONNECTING:
        if meaning.covers(what):
            retry = 5 if meaning.code == "overloaded" else None
            return Problem(meaning.code, detail, hint=meaning.hint, retry_after=retry)
    return Problem(
        "target_unreachable", detail, hint="check the profile's keys and the server's log"
    )
