"""Responses of the files service."""

from __future__ import annotations

import mimetypes
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote_from_bytes

import msgspec

from workato_tunnel.problems import Problem

from ...requests import Headers, Request, Response
from .conditions import Validators, http_date
from .confinement import Names, is_text, shown, text_of
from .filesystem import Facts

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Python's own table only: what the machine happens to have in /etc must not change an answer.
_TYPES: Final = mimetypes.MimeTypes()
_COMPRESSED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/octet-stream",
    "compress": "application/x-compress",
}
_OCTETS: Final = "application/octet-stream"


def json_response(request: Request, content: object) -> Response:
    """A JSON document; for HEAD only its head."""
    return encoded_response(request, msgspec.json.encode(content))


def encoded_response(request: Request, body: bytes) -> Response:
    """A document that is JSON already."""
    headers = (("content-type", "application/json"), ("content-length", str(len(body))))
    return Response(200, headers, b"" if request.method == "HEAD" else body)


def entry(names: Names, facts: Facts) -> dict[str, object]:
    """An entry of ``list`` and ``stat``.

    A path that is not UTF-8 is percent-encoded, ready for a URL, and marked ``encoded``.
    """
    readable = is_text(names)
    name = names[-1] if names else b""
    document: dict[str, object] = {
        "path": text_of(names),
        "name": name.decode() if readable else quote_from_bytes(name),
        "type": str(facts.kind),
        "size": facts.size,
        "created": None if facts.created is None else timestamp(facts.created),
        "modified": timestamp(facts.modified),
        "etag": facts.etag,
    }
    if not readable:
        document["encoded"] = True
    return document


def timestamp(nanoseconds: int) -> str | None:
    """ISO 8601 in UTC with microseconds; None for a time that no calendar has."""
    try:
        moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def content_type(names: Names) -> str:
    """The media type that a file's name tells.

    A compressed file is sent as what it is, without Content-Encoding: callers want its bytes.
    """
    name = names[-1].decode("utf-8", "replace")
    kind, compression = _TYPES.guess_type(f"/{name}", strict=True)
    if compression is not None:
        return _COMPRESSED.get(compression, _OCTETS)
    return kind or _OCTETS


def validator_fields(validators: Validators, now: float) -> Headers:
    """ETag and Last-Modified, the latter never in the future (RFC 9110, 8.8.2.1)."""
    fields: list[tuple[str, str]] = []
    if validators.etag is not None:
        fields.append(("etag", validators.etag))
    if 0 <= validators.modified <= now:
        fields.append(("last-modified", http_date(validators.modified)))
    return tuple(fields)


def precondition_failed(names: Names, current: Validators | None) -> Problem:
    """The problem of a request whose If-… fields do not hold."""
    there = "there is no such file" if current is None else f"its ETag is now {current.etag}"
    return Problem(
        "precondition_failed",
        f"{shown(names)}: {there}",
        hint="Read it again, decide anew, and send the ETag that you then have.",
        extra={"etag": None if current is None else current.etag},
    )
