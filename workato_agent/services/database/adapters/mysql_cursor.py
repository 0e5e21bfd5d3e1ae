"""A statement that has been run on MySQL: its results, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pymysql import err

from ..results import Column, Row, ValueForm
from .mysql_results import BinaryRows, TextRows
from .mysql_values import column_of, converter
from .mysql_wire import STATUS_MORE_RESULTS, STATUS_OUT_PARAMETERS, Answer, Field, Prepared, Wire

_SKIPPED_BYTES: Final = 2 * 1024 * 1024
_INTERRUPTED: Final = (1317, 1028, 1969, 3024)
_BLOCK: Final = 256 * 1024


class Owner(Protocol):
    """The connection, as its cursors see it."""

    wire: Wire

    def thd_working(self, step: Callable[[], object]) -> object:
        """Run a step that waits for the server, so that it can be stopped."""
        ...

    def thd_interrupt(self) -> None:
        """Have the server stop what it sends."""
        ...

    def done(self, cursor: MysqlCursor) -> None:
        """A cursor has been read to its end."""
        ...


class MysqlCursor:
    """Results are read as they are asked for; the server waits meanwhile.

    :ivar columns: of the current result's rows.
    :ivar changed: rows changed by a statement without rows.
    :ivar out: values of OUT parameters, when they have come.
    """

    def __init__(
        self, owner: Owner, answer: Answer, prepared: Prepared | None, *, stoppable: bool
    ) -> None:
        self._owner = owner
        self._prepared = prepared
        self._stoppable = stoppable
        self._converters: dict[ValueForm, Callable[[Sequence[Row]], Sequence[Row]]] = {}
        self.out: dict[str, object] = {}
        self.columns: Sequence[Column] = ()
        self.changed: int | None = None
        self._fields: Sequence[Field] = ()
        self._rows: TextRows | BinaryRows | None = None
        self._closed = False
        self._begin(answer)

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        reader = self._rows
        if reader is None or reader.ended:
            return ()
        found: list[Row] = []

        def read() -> None:
            found.extend(reader.thd_read(rows, size))

        self._owner.thd_working(read)
        return found

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        convert = self._converters.get(form)
        if convert is None:
            convert = self._converters[form] = converter(self._fields, form)
        return convert(rows)

    def thd_next(self) -> bool:
        """Go to the next result that has rows or, at the end of a procedure, has none to show."""
        while True:
            self._thd_skip()
            if not self._owner.wire.status & STATUS_MORE_RESULTS:
                return False
            self._owner.thd_working(lambda: self._begin(self._owner.wire.thd_answer()))
            if self._owner.wire.status & STATUS_OUT_PARAMETERS and self._fields:
                self.thd_take_out()
                continue
            if self._fields:
                return True

    def thd_first(self) -> bool:
        """Whether there is a result to show, the one that was begun with or a later one."""
        wire = self._owner.wire
        if self._fields and not wire.status & STATUS_OUT_PARAMETERS:
            return True
        if self._fields:
            self.thd_take_out()
        return self.thd_next()

    def thd_take_out(self) -> None:
        """Read the result that holds the OUT parameters."""
        names = [field.name for field in self._fields]
        for row in self.convert(self.thd_read(1, _BLOCK), "json"):
            self.out.update(zip(names, row, strict=True))

    def thd_close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            while self._owner.wire.open and self.thd_next():
                continue
        finally:
            if self._prepared is not None and self._owner.wire.open:
                self._owner.wire.thd_forget(self._prepared)
            self._owner.done(self)

    def _begin(self, answer: Answer) -> None:
        self._fields = answer.fields
        self._converters = {}
        self.columns = [column_of(field) for field in answer.fields]
        self._rows = None
        if not answer.fields:
            self.changed = answer.changed
            return
        self.changed = None
        rows = TextRows if self._prepared is None else BinaryRows
        self._rows = rows(self._owner.wire, answer.fields)

    def _thd_skip(self) -> None:
        """Read on to the result's end; a query that has much left to send is interrupted."""
        skipped = 0
        interrupted = False
        rows = self._rows
        while rows is not None and not rows.ended:
            try:
                self.thd_read(1_000_000, _BLOCK)
            except err.Error as error:
                if interrupted and error.args[0] in _INTERRUPTED:
                    break
                raise
            skipped += _BLOCK
            if skipped > _SKIPPED_BYTES and self._stoppable and not interrupted:
                interrupted = True
                self._owner.thd_interrupt()
        if interrupted:
            self._thd_absorb()

    def _thd_absorb(self) -> None:
        """An interruption that came too late would hit the next statement: here is one for it."""
        wire = self._owner.wire
        wire.status &= ~STATUS_MORE_RESULTS
        try:
            wire.thd_query("DO 0")
        except err.Error as error:
            if error.args[0] not in _INTERRUPTED:
                raise
