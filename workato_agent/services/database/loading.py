"""The body of ``load``: rows for a table, as CSV, NDJSON or an Arrow stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from attrs import frozen

from .results import Row
from .statements import TableName

LoadFormat = Literal["csv", "ndjson", "arrow"]
Conflict = Literal["error", "ignore", "update"]


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

        Values are as parameters have them (:class:`~.parameters.Call`): of CSV str and None, whose
        type is the column's; of Arrow also Typed. Raises Problem with the row's number.
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
