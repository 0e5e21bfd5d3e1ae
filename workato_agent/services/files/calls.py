"""What a request asks of the files service, read once and checked before any file is touched."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

from ...requests import Request
from .confinement import MAX_PATH, Names, names_of
from .patterns import Pattern, compile_pattern

DEFAULT_LIMIT: Final = 1000
MAX_LIMIT: Final = 10_000
DEFAULT_SETTLE: Final = 2.0
SHORTEST_SETTLE: Final = 0.1
LONGEST_SETTLE: Final = 3600.0
_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")
_MAX_PARAMETERS: Final = 20
MAX_CHANGE: Final = 4 * MAX_PATH

_UPLOAD: Final = re.compile(r"[A-Za-z0-9._~-]{1,100}")

_OPERATIONS: Final = {
    ("", "GET"): "test",
    ("", "HEAD"): "test",
    ("content", "GET"): "read",
    ("content", "HEAD"): "read",
    ("content", "PUT"): "write",
    ("uploads", "GET"): "write",
    ("uploads", "HEAD"): "write",
    ("uploads", "DELETE"): "write",
    ("content", "DELETE"): "delete",
    ("list", "GET"): "list",
    ("list", "HEAD"): "list",
    ("stat", "GET"): "stat",
    ("stat", "HEAD"): "stat",
    ("watch", "GET"): "watch",
    ("append", "POST"): "append",
    ("move", "POST"): "move",
    ("copy", "POST"): "copy",
    ("folders", "POST"): "folders",
    ("csv", "POST"): "csv",
}
_FOLDERS: Final = ("list", "stat", "folders", "watch")
_WITHOUT_PATH: Final = ("", "move", "copy")


def operation_of(method: str, path: str) -> str:
    """The operation that a method and path ask for. Raises Problem ``operation_not_found``."""
    resource, slash, _ = path.partition("/")
    operation = _OPERATIONS.get((resource, method))
    if operation is None or (slash and resource in _WITHOUT_PATH):
        raise Problem(
            "operation_not_found",
            f"files have no {method} {resource[:100]!r}",
            hint="There are GET, HEAD, PUT and DELETE content/{path}, GET and DELETE "
            "uploads/{path}, GET list/{path}, stat/{path} and watch/{path}, POST append/{path}, "
            "csv/{path}, folders/{path}, move and copy, and GET without a path as a test.",
        )
    return operation


def path_of(request: Request, *, windows: bool) -> Names:
    """The names of the path that the request is about."""
    resource, _, rest = request.path.partition("/")
    return names_of(rest, trailing_slash=resource in _FOLDERS, windows=windows)


def parameters_of(request: Request, *allowed: str) -> dict[str, str]:
    """The query's parameters. Unknown, doubled or broken ones raise Problem ``bad_request``."""
    try:
        pairs = parse_qsl(
            request.query,
            keep_blank_values=True,
            strict_parsing=bool(request.query),
            errors="surrogateescape",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise _bad("query", f"the query is malformed: {error}") from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise _bad(name[:100], f"unknown parameter {name[:100]!r}; there are: {known}")
        if name in parameters:
            raise _bad(name, f"the parameter {name!r} is given twice")
        parameters[name] = value
    return parameters


class _ChangeBody(
    msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename={"source": "from"}
):
    """The body of ``move`` and ``copy``."""

    source: str
    to: str
    overwrite: bool = False
    encoded: bool = False


@frozen
class Change:
    """``move`` and ``copy``, from one path to another."""

    source: Names
    target: Names
    overwrite: bool

    @classmethod
    def of(cls, body: bytes, *, windows: bool) -> Change:
        """Read a JSON body. Raises Problem ``bad_request``, naming the member.

        Paths are plain text; with ``encoded`` they are percent-encoded, as for names that are no
        UTF-8.
        """
        try:
            decoded = msgspec.json.decode(body, type=_ChangeBody)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem(
                "bad_request",
                f"the body is not what is expected: {error}",
                hint='Send {"from": "a.csv", "to": "done/a.csv", "overwrite": false} as JSON.',
            ) from None
        paths = []
        for name, text in (("from", decoded.source), ("to", decoded.to)):
            if not text:
                raise _bad(name, f"{name}: the base folder itself can't be moved or copied")
            encoded = text if decoded.encoded else quote(text, errors="surrogatepass")
            paths.append(names_of(encoded, trailing_slash=True, windows=windows))
        return cls(paths[0], paths[1], decoded.overwrite)


@frozen
class PartParameters:
    """The query of a PUT whose body is a part of the file.

    :ivar upload: what the caller calls the upload; empty when it has only one to that path.
    :ivar complete: whether the file ends with this part.
    """

    offset: int
    upload: str
    complete: bool

    @classmethod
    def of(cls, request: Request) -> PartParameters | None:
        """None for a PUT of the whole file. Raises Problem ``bad_request``."""
        given = parameters_of(request, "offset", "upload", "complete")
        if not given:
            return None
        text = given.get("offset")
        if text is None or not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise _bad("offset", "offset is the number of bytes that have arrived, 0 at first")
        complete = "complete" not in given or boolean(given, "complete")
        return cls(int(text), _upload(given), complete)


def upload_of(request: Request) -> str:
    """What the caller of ``uploads`` calls its upload. Raises Problem ``bad_request``."""
    return _upload(parameters_of(request, "upload"))


def _upload(given: Mapping[str, str]) -> str:
    name = given.get("upload", "")
    if "upload" in given and not _UPLOAD.fullmatch(name):
        raise _bad("upload", "upload is a name of 1 to 100 letters, digits, '.', '_', '~' and '-'")
    return name


@frozen
class ListParameters:
    """The query of ``list``.

    :ivar after: the path that the cursor stands for.
    """

    pattern: Pattern | None
    recursive: bool
    limit: int
    after: bytes | None

    @classmethod
    def of(cls, request: Request) -> ListParameters:
        """Raises Problem ``bad_request``, naming the parameter."""
        given = parameters_of(request, "pattern", "recursive", "limit", "cursor")
        return cls(
            pattern=_pattern(given.get("pattern")),
            recursive=boolean(given, "recursive"),
            limit=_limit(given.get("limit")),
            after=_after(given.get("cursor")),
        )


@frozen
class WatchParameters:
    """The query of ``watch``.

    :ivar since: the mark that the cursor stands for; None is from now on.
    :ivar settle: seconds for which a file must not have changed before it is told.
    """

    pattern: Pattern | None
    recursive: bool
    settle: float
    since: tuple[int, bytes] | None

    @classmethod
    def of(cls, request: Request) -> WatchParameters:
        """Raises Problem ``bad_request``, naming the parameter."""
        given = parameters_of(request, "pattern", "recursive", "settle", "since")
        return cls(
            pattern=_pattern(given.get("pattern")),
            recursive=boolean(given, "recursive"),
            settle=_settle(given.get("settle")),
            since=_mark(given.get("since")),
        )


def mark_text(mark: tuple[int, bytes]) -> str:
    """A cursor of ``watch`` for the caller."""
    return _opaque(b"2%d:%b" % mark)


def _mark(cursor: str | None) -> tuple[int, bytes] | None:
    if cursor is None:
        return None
    moment, colon, path = _raw(cursor).removeprefix(b"2").partition(b":")
    if not (_raw(cursor).startswith(b"2") and colon and moment.isdigit() and len(moment) < 20):
        raise _bad("since", "the cursor is none that a watch has given")
    return int(moment), path


def _settle(text: str | None) -> float:
    if text is None:
        return DEFAULT_SETTLE
    if not _SECONDS.fullmatch(text) or not SHORTEST_SETTLE <= float(text) <= LONGEST_SETTLE:
        raise _bad(
            "settle",
            f"settle is a number of seconds from {SHORTEST_SETTLE:g} to {LONGEST_SETTLE:g}",
        )
    return float(text)


def _opaque(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""


def cursor_text(after: bytes) -> str:
    """A cursor for the caller: opaque to it, and safe in a URL."""
    return _opaque(b"1" + after)


def _after(cursor: str | None) -> bytes | None:
    if cursor is None:
        return None
    raw = _raw(cursor)
    if not raw.startswith(b"1"):
        raise _bad("cursor", "the cursor is none that a list has given")
    return raw[1:]


def _pattern(text: str | None) -> Pattern | None:
    if text is None:
        return None
    try:
        return compile_pattern(text)
    except ValueError as error:
        raise _bad("pattern", str(error)) from None


def boolean(given: Mapping[str, str], name: str) -> bool:
    """A parameter that is ``true`` or ``false``; false where it is absent."""
    value = given.get(name, "false")
    if value not in ("true", "false"):
        raise _bad(name, f"{name} is 'true' or 'false', not {value[:100]!r}")
    return value == "true"


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MAX_LIMIT):
        raise _bad("limit", f"limit is a number from 1 to {MAX_LIMIT}, not {text[:100]!r}")
    return int(text)


def content_length(request: Request) -> int | None:
    """The Content-Length, where the caller sent one. Raises Problem ``bad_request``."""
    text = request.header("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise _bad("content-length", f"Content-Length is no number of bytes: {text[:100]!r}")
    return int(text)


def refuse_partial(request: Request) -> None:
    """A PUT that means less, or other, than the bytes of the whole file. Raises ``bad_request``."""
    if request.header("content-range") is not None:
        raise _bad("content-range", "a PUT replaces the whole file; Content-Range is not taken")
    if (request.header("content-encoding") or "identity").strip().lower() != "identity":
        raise _bad(
            "content-encoding", "files are stored as they come; send without Content-Encoding"
        )


def _bad(field: str, detail: str) -> Problem:
    return Problem(
        "bad_request",
        detail,
        hint="See the files section of the HTTP API.",
        extra={"field": field},
    )
