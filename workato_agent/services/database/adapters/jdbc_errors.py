"""Exceptions of JDBC drivers as problems: the database's words, and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from attrs import field, frozen

from workato_tunnel.problems import Problem

from ..settings import JdbcSettings
from ..statements import Statement

_LONGEST: Final = 1000
_MOST_CAUSES: Final = 12
_SECRET_NAMES: Final = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
_URL_SECRETS: Final = re.compile(
    r"(?:[?&;,]|\()\s*[^=?&;,()]*(?:pass|pwd|secret|token|key|credential)[^=?&;,()]*=([^&;,)]+)",
    re.IGNORECASE,
)
_URL_LOGIN: Final = re.compile(r"(?:thin|oci8?):[^/@]*/([^@]+)@|//[^/@:]*:([^/@]+)@")
_ADDRESS: Final = re.compile(r"(?://|@)(?:[^/@]*@)?(\[[^\]]+\]|[^/:;?,@()]+)(:\d+)?")
_MYSQL_PREFIX: Final = re.compile(r"^\(conn=\d+\) ")
_H2_STATEMENT: Final = re.compile(r"; SQL statement:.*", re.DOTALL)


@frozen
class Fault:
    """A Java exception, taken apart.

    :ivar classes: of it and of its causes, the outermost first.
    :ivar messages: theirs.
    """

    classes: Sequence[str]
    messages: Sequence[str]
    state: str | None = None
    code: int = 0
    server: Any = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The message that says most, bounded."""
        text = next((each for each in self.messages if each), self.classes[0])
        text = _H2_STATEMENT.sub("", _MYSQL_PREFIX.sub("", text)).strip()
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"

    @property
    def everything(self) -> str:
        """Every class and message, to look for signs in."""
        return "\n".join((*self.classes, *self.messages))


def fault(error: Any) -> Fault:
    """Take an exception apart."""
    classes, messages = [], []
    state: str | None = None
    code = 0
    server: Any = None
    for each in _causes(error):
        classes.append(str(each.getClass().getName()))
        message = each.getMessage()
        messages.append("" if message is None else str(message))
        if state is None and hasattr(each, "getSQLState"):
            found = each.getSQLState()
            state = None if found is None else str(found)
            code = int(each.getErrorCode())
        if server is None and hasattr(each, "getServerErrorMessage"):
            server = each.getServerErrorMessage()
    return Fault(classes, messages, state, code, server)


def _causes(error: Any) -> Iterator[Any]:
    """An exception and what caused it; a batch's own says less than the one it goes on to."""
    seen = 0
    if str(error.getClass().getName()) == "java.sql.BatchUpdateException":
        error = error.getNextException() or error
    while error is not None and seen < _MOST_CAUSES:
        yield error
        seen += 1
        error = error.getCause()


def without_secrets(text: str, settings: JdbcSettings) -> str:
    """A text without the profile's password, the URL's and those among the properties."""
    secrets = [settings.password or ""]
    secrets += [value for name, value in settings.properties.items() if _SECRET_NAMES.search(name)]
    for pattern in (_URL_SECRETS, _URL_LOGIN):
        for match in pattern.finditer(settings.url):
            found = next((each for each in match.groups() if each), "")
            secrets += [found, unquote(found)]
    for secret in sorted(set(secrets), key=len, reverse=True):
        if secret:
            text = text.replace(secret, "…")
    return text


def address(settings: JdbcSettings) -> str:
    """Where the URL leads, as an administrator would say it; never its parameters."""
    match = _ADDRESS.search(settings.url)
    if match is not None:
        return match[1] + (match[2] or "")
    return ":".join(settings.url.split(":")[:2])


_PERMISSION_CODES: Final[Mapping[str, frozenset[int]]] = {
    "mysql": frozenset((1044, 1142, 1143, 1227, 1370)),
    "mariadb": frozenset((1044, 1142, 1143, 1227, 1370)),
    "h2": frozenset((90096,)),
    "oracle": frozenset((1031, 41900)),
    "microsoft sql server": frozenset((229, 230, 262)),
}
_HINTS: Final = {
    "22": "a value does not fit its type or the operation: check the parameters and the data",
    "23": "the statement breaks a rule of the table; nothing was changed",
    "40": "nothing was changed: try again",
    "42": "check the statement, the names in it and the types of the parameters",
    "53": "the database server is short of resources: try again later",
}
_TIMEOUT_STATES: Final = ("HYT00", "HYT01", "70100")


def statement_problem(found: Fault, product: str, statement: Statement | None) -> Problem:
    """The problem that an exception of a statement is."""
    state = found.state
    detail = found.text
    extra: dict[str, object] = {"sqlstate": state} if state else {}
    hint = _HINTS.get((state or "")[:2])
    if "java.lang.OutOfMemoryError" in found.classes:
        return memory_problem()
    if found.server is not None:
        detail, hint, more = _server_says(found.server, statement, hint)
        extra |= more
    if found.code and product != "postgresql":
        extra["vendor_code"] = found.code
    if state == "42501" or found.code in _PERMISSION_CODES.get(product, ()):
        hint = "grant the profile's user the privilege that it lacks"
        return Problem("target_permission_denied", detail, hint=hint, extra=extra)
    if state in _TIMEOUT_STATES or "SQLTimeoutException" in found.classes[0]:
        return Problem("deadline_exceeded", detail, hint="the server's own limit was reached")
    if _is_lost(found):
        return Problem(
            "target_unreachable",
            f"the connection was lost during the statement: {detail}",
            hint="a statement that changes data may or may not have taken effect: look before "
            "trying again",
            extra=extra,
        )
    return Problem("query_failed", detail, hint=hint, extra=extra)


def _is_lost(found: Fault) -> bool:
    state = found.state or ""
    if state.startswith("08") or state in ("57P01", "57P02", "57P03"):
        return True
    return any(each.startswith("java.net.Socket") for each in found.classes)


def _server_says(
    server: Any, statement: Statement | None, hint: str | None
) -> tuple[str, str | None, dict[str, object]]:
    """What PostgreSQL's driver knows of an error."""
    detail = _bounded(str(server.getMessage()))
    if (more := server.getDetail()) is not None:
        detail = f"{detail}\n{_bounded(str(more))}"
    extra: dict[str, object] = {}
    if (constraint := server.getConstraint()) is not None:
        extra["constraint"] = str(constraint)
    position = int(server.getPosition())
    if position and statement is not None:
        number = iter(range(1, len(statement.values) + 1))
        rendered = statement.render(lambda _: f"${next(number)}")
        extra["position"] = rendered.caller_position(position)
    if (own := server.getHint()) is not None:
        hint = str(own)
    return detail, hint, extra


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def memory_problem() -> Problem:
    """The JVM's heap is used up."""
    return Problem(
        "overloaded",
        "the agent's Java virtual machine has not enough memory for this result",
        hint="ask for less at once, or lower the profile's pool.max",
        retry_after=5,
    )


# The first that matches counts: a class of Java's, a SQLSTATE, a driver's code or words.
_KINDS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r"java\.net\.UnknownHostException|UnresolvedAddress",
        "target_unreachable",
        "the host's name is unknown: check the URL and the agent's name servers",
    ),
    (
        (
            r"javax\.net\.ssl\.|java\.security\.cert\.|CertPathValidator|"
            r"SSL root certificate|SSL context|unable to find valid certif|does not support SSL|"
            r"SSL error|[Ss]sl handshake"
        ),
        "target_tls_failed",
        "check the server's certificate, the driver's TLS properties and its trust store",
    ),
    (
        r"Connection refused",
        "target_unreachable",
        "nothing listens there: check the URL's host and port and the firewall",
    ),
    (
        r"SocketTimeoutException|timed? ?out|NoRouteToHost|Network is unreachable|HttpTimeout",
        "target_unreachable",
        "check the URL's host and port and the firewalls between the agent and the server",
    ),
    (
        (
            r"password authentication failed|Access denied for user .*using password|"
            r"invalid username/password|Login failed|ORA-01017|Wrong user name or password|"
            r"no password was provided|authentication failed|SCRAM|no pg_hba\.conf entry"
        ),
        "target_login_failed",
        (
            "check the profile's username and password, and whether the server lets the agent's "
            "address in"
        ),
    ),
    (
        (
            r"database .* does not exist|Unknown database|Database .* not found|ORA-1250[5-9]|"
            r"ORA-12514|Cannot open database"
        ),
        "target_not_found",
        "check the name of the database in the URL",
    ),
    (
        r"Access denied for user .* to database|permission denied for database",
        "target_permission_denied",
        "grant the profile's user access to the database",
    ),
    (
        r"Too many connections|too many clients|remaining connection slots",
        "overloaded",
        "the server's connections are used up: lower pool.max or raise the server's limit",
    ),
    (
        (
            r"Protocol error|unsupported protocol|Unexpected packet|Unknown Response Type|"
            r"invalid stream header|Packet .* is too big|Unsupported version|wrong protocol|"
            r"IndexOutOfBounds|BufferUnderflow|NegativeArraySize|OutOfMemoryError|"
            r"error occurred while setting up the SSL connection"
        ),
        "target_wrong_type",
        "something else than this driver's database answers there: check host, port and driver",
    ),
    (
        r"EOFException|Connection reset|closed|[Uu]nexpected end of stream|I/O error",
        "target_unreachable",
        "something listens there and hangs up: check that host and port are this database's",
    ),
)
_STATES: Final = {
    "28": "target_login_failed",
    "3D": "target_not_found",
    "08": "target_unreachable",
}


def connect_problem(found: Fault, settings: JdbcSettings) -> Problem:
    """The problem that a failed connection is."""
    where = address(settings)
    said = [each for each in found.messages if each]
    detail = found.text
    if len(said) > 1 and said[-1] not in detail:
        detail = f"{detail} ({_bounded(said[-1])})"
    detail = without_secrets(f"{where}: {detail}", settings)
    extra: dict[str, object] = {"sqlstate": found.state} if found.state else {}
    if (found.state or "").startswith("28"):
        kinds = [each for each in _KINDS if each[1] == "target_login_failed"]
        return Problem(kinds[0][1], detail, hint=kinds[0][2], extra=extra)
    for pattern, code, hint in _KINDS:
        if re.search(pattern, found.everything):
            retry_after = 5 if code == "overloaded" else None
            return Problem(code, detail, hint=hint, retry_after=retry_after, extra=extra)
    code = _STATES.get((found.state or "")[:2], "target_unreachable")
    return Problem(code, detail, hint="check the profile's URL and properties", extra=extra)
