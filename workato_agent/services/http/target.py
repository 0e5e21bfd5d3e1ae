"""Where a call goes: the profile's origin, and a path that can't leave the profile's base.

Pure: text in, text out. The connection is always made to the origin, so nothing in a path can
change the host; what is checked here is that no server's way of reading a path (decoded once or
twice, with backslashes, with path parameters, with overlong or look-alike dots) climbs above the
base.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from attrs import frozen

from workato_tunnel.problems import Problem

_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}")
_BASE_PATH: Final = re.compile(r"[\x21-\x7e]*")
_PATH: Final = re.compile(r"[\x21\x22\x24-\x3e\x40-\x7e]*")  # visible ASCII without # and ?
_QUERY: Final = re.compile(r"[\x21\x22\x24-\x7e]*")  # visible ASCII without #
_U_ESCAPE: Final = re.compile(r"%u([0-9a-fA-F]{4})")  # IIS
_INVISIBLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2060\ufeff]")
_SEPARATOR: Final = re.compile(r"[/\\\u2044\u2215\u2216\u29f5\u29f8\ufe68]")
_OVERLONG: Final = (
    (re.compile(rb"\xc0[\x2e\xae]|\xe0\x80[\x2e\xae]|\xf0\x80\x80\xae"), b"."),
    (re.compile(rb"\xc0[\x2f\xaf]|\xe0\x80[\x2f\xaf]|\xf0\x80\x80\xaf|\xc1\x9c|\xc1\x1c"), b"/"),
)
_ROUNDS: Final = 5


@frozen
class Origin:
    """A parsed base URL.

    :ivar host: a name in ASCII or an IP address, without brackets.
    :ivar authority: the Host field: no port where it is the scheme's own.
    :ivar base_path: starts with ``/`` or is empty; never ends with ``/``.
    """

    secure: bool
    host: str
    port: int
    authority: str
    base_path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if ":" not in self.host else f"[{self.host}]:{self.port}"


def parse_base_url(url: str) -> Origin:
    """Parse a profile's ``base_url``. Raises ValueError that names what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"base_url is no URL: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("base_url starts with neither http:// nor https://")
    if "@" in parts.netloc:
        raise ValueError("base_url holds a user or password: they belong under auth")
    if "?" in url or "#" in url:
        raise ValueError("base_url ends with its path: no query and no fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("base_url holds a space or a non-ASCII character: write it encoded")
    host = parts.hostname or ""
    literal = host
    if "[" in parts.netloc:
        try:
            literal = f"[{IPv6Address(host)}]"
        except ValueError as error:
            raise ValueError(f"base_url holds no valid IPv6 address: {host}") from error
    elif not _HOST.fullmatch(host):
        raise ValueError("base_url has no valid host name")
    secure = parts.scheme == "https"
    usual = 443 if secure else 80
    port = usual if port is None else port
    if port == 0:
        raise ValueError("base_url has port 0")
    base_path = parts.path.rstrip("/")
    if not _BASE_PATH.fullmatch(base_path) or climbs(base_path):
        raise ValueError("the path of base_url holds a dot segment")
    return Origin(
        secure=secure,
        host=host,
        port=port,
        authority=literal if port == usual else f"{literal}:{port}",
        base_path=base_path,
    )


def request_target(origin: Origin, path: str, query: str) -> str:
    """The request target (origin-form, RFC 9112 section 3.2.1) of a call: as it came, on the base.

    ``path`` is what follows the profile in the caller's URL: ``""`` and ``"/"`` are the base itself
    without and with a trailing slash. Raises Problem ``bad_request`` for a path that could climb
    above the base or that no request line can carry.
    """
    if not _PATH.fullmatch(path):
        raise _refused("path", "holds a character that a path must percent-encode")
    if query and not _QUERY.fullmatch(query):
        raise _refused("query", "holds a character that a query must percent-encode")
    if ("%" in path or ".." in path) and climbs(path):
        raise _refused("path", "holds a '..' segment, plain or encoded")
    if not path:
        target = origin.base_path or "/"
    elif path == "/":
        target = origin.base_path + "/"
    else:
        target = f"{origin.base_path}/{path}"
    return f"{target}?{query}" if query else target


def climbs(path: str) -> bool:
    """Whether some server could read a ``..`` segment in the path."""
    for _ in range(_ROUNDS):
        if _has_parent_segment(path):
            return True
        decoded = _decode(path)
        if decoded == path:
            return False
        path = decoded
    return True  # encoded more often than anyone has a reason to


def _has_parent_segment(path: str) -> bool:
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", path))
    return any(
        segment.partition(";")[0] == ".." for segment in _SEPARATOR.split(plain) if ".." in segment
    )


def _decode(path: str) -> str:
    """One round of percent-decoding, UTF-8 where it is, latin-1 elsewhere."""
    path = _U_ESCAPE.sub(lambda match: chr(int(match[1], 16)), path)
    octets = unquote_to_bytes(path.encode("utf-8", "surrogatepass"))
    for pattern, plain in _OVERLONG:
        octets = pattern.sub(plain, octets)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _refused(name: str, what: str) -> Problem:
    return Problem(
        "bad_request",
        f"The {name} {what}",
        hint="Send the path normalised (no dot segments) and percent-encoded once",
        extra={"field": name},
    )
