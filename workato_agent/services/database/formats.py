"""The formats in which results can be had, and which of them a caller wants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

from .results import CsvWriter, JsonWriter, NdjsonWriter, Writer
from .results_arrow import ArrowWriter
from .results_msgpack import MsgpackWriter

WriterClass = (
    type[JsonWriter]
    | type[NdjsonWriter]
    | type[CsvWriter]
    | type[MsgpackWriter]
    | type[ArrowWriter]
)
WRITERS: Final[Mapping[str, WriterClass]] = {
    writer.media_type: writer
    for writer in (JsonWriter, NdjsonWriter, CsvWriter, MsgpackWriter, ArrowWriter)
}
"""By media type; the first is what a caller gets who doesn't mind."""
ALIASES: Final[Mapping[str, str]] = {
    "application/msgpack": MsgpackWriter.media_type,
    "application/x-msgpack": MsgpackWriter.media_type,
    "application/jsonl": NdjsonWriter.media_type,
    "application/ndjson": NdjsonWriter.media_type,
}
"""Other names of the same."""
DOCUMENTS: Final = (JsonWriter.media_type, MsgpackWriter.media_type)
"""The formats of answers that are one document."""


@frozen
class _Range:
    media_type: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """How closely this range covers a type: 0 not at all, 3 by name."""
        if self.media_type == media_type:
            return 3
        if self.media_type == media_type.partition("/")[0] + "/*":
            return 2
        return int(self.media_type == "*/*")


def negotiate(accept: str | None) -> Writer:
    """The writer for an ``Accept`` field (RFC 9110, 12.5.1); JSON where the caller doesn't mind.

    Raises Problem ``bad_request`` that names the formats there are.
    """
    wanted = _best(accept, WRITERS)
    if wanted is None:
        raise Problem(
            "bad_request",
            f"no result format covers Accept: {accept!r}",
            hint=f"ask for one of {', '.join(WRITERS)}",
            extra={"field": "Accept"},
        )
    return WRITERS[wanted]()


def document(accept: str | None) -> str:
    """The media type for an answer that is one document: MessagePack where it is preferred."""
    return _best(accept, DOCUMENTS) or JsonWriter.media_type


def _best(accept: str | None, offered: Iterable[str]) -> str | None:
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best, best_quality = None, 0.0
    for media_type in offered:
        covering = [(each.specificity(media_type), each.quality) for each in ranges]
        specificity, quality = max(covering, default=(0, 0.0))
        if specificity and quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _range(text: str) -> _Range:
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            match = re.fullmatch(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", value.strip())
            quality = float(match[0]) if match else 0.0
    return _Range(ALIASES.get(media_type, media_type), quality)
