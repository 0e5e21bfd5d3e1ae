"""Searches as their callers get them: JSON or NDJSON, encoded as the entries come."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import ClassVar, Final, Protocol

import msgspec
from attrs import define, field

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .directory import Search
from .guard import Guard
from .replies import Entry, Reference
from .values import shown

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_ALIASES: Final = {"application/ndjson": NDJSON, "application/jsonl": NDJSON}
MOST_REFERRALS: Final = 1000
"""That a document tells; NDJSON tells all."""
_CHUNK: Final = 64 * 1024
_encoder: Final = msgspec.json.Encoder()


class Writer(Protocol):
    """Encodes one search, piece by piece."""

    media_type: ClassVar[str]

    def head(self) -> bytes: ...

    def entry(self, document: dict[str, object], *, first: bool) -> bytes: ...

    def referral(self, urls: tuple[str, ...]) -> bytes: ...

    def tail(self, count: int, *, truncated: bool) -> bytes: ...

    def failure(self, problem: Problem, request_id: str) -> bytes:
        """The last item of a body that can't be completed; empty where there is no place for it."""
        ...


@define
class JsonWriter:
    """One document: the entries, how many, whether some were left out, and referrals."""

    media_type: ClassVar[str] = JSON
    _referrals: list[str] = field(factory=list)

    def head(self) -> bytes:
        return b'{"entries":['

    def entry(self, document: dict[str, object], *, first: bool) -> bytes:
        return (b"" if first else b",") + _encoder.encode(document)

    def referral(self, urls: tuple[str, ...]) -> bytes:
        self._referrals += urls[: MOST_REFERRALS - len(self._referrals)]
        return b""

    def tail(self, count: int, *, truncated: bool) -> bytes:
        rest = {"entry_count": count, "truncated": truncated, "referrals": self._referrals}
        return b"]," + _encoder.encode(rest)[1:]

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return b""


class NdjsonWriter:
    """An entry a line; referrals, and that entries were left out, have lines of their own."""

    media_type: ClassVar[str] = NDJSON

    def head(self) -> bytes:
        return b""

    def entry(self, document: dict[str, object], *, first: bool) -> bytes:
        return _encoder.encode(document) + b"\n"

    def referral(self, urls: tuple[str, ...]) -> bytes:
        return _encoder.encode({"referrals": urls}) + b"\n"

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return b'{"truncated":true}\n' if truncated else b""

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return problem.body(request_id) + b"\n"


def negotiate(request: Request) -> Writer:
    """The writer for a call's ``Accept`` (RFC 9110, 12.5.1); JSON where the caller doesn't mind.

    Raises Problem ``bad_request``.
    """
    accept = ",".join(value for name, value in request.headers if name == "accept") or "*/*"
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best: tuple[float, str] = (0.0, "")
    for offered in (JSON, NDJSON):
        major = offered.partition("/")[0]
        for kind in (offered, f"{major}/*", "*/*"):
            quality = next((each for name, each in ranges if name == kind), None)
            if quality is not None:
                if quality > best[0]:
                    best = (quality, offered)
                break
    if not best[1]:
        raise Problem(
            "bad_request",
            f"no format covers Accept: {accept[:200]!r}",
            hint=f"ask for {JSON} or {NDJSON}",
            extra={"field": "Accept"},
        )
    return JsonWriter() if best[1] == JSON else NdjsonWriter()


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        match = re.fullmatch(r"q *= *(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", parameter)
        if match:
            quality = float(match[1])
    return _ALIASES.get(name, name), quality


async def search_response(
    request: Request,
    search: Search,
    writer: Writer,
    guard: Guard,
    binary: frozenset[str],
) -> Response:
    """A search's answer: whole where it is small, else as it is found."""
    request.usage.rows = 0
    body = EntryBody(request, search, writer, guard, binary)
    try:
        await body.fill()
    except BaseException:
        search.close()
        raise
    headers = (("content-type", writer.media_type),)
    if body.complete:
        return Response(200, headers, body.take())
    return Response(200, headers, body)


@define(eq=False)
class EntryBody:
    """The body of an answer. Entries are taken from the search as the caller takes the body.

    :ivar complete: the search is over, and its end is in what was encoded.
    """

    _request: Request
    _search: Search
    _writer: Writer
    _guard: Guard
    _binary: frozenset[str]
    complete: bool = False
    _parts: list[bytes] = field(factory=list)
    _size: int = 0
    _total: int = 0
    _count: int = 0
    _problem: Problem | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts and not self.complete and self._problem is None:
            try:
                await self.fill()
            except Problem as problem:
                self._problem = problem
                self._add(self._writer.failure(problem, self._request.request_id))
        if self._parts:
            return self.take()
        if self._problem is not None:
            raise self._problem
        raise StopAsyncIteration

    def take(self) -> bytes:
        """What was encoded."""
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        return data

    async def aclose(self) -> None:
        """Stop searching. Idempotent."""
        self._search.close()

    async def fill(self) -> None:
        """Encode a chunk of about 64 KiB, or less where the search ends."""
        most = self._guard.policy.max_bytes
        if not self._total:
            self._add(self._writer.head())
        while self._size < _CHUNK:
            item = await self._search.next()
            if item is None:
                self._finish(truncated=self._search.more)
                return
            encoded = self._encoded(item)
            if most is not None and self._total + len(encoded) > most:
                self._search.close()
                self._finish(truncated=True)
                return
            if isinstance(item, Entry):
                self._count += 1
                self._request.usage.rows = self._count
            self._add(encoded)

    def _encoded(self, item: Entry | Reference) -> bytes:
        if isinstance(item, Entry):
            return self._writer.entry(self._document(item), first=not self._count)
        return self._writer.referral(item.urls)

    def _finish(self, *, truncated: bool) -> None:
        self.complete = True
        self._add(self._writer.tail(self._count, truncated=truncated))

    def _document(self, entry: Entry) -> dict[str, object]:
        attributes = {
            name: shown(name, values, self._binary)
            for name, values in entry.attributes
            if self._guard.shows(name)
        }
        return {"dn": entry.dn, "attributes": attributes}

    def _add(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
            self._total += len(data)
