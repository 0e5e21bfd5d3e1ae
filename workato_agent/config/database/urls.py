"""jdbc: URLs of the databases that have a native adapter, taken apart.

No error quotes a URL, which may hold a password; a property is named where it is sure that it is
one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote, unquote_plus, urlsplit

from attrs import frozen

from ..fields import refuse
from .properties import SENSITIVE

Pairs = Sequence[tuple[str, str]]

EXAMPLES: Final = {
    "postgresql": "jdbc:postgresql://db.intra:5432/sales",
    "redshift": "jdbc:redshift://cluster.example:5439/dev",
    "mysql": "jdbc:mysql://db.intra:3306/sales",
    "mariadb": "jdbc:mariadb://db.intra:3306/sales",
    "sqlserver": "jdbc:sqlserver://db.intra:1433;databaseName=sales",
    "jtds": "jdbc:jtds:sqlserver://db.intra:1433/sales",
    "oracle": "jdbc:oracle:thin:@//db.intra:1521/sales.intra",
    "sqlite": "jdbc:sqlite:/srv/sales.db",
}
ADAPTERS: Final = {**{name: name for name in EXAMPLES}, "mariadb": "mysql", "jtds": "sqlserver"}
"""The adapter that serves a driver's URLs."""


@frozen
class UrlParts:
    """What a URL says: keys of the adapter's profile, and the driver's properties."""

    keys: Mapping[str, object]
    properties: Pairs = ()

    def sure(self) -> int:
        """How many of the properties are: what follows a password may be a piece of it."""
        for index, (name, _) in enumerate(self.properties):
            if SENSITIVE.search(name):
                return index + 1
        return len(self.properties)


def driver_of(url: object) -> str:
    """``postgresql`` of ``jdbc:postgresql:…``, in lower case."""
    if not isinstance(url, str) or url[:5].lower() != "jdbc:":
        refuse("expected a jdbc: URL", f"for example {EXAMPLES['postgresql']}", at="url")
    if re.search(r"[\x00-\x1f\x7f]", url):
        refuse("a URL holds no control characters", at="url")
    return url[5:].partition(":")[0].strip().lower()


def parts_of(url: str) -> UrlParts:
    """A URL of one of :data:`ADAPTERS`. Raises what ``refuse`` does, at ``url``."""
    driver, _, rest = url[5:].partition(":")
    driver = driver.strip().lower()
    return _PARSERS[driver](rest.strip(), f"for example {EXAMPLES[driver]}")


def _sqlite(rest: str, example: str) -> UrlParts:
    if not rest or rest.startswith("file:") or "?" in rest:
        refuse("expected jdbc:sqlite: and a path, without properties", example, at="url")
    return UrlParts({"database": rest})


def _postgresql(rest: str, example: str) -> UrlParts:
    """``//host:port/database?property=value``, or ``database`` alone for the local server."""
    return _authority_url(rest, example, login=False)


def _redshift(rest: str, example: str) -> UrlParts:
    if rest.lower().startswith("iam:"):
        refuse("IAM logins are not supported", "a database user, and jdbc:redshift://…", at="url")
    return _authority_url(rest, example, login=False)


def _mysql(rest: str, example: str) -> UrlParts:
    if not rest.startswith("//"):
        refuse("expected //HOST:PORT/DATABASE with a single host", example, at="url")
    return _authority_url(rest, example, login=True)


def _authority_url(rest: str, example: str, *, login: bool) -> UrlParts:
    before, question, query = rest.partition("?")
    if not question:
        before, _, query = rest.partition(";")
    try:
        split = urlsplit(before)
        host, port = split.hostname, split.port
    except ValueError:
        hint = "a list of hosts is not supported" if "," in before else example
        refuse("the URL is malformed", hint, at="url")
    netloc = split.netloc
    if split.scheme or split.fragment or "," in netloc or "(" in netloc:
        refuse("expected //HOST:PORT/DATABASE with a single host", example, at="url")
    if "@" in netloc and not login:
        refuse("a login before the host has no meaning", "give username and password", at="url")
    keys: dict[str, object] = {}
    if host:
        keys["host"] = host
    if port is not None:
        keys["port"] = str(port)
    if database := unquote(split.path.lstrip("/")):
        keys["database"] = database
    if split.username:
        keys["username"] = unquote(split.username)
    if split.password:
        keys["password"] = unquote(split.password)
    return UrlParts(keys, _query(query, example))


def _query(query: str, example: str) -> Pairs:
    """``a=b&c=d``; older Redshift URLs separate them by ``;``."""
    pairs = []
    for part in re.split("[&;]", query):
        name, equals, value = part.partition("=")
        if not part:
            continue
        if not name or (not equals and not re.fullmatch(r"(?i)ssl|usessl|requiressl", name)):
            refuse("the URL is malformed", f"NAME=VALUE&…, {example}", at="url")
        pairs.append((unquote_plus(name), unquote(value)))
    return pairs


_SQLSERVER: Final = re.compile(
    r"//(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^\\:;/@]*)(?:\\+(?P<instance>[^\\:;/@]*))?"
    r"(?::(?P<port>\d{1,5}))?)(?:/(?P<database>[^;]*))?(?:;(?P<properties>.*))?",
    re.DOTALL,
)
_PROPERTY: Final = re.compile(
    r"\s*(?P<name>[^=;{}]+?)\s*=\s*(?:\{(?P<braced>(?:[^}]|\}\})*)\}\s*|(?P<plain>[^;{]*))(?:;|$)"
)


def _sqlserver(rest: str, example: str) -> UrlParts:
    r"""``//host\instance:port;property=value;other={a;b}``."""
    match = _SQLSERVER.fullmatch(rest)
    if match is None or match["database"]:
        refuse("expected //HOST\\INSTANCE:PORT;PROPERTY=VALUE", example, at="url")
    return _sqlserver_parts(match, example)


def _jtds(rest: str, example: str) -> UrlParts:
    r"""``sqlserver://host:port/database;property=value``."""
    product, _, rest = rest.partition(":")
    match = _SQLSERVER.fullmatch(rest)
    if product.lower() != "sqlserver" or match is None:
        refuse("expected jdbc:jtds:sqlserver://HOST:PORT/DATABASE", example, at="url")
    return _sqlserver_parts(match, example)


def _sqlserver_parts(match: re.Match[str], example: str) -> UrlParts:
    found = match.groupdict()
    keys: dict[str, object] = {
        key: found[key] for key in ("host", "instance", "port", "database") if found[key]
    }
    if isinstance(host := keys.get("host"), str):
        keys["host"] = host.strip("[]")
    pairs = []
    text, position = found["properties"] or "", 0
    while text[position:].strip(" ;"):
        pair = _PROPERTY.match(text, position)
        if pair is None:
            refuse("its properties are malformed", f"NAME=VALUE;…, {example}", at="url")
        braced = pair["braced"]
        value = pair["plain"].strip() if braced is None else braced.replace("}}", "}")
        pairs.append((pair["name"], value))
        position = pair.end()
    return UrlParts(keys, pairs)


_ORACLE_LOGIN: Final = re.compile(r"(?s)(?:(?P<user>[^/@(]+)/(?P<password>.*))?@(?P<target>[^@]*)")
_ORACLE: Final = re.compile(
    r"(?:(?P<protocol>tcps?)://|//)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/@(),\s\[\]]+)"
    r"(?::(?P<port>\d{1,5}))?"
    r"(?:/(?P<service>[^:/?()@]+)(?::(?:dedicated|shared|pooled))?|:(?P<sid>[^:/?()@]+))"
    r"(?:\?(?P<query>.*))?",
    re.IGNORECASE,
)


def _oracle(rest: str, example: str) -> UrlParts:
    """``thin:user/password@`` and a target: host, port and SID or service, or a descriptor."""
    kind, _, rest = rest.partition(":")
    login = _ORACLE_LOGIN.fullmatch(rest)
    if kind.lower() not in ("thin", "oci", "oci8") or login is None:
        refuse("expected jdbc:oracle:thin:@…", example, at="url")
    keys: dict[str, object] = {}
    if login["user"]:
        keys["username"], keys["password"] = login["user"], login["password"]
    target = login["target"].strip()
    if re.fullmatch(r"(?is)\(\s*description\b.*\)", target):
        return UrlParts({**keys, "dsn": target})
    match = _ORACLE.fullmatch(target)
    if match is None or not (match["service"] or match["port"]):
        plain = re.fullmatch(r"[\w.-]+", target) is not None
        hint = "a name of tnsnames.ora: write what it stands for" if plain else example
        refuse("expected @//HOST:PORT/SERVICE, @HOST:PORT:SID or @(DESCRIPTION=…)", hint, at="url")
    keys["host"] = match["host"].strip("[]")
    if match["port"]:
        keys["port"] = match["port"]
    if match["service"]:
        keys["service"] = match["service"]
    else:
        keys["database"] = match["sid"]
    if (match["protocol"] or "").lower() == "tcps":
        keys["tls"] = "true"
    return UrlParts(keys, _query(match["query"] or "", example))


_PARSERS: Final[Mapping[str, Callable[[str, str], UrlParts]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "redshift": _redshift,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlserver": _sqlserver,
    "jtds": _jtds,
    "oracle": _oracle,
}
