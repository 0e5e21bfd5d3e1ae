"""The body of ``load``: rows for a table, as CSV, NDJSON or an Arrow stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal, Protocol

from attrs import frozen

from workato_tunnel.problems import Problem

from .results import Row
from .statements import TableName

LoadFormat = Literal["csv", "ndjson", "arrow"]
Conflict = Literal["error", "ignore", "update"]

MAX_ROW: Final = 128 * 1024 * 1024
"""Bytes of one row, as it is written in the body; of Arrow, of one message."""
BLOCK_BYTES: Final = 128 * 1024
"""As much is decoded at once."""
SMALL_BLOCK: Final = 8 * 1024
"""What is not worth the way to a thread."""


class LoadBody(Protocol):
    """Rows on their way in, read once and at the reader's pace: as bytes or decoded.

    :ivar format: of the bytes. CSV is RFC 4180 with a header line; an empty field is NULL and
        ``""`` an empty string, as in results.
    """

    format: LoadFormat

    async def columns(self) -> Sequence[str]:
        """The names that the body gives its columns. Called first; raises Problem."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it came, the CSV header included, after ``columns`` as well as without it."""
        ...

    def blocks(self) -> AsyncIterator[Sequence[Row]]:
        """The rows, some hundred at a time, each with a value for every one of ``columns``.

        Values are as parameters have them (:class:`~.bodies.Call`): of CSV str and None, whose
        type is the column's, where bytes are base64 text as in results; so is text of NDJSON. Of
        NDJSON and Arrow also Typed. Raises Problem with the row's number.
        """
        ...


@frozen
class Load:
    """Rows to be written.

    :ivar columns: where the body's columns go, in its order; None: to those of the same names.
    :ivar on_conflict: what becomes of a row whose keys are there already.
    :ivar keys: the columns that make a row the same; empty: the table's primary key.
    """

    table: TableName
    body: LoadBody
    columns: Sequence[str] | None = None
    on_conflict: Conflict = "error"
    keys: Sequence[str] = ()


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a body's columns. Raises Problem where one is empty or there twice."""
    for index, name in enumerate(names):
        if not name or "\0" in name:
            raise Problem(
                "bad_request",
                f"column {index + 1} of the body has no name",
                hint="name every column",
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Problem(
            "bad_request",
            f"the column {twice[0][:100]!r} is there twice in the body",
            hint="give every column a name of its own",
        )
    return tuple(names)
