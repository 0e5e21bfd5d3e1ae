"""A small server of SQL Server's protocol, TDS 7.4 (MS-TDS), with SQLite behind it.

It knows logging in, batches, prepared statements, transactions, errors and attention: what ODBC
drivers need for statements with parameters. Its SQL is SQLite's, but for a few of T-SQL's words.
"""

from __future__ import annotations

import re
import select
import socket
import sqlite3
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from .tds_types import ColumnType, Reader, b_varchar, declared, of_value, us_varchar

USER: Final = "sa"
PASSWORD: Final = "s3cret;ö={[x]*"
DATABASE: Final = "sales"

_PRELOGIN, _LOGIN, _BATCH, _RPC, _ATTENTION, _TRANSACTION = 0x12, 0x10, 0x01, 0x03, 0x06, 0x0E
_DONE, _DONE_IN_PROC, _DONE_PROC = 0xFD, 0xFF, 0xFE
_MORE, _ERROR, _COUNT, _ATTENTION_SEEN = 0x01, 0x02, 0x10, 0x20
_EXECUTE_SQL, _PREPARE, _EXECUTE, _PREPARE_EXECUTE, _UNPREPARE = 10, 11, 12, 13, 15
_PROCEDURES: Final = {"sp_executesql": 10, "sp_prepare": 11, "sp_execute": 12, "sp_prepexec": 13,
                      "sp_unprepare": 15}  # fmt: skip
_BEGIN, _COMMIT, _ROLLBACK = 5, 7, 8
_NUMBERS: Final = (
    ("syntax error|incomplete input|unrecognized token", 102, 15),
    ("no such table", 208, 16),
    ("no such column|has no column", 207, 16),
    ("UNIQUE constraint", 2627, 14),
    ("NOT NULL constraint", 515, 16),
    ("FOREIGN KEY|CHECK constraint", 547, 16),
)
_CASTS: Final = re.compile(
    r"CAST\((@?\w+|\?) AS (?:date|time\(7\)|datetime2\(7\)|datetimeoffset\(7\)|uniqueidentifier)\)"
)
_PACKET: Final = 4088
_END: Final = re.compile(r"(?:;|\s|--[^\n]*(?=\n|$))*$")
_IGNORED: Final = re.compile(r"\s*(?:SET\s|USE\s|IF\s@@TRANCOUNT)", re.IGNORECASE)


class _Interrupted(Exception):
    """Attention was sent, or the client has gone."""


@define
class TdsServer:
    """It listens on ``port`` of 127.0.0.1.

    :ivar running: the statements that run now.
    :ivar refuse_login: number of the error that every login gets; None lets :data:`USER` in.
    """

    port: int
    _listener: socket.socket
    _folder: Any
    running: list[str] = field(factory=list)
    refuse_login: tuple[int, str] | None = None
    sockets: list[socket.socket] = field(factory=list)

    @classmethod
    def start(cls) -> TdsServer:
        """A server with an empty database."""
        listener = socket.create_server(("127.0.0.1", 0))
        folder = tempfile.TemporaryDirectory(prefix="onprem-tds-")
        server = cls(listener.getsockname()[1], listener, folder)
        with sqlite3.connect(server.file) as connection:
            connection.execute("pragma journal_mode = wal")
        threading.Thread(target=server._thd_accept, daemon=True).start()
        return server

    @property
    def file(self) -> Path:
        """The database's file."""
        return Path(self._folder.name) / "tds.db"

    def close(self) -> None:
        """End it and all its connections."""
        self._listener.close()
        self.end_connections()
        self._folder.cleanup()

    def end_connections(self) -> None:
        """Hang up on everybody."""
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _thd_accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.sockets.append(link)
            threading.Thread(target=self._thd_serve, args=(link,), daemon=True).start()

    def _thd_serve(self, link: socket.socket) -> None:
        connection = _Connection(self, link)
        try:
            connection.thd_serve()
        except (OSError, _Interrupted):
            pass
        finally:
            connection.thd_close()


@define
class _Connection:
    server: TdsServer
    link: socket.socket
    _database: Any = None
    _statements: dict[int, str] = field(factory=dict)
    _out: bytearray = field(factory=bytearray)

    def thd_serve(self) -> None:
        while (message := self._thd_message()) is not None:
            kind, data = message
            if kind == _PRELOGIN:
                self._prelogin()
            elif kind == _LOGIN:
                if not self._login(data):
                    self._flush()
                    return
            elif kind == _ATTENTION:
                self._done(_DONE, _ATTENTION_SEEN)
            else:
                self._work(kind, Reader(data))
            self._flush()

    def thd_close(self) -> None:
        """Hang up; what was not committed is undone."""
        self.link.close()
        if self._database is not None:
            # A statement that is not finished would keep the transaction beyond closing.
            self._database.rollback()
            self._database.close()

    def _thd_message(self) -> tuple[int, bytes] | None:
        data = b""
        while True:
            head = self._thd_exactly(8)
            if head is None:
                return None
            data += self._thd_exactly(struct.unpack(">H", head[2:4])[0] - 8) or b""
            if head[1] & 1:
                return head[0], data

    def _thd_exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            piece = self.link.recv(count - len(data))
            if not piece:
                return None
            data += piece
        return data

    def _flush(self, *, last: bool = True) -> None:
        while len(self._out) >= _PACKET or (last and self._out):
            piece = bytes(self._out[:_PACKET])
            del self._out[:_PACKET]
            status = 1 if last and not self._out else 0
            self.link.sendall(struct.pack(">BBHHBB", 4, status, len(piece) + 8, 0, 1, 0) + piece)

    def _prelogin(self) -> None:
        # VERSION, and ENCRYPTION: not supported.
        self._out += bytes.fromhex("0000 0b 0006 01 0011 0001 ff".replace(" ", ""))
        self._out += bytes.fromhex("0f0007d00000" + "02")

    def _login(self, data: bytes) -> bool:
        def text(at: int) -> bytes:
            start, count = struct.unpack_from("<HH", data, at)
            return data[start : start + 2 * count]

        user = text(40).decode("utf-16-le")
        password = bytes(
            ((each ^ 0xA5) << 4 | (each ^ 0xA5) >> 4) & 0xFF for each in text(44)
        ).decode("utf-16-le")
        database = text(68).decode("utf-16-le") or DATABASE
        refused = self.server.refuse_login
        if refused is None and (user, password) != (USER, PASSWORD):
            refused = (18456, f"Login failed for user '{user}'.")
        if refused is None and database != DATABASE:
            refused = (4060, f'Cannot open database "{database}" requested by the login.')
        if refused is not None:
            self._error(*refused, 14)
            self._done(_DONE, _ERROR)
            return False
        self._database = sqlite3.connect(
            self.server.file, isolation_level=None, check_same_thread=False, timeout=10
        )
        for name, answer in (("DB_NAME", DATABASE), ("SUSER_SNAME", USER)):
            self._database.create_function(name, 0, lambda answer=answer: answer)
        self._database.create_function("SERVERPROPERTY", 1, lambda _: "16.0.1000.6")
        self._environment(1, b_varchar(DATABASE), b_varchar("master"))
        body = b"\x01" + bytes.fromhex("74000004") + b_varchar("Microsoft SQL Server")
        body += bytes([16, 0, 3, 232])
        self._out += b"\xad" + struct.pack("<H", len(body)) + body
        self._environment(4, b_varchar("4096"), b_varchar("4096"))
        self._done(_DONE, 0)
        return True

    def _work(self, kind: int, reader: Reader) -> None:
        reader.skip_headers()
        final = _DONE_PROC if kind == _RPC else _DONE
        try:
            if kind == _BATCH:
                self._run(reader.data[reader.at :].decode("utf-16-le"), {}, _DONE)
            elif kind == _RPC:
                self._call(reader)
            elif kind == _TRANSACTION:
                self._transaction(reader)
            else:
                raise sqlite3.OperationalError(f"syntax error: request {kind:#x}")
        except _Interrupted:
            self._done(_DONE, _ATTENTION_SEEN)
        except sqlite3.Error as error:
            self._tell(error)
            self._done(final, _ERROR)

    def _call(self, reader: Reader) -> None:
        length = reader.number("H")
        if length == 0xFFFF:
            procedure = reader.number("H")
        else:
            name = reader.text(length)
            procedure = _PROCEDURES.get(name.lower(), 0)
        reader.number("H")
        values: list[tuple[str, object]] = []
        while reader.more:
            values.append(reader.parameter())
        plain = [value for _, value in values]
        if procedure == _EXECUTE_SQL:
            self._run(str(plain[0]), _named(plain[1], values[2:]), _DONE_IN_PROC)
            self._ended()
        elif procedure in (_PREPARE, _PREPARE_EXECUTE):
            handle = len(self._statements) + 1
            self._statements[handle] = f"{plain[1] or ''}\0{plain[2]}"
            if procedure == _PREPARE_EXECUTE:
                named = _named(plain[1], values[3:])
                self._run(str(plain[2]), named, _DONE_IN_PROC)
            self._ended(handle)
        elif procedure == _EXECUTE:
            handle = plain[0] if isinstance(plain[0], int) else 0
            declaration, _, sql = self._statements[handle].partition("\0")
            self._run(sql, _named(declaration, values[1:]), _DONE_IN_PROC)
            self._ended()
        elif procedure == _UNPREPARE:
            self._ended()
        else:
            self._error(2812, "Could not find stored procedure.", 16)
            self._done(_DONE_PROC, _ERROR)

    def _transaction(self, reader: Reader) -> None:
        request = reader.number("H")
        if request == _BEGIN:
            self._begin()
        else:
            if self._database.in_transaction:
                self._database.execute("commit" if request == _COMMIT else "rollback")
            number = 9 if request == _COMMIT else 10
            self._environment(number, b"\0", b"\x08" + b"\x01" * 8)
            reader.text(reader.number("B"))
            if reader.more and reader.number("B") & 1:
                self._begin()
        self._done(_DONE, 0)

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("begin")
        self._environment(8, b"\x08" + b"\x01" * 8, b"\0")

    def _run(self, sql: str, parameters: dict[str, object], done: int) -> None:
        if _IGNORED.match(sql) or not sql.strip():
            self._done(done, 0)
            return
        own = _CASTS.sub(r"\1", re.sub(r"\bN'", "'", sql)).replace("(max)", "")
        # SQLite would keep such numbers as floats.
        own = re.sub(r"\b(decimal|numeric) ?\(", r"\1 text(", own)
        own = _END.sub("", own)
        self.server.running.append(sql)
        try:
            rows = self._thd_watched(own, parameters)
            columns = next(rows)
            count = 0
            if columns is None:
                count = next(rows)[0]
            else:
                types = self._types(own, columns, first := next(rows, None))
                self._describe(columns, types)
                while first is not None:
                    self._row(types, first)
                    count += 1
                    first = next(rows, None)
            more = _MORE if done == _DONE_IN_PROC else 0
            self._done(done, _COUNT | more, count)
        finally:
            self.server.running.remove(sql)

    def _thd_watched(self, sql: str, parameters: dict[str, object]) -> Iterator[Any]:
        """Names of columns, then rows; None and the rows changed where there are none.

        Attention, or a client that hangs up, interrupts.
        """
        ended = threading.Event()
        seen = threading.Event()

        def thd_watch() -> None:
            while not ended.is_set():
                ready, _, _ = select.select([self.link], [], [], 0.005)
                if ready and not ended.is_set():
                    seen.set()
                    self._database.interrupt()
                    ended.wait(0.05)

        watcher = threading.Thread(target=thd_watch, daemon=True)
        watcher.start()
        try:
            cursor = self._database.execute(sql, parameters)
            if cursor.description is None:
                yield None
                yield [max(0, cursor.rowcount)]
                return
            yield [each[0] for each in cursor.description]
            for row in cursor:
                yield row
                self._flush(last=False)
                if seen.is_set():
                    break
        except sqlite3.OperationalError as error:
            if not seen.is_set():
                raise
            raise _Interrupted from error
        finally:
            ended.set()
            watcher.join()
            if seen.is_set():
                self._swallow()
        if seen.is_set():
            raise _Interrupted

    def _swallow(self) -> None:
        message = self._thd_message()
        if message is None or message[0] != _ATTENTION:
            raise _Interrupted

    def _types(self, sql: str, names: Sequence[str], first: Any) -> list[ColumnType]:
        written: list[str] = [""] * len(names)
        bare = re.sub(r"@\w+", "NULL", sql).rstrip("; \n")
        try:
            self._database.execute(f"CREATE TEMP VIEW shape AS {bare}")
            try:
                shape = self._database.execute("PRAGMA temp.table_info(shape)").fetchall()
                written = [row[2] for row in shape]
            finally:
                self._database.execute("DROP VIEW temp.shape")
        except sqlite3.Error:
            written = [""] * len(names)
        values = first or [None] * len(names)
        return [
            declared(text) or of_value(value) for text, value in zip(written, values, strict=True)
        ]

    def _describe(self, names: Sequence[str], types: Sequence[ColumnType]) -> None:
        self._out += b"\x81" + struct.pack("<H", len(names))
        for name, kind in zip(names, types, strict=True):
            self._out += struct.pack("<IH", 0, 0x09) + kind.info + b_varchar(name)

    def _row(self, types: Sequence[ColumnType], row: Sequence[Any]) -> None:
        self._out += b"\xd1"
        for kind, value in zip(types, row, strict=True):
            self._out += kind.null if value is None else kind.encode(value)

    def _ended(self, handle: int | None = None) -> None:
        """The end of a procedure, and the handle that it gives back."""
        self._out += b"\x79" + struct.pack("<i", 0)
        if handle is not None:
            self._out += b"\xac" + struct.pack("<H", 0) + b_varchar("") + b"\x01"
            self._out += struct.pack("<IH", 0, 0) + b"\x26\x04\x04" + struct.pack("<i", handle)
        self._done(_DONE_PROC, 0)

    def _environment(self, kind: int, new: bytes, old: bytes) -> None:
        body = bytes([kind]) + new + old
        self._out += b"\xe3" + struct.pack("<H", len(body)) + body

    def _tell(self, error: sqlite3.Error) -> None:
        text = str(error)
        for pattern, number, severity in _NUMBERS:
            if re.search(pattern, text):
                self._error(number, text, severity)
                return
        self._error(50000, text, 16)

    def _error(self, number: int, text: str, severity: int) -> None:
        body = struct.pack("<iBB", number, 1, severity) + us_varchar(text)
        body += b_varchar("tds") + b_varchar("") + struct.pack("<i", 1)
        self._out += b"\xaa" + struct.pack("<H", len(body)) + body

    def _done(self, token: int, status: int, count: int = 0) -> None:
        self._out += struct.pack("<BHHQ", token, status, 0xC1, count)


def _named(declaration: object, values: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Values by the names of their declaration; in their order where they come without one."""
    names = re.findall(r"@(\w+)", str(declaration or ""))
    return {(name.lstrip("@") or names[index]): value for index, (name, value) in enumerate(values)}
