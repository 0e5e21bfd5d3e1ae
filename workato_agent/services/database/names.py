"""Names of tables and procedures as callers write them in a path."""

from __future__ import annotations

import re
from typing import Final

from workato_tunnel.problems import Problem

from .statements import TableName

LONGEST: Final = 512
_PART: Final = r'("(?:[^"\0]|"")+"|[^".\0]+)'
_NAME: Final = re.compile(rf"{_PART}(?:\.{_PART})?")


def parse_name(text: str, field: str) -> TableName:
    """``name``, ``schema.name``; a part that holds a dot or a quote is in double quotes.

    Case and all else are taken as they are: names are not folded as SQL does it.
    Raises Problem ``bad_request``.
    """
    match = _NAME.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise Problem(
            "bad_request",
            f"{text[:100]!r} is no name",
            hint='write name or schema.name; a part with a dot in it in quotes: "a.b".name',
            extra={"field": field},
        )
    first, second = match.groups()
    if second is None:
        return TableName(None, _plain(first))
    return TableName(_plain(first), _plain(second))


def _plain(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
