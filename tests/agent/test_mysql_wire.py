"""MySQL's packets without a server: rows in any pieces, and bytes that are no packets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from pymysql import err
from pymysql.constants import FIELD_TYPE
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.mysql_results import BinaryRows, TextRows
from workato_agent.services.database.adapters.mysql_values import column_of, converter
from workato_agent.services.database.adapters.mysql_wire import (
    Field,
    Inbox,
    Wire,
    lenenc,
    lenenc_encoded,
)

FEW = settings(max_examples=80, deadline=None, database=None)
END = b"\xfe\0\0\x22\0"
TEXT = Field("t", FIELD_TYPE.VAR_STRING, 45, 400, 0, 0)
BYTES = Field("b", FIELD_TYPE.BLOB, 63, 400, 16, 0)


def packets(bodies: Sequence[bytes]) -> bytes:
    parts = []
    number = 1
    for body in bodies:
        while True:
            piece, body = body[: 2**24 - 1], body[2**24 - 1 :]
            parts.append(len(piece).to_bytes(3, "little") + bytes((number & 0xFF,)) + piece)
            number += 1
            if len(piece) < 2**24 - 1:
                break
    return b"".join(parts)


class _Arriving(socket.socket):
    """Gives what it holds in pieces of a size."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._left = memoryview(data)
        self._size = size

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        taken = min(self._size, bufsize)
        piece, self._left = self._left[:taken], self._left[taken:]
        return bytes(piece)

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def wire_with(data: bytes, size: int = 1 << 20) -> Wire:
    wire = Wire(extended=False, user="x", password=b"", host="h", ssl_disabled=True)
    sock = _Arriving(data, size)
    wire._sock = sock
    wire.inbox = Inbox(sock)
    wire._rfile = wire.inbox
    wire._current_timeout = wire._read_timeout
    return wire


VALUES = st.one_of(st.none(), st.binary(max_size=20), st.binary(min_size=250, max_size=300))


class Rows(SynchronousTestCase):
    def test_rows_come_as_they_were_sent_whatever_the_pieces(self) -> None:
        @FEW
        @given(
            st.lists(st.tuples(VALUES, VALUES), max_size=30), st.integers(1, 400), st.integers(1, 9)
        )
        def check(rows: list[tuple[bytes | None, bytes | None]], size: int, at_a_time: int) -> None:
            bodies = [
                b"".join(b"\xfb" if value is None else lenenc_encoded(value) for value in row)
                for row in rows
            ]
            wire = wire_with(packets([*bodies, END]), size)
            reader = TextRows(wire, (BYTES, BYTES))
            found = []
            while block := reader.thd_read(at_a_time, 1 << 20):
                self.assertLessEqual(len(block), at_a_time)
                found += converter((BYTES, BYTES), "native")(block)
            self.assertEqual(found, [tuple(row) for row in rows])
            self.assertTrue(reader.ended)
            self.assertEqual(wire.status, 0x22)
            wire._sock.close()

        check()

    def test_a_value_of_several_packets(self) -> None:
        for size in (2**24 - 5, 2**24 + 3):
            value = b"x" * size
            body = lenenc_encoded(value) + b"\xfb"
            for piece in (1 << 20, 1 << 30):
                wire = wire_with(packets([body, body, END]), piece)
                reader = TextRows(wire, (TEXT, TEXT))
                rows = [*reader.thd_read(1, 9), *reader.thd_read(9, 1 << 30)]
                reader.thd_read(1, 1)
                self.assertEqual([len(row[0]) for row in rows], [size, size])  # type: ignore[arg-type]
                self.assertTrue(reader.ended)
                wire._sock.close()

    def test_any_bytes_are_rows_or_an_error(self) -> None:
        fields = (
            TEXT, Field("d", FIELD_TYPE.DATETIME, 63, 19, 0, 6),
            Field("i", FIELD_TYPE.LONG, 63, 9, 0, 0),
            Field("f", FIELD_TYPE.FLOAT, 63, 9, 0, 31), Field("t", FIELD_TYPE.TIME, 63, 9, 0, 0),
        )  # fmt: skip

        @settings(FEW, max_examples=150)
        @given(st.binary(max_size=200), st.booleans(), st.booleans())
        def check(data: bytes, framed: bool, binary: bool) -> None:
            wire = wire_with(packets([data, END]) if framed else data)
            reader = (BinaryRows if binary else TextRows)(wire, fields)
            try:
                for _ in range(300):
                    if not reader.thd_read(10, 100):
                        break
            except (err.MySQLError, UnicodeDecodeError):
                return
            finally:
                wire._sock.close()

        check()

    def test_any_bytes_are_an_answer_or_an_error(self) -> None:
        @settings(FEW, max_examples=150)
        @given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
        def check(bodies: list[bytes], prepared: bool) -> None:
            for extended in (False, True):
                wire = wire_with(
                    packets([b"\x01", *bodies]) if len(bodies) > 2 else packets(bodies)
                )
                wire.extended = extended
                wire._next_seq_id = 1
                try:
                    wire._thd_prepared() if prepared else wire.thd_answer()
                except (err.MySQLError, IndexError) as error:
                    if isinstance(error, IndexError):
                        self.assertTrue(prepared)
                finally:
                    wire._force_close()

        check()

    def test_lengths(self) -> None:
        for size in (0, 250, 251, 65535, 65536, 2**24 - 1, 2**24):
            encoded = lenenc_encoded(bytes(size))
            found, at = lenenc(encoded, 0)
            self.assertEqual((found, len(encoded) - at), (size, size))
        for data in (b"\xff", b"\xfb", b"\xfc\0", b"\xfe\0\0\0\0\0\0\0"):
            with self.assertRaises(err.InternalError):
                lenenc(data, 0)

    def test_a_connection_can_be_cut_from_another_thread(self) -> None:
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        wire = wire_with(b"")
        wire._sock.close()
        wire._sock = near
        wire.inbox = Inbox(near)
        failed: list[BaseException] = []

        def thd_read() -> None:
            try:
                wire.inbox.fill()
            except err.MySQLError as error:
                failed.append(error)

        reading = threading.Thread(target=thd_read, daemon=True)
        reading.start()
        wire.thd_shut()
        reading.join(5)
        self.assertEqual(len(failed), 1)
        wire.thd_end()
        wire.thd_end()
        wire.thd_shut()

    def test_decimals_precision(self) -> None:
        for length, scale, flags, wanted in (
            (12, 2, 0, (10, 2)), (11, 0, 0, (10, 0)), (10, 0, 32, (10, 0)), (67, 30, 0, (65, 30)),
            (0, 0, 0, (None, None)), (99, 31, 0, (None, None)),
        ):  # fmt: skip
            column = column_of(Field("d", FIELD_TYPE.NEWDECIMAL, 63, length, flags, scale))
            self.assertEqual((column.precision, column.scale), wanted)
