"""Preconditions of a request (RFC 9110, section 13), decided without touching a file."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_tz
from enum import Enum
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ...requests import Headers

_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_SEPARATOR: Final = re.compile(r"[ \t]*(?:,[ \t]*)+")
ANY: Final = ("*",)


class Verdict(Enum):
    """What the preconditions make of a request."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


@frozen
class Validators:
    """What a representation is recognised by.

    :ivar etag: strong and quoted; None for what has none, as a folder.
    :ivar modified: Unix seconds, whole, as Last-Modified tells them.
    """

    etag: str | None
    modified: int


@frozen
class Conditions:
    """The precondition fields of one request. Dates are Unix seconds; tags are kept as sent."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None
    if_range: str | None = None

    @classmethod
    def of(cls, headers: Headers) -> Conditions:
        """Read the fields. Raises Problem ``bad_request`` for malformed entity tags.

        A malformed date is ignored, as 13.1.3 and 13.1.4 demand.
        """
        return cls(
            if_match=_tags(headers, "if-match"),
            if_none_match=_tags(headers, "if-none-match"),
            if_modified_since=_date(_field(headers, "if-modified-since")),
            if_unmodified_since=_date(_field(headers, "if-unmodified-since")),
            if_range=_field(headers, "if-range"),
        )

    def verdict(self, current: Validators | None, *, reading: bool) -> Verdict:
        """Decide in the order of section 13.2.2.

        :param current: of what is there now; None when there is nothing.
        :param reading: GET or HEAD, for which "not modified" is an answer.
        """
        if self.if_match is not None:
            if not _matches(self.if_match, current, weak=False):
                return Verdict.FAILED
        elif (
            self.if_unmodified_since is not None
            and current is not None
            and current.modified > self.if_unmodified_since
        ):
            return Verdict.FAILED
        unchanged = Verdict.NOT_MODIFIED if reading else Verdict.FAILED
        if self.if_none_match is not None:
            if _matches(self.if_none_match, current, weak=True):
                return unchanged
        elif (
            reading
            and self.if_modified_since is not None
            and current is not None
            and current.modified <= self.if_modified_since
        ):
            return unchanged
        return Verdict.PROCEED

    def range_applies(self, current: Validators, now: float) -> bool:
        """Whether a Range is to be honoured (If-Range, 13.1.5).

        A date counts only when it is the exact one and old enough to be a strong validator:
        a file can change twice within the second that a date tells (8.8.2.2).
        """
        if self.if_range is None:
            return True
        if self.if_range.startswith(('"', "W/")):
            return self.if_range == current.etag
        return _date(self.if_range) == current.modified and now - current.modified > 1


def http_date(seconds: int) -> str:
    """Unix seconds as an HTTP date (5.6.7)."""
    return formatdate(seconds, usegmt=True)


def _matches(tags: tuple[str, ...], current: Validators | None, *, weak: bool) -> bool:
    if current is None:
        return False
    if tags == ANY:
        return True
    if weak:
        tags = tuple(tag.removeprefix("W/") for tag in tags)
    return current.etag in tags


def _field(headers: Headers, name: str) -> str | None:
    return next((value.strip() for key, value in headers if key == name), None)


def _tags(headers: Headers, name: str) -> tuple[str, ...] | None:
    lines = [value.strip() for key, value in headers if key == name]
    if not lines:
        return None
    value = ",".join(lines).strip(" \t,")
    if value == "*":
        return ANY
    tags: list[str] = []
    at = 0
    while match := _ETAG.match(value, at):
        tags.append(match[0])
        at = match.end()
        if at == len(value):
            return tuple(tags)
        separator = _SEPARATOR.match(value, at)
        if separator is None:
            break
        at = separator.end()
    raise Problem(
        "bad_request",
        f"{name} holds no list of entity tags: {value[:100]!r}",
        hint='Send entity tags as they were given, with their quotes: "…", or *.',
        extra={"field": name},
    )


def _date(value: str | None) -> int | None:
    """Unix seconds of an HTTP date in any of the three forms; None for anything else."""
    parsed = None if value is None else parsedate_tz(value)
    if parsed is None or parsed[9]:
        return None
    try:
        return int(datetime(*parsed[:6], tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        return None
