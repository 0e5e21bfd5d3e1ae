"""MySQL's client protocol: PyMySQL's login and packets, with a reader of results that is fast.

PyMySQL makes several objects of every packet. Here rows are cut out of what the socket brought, in
one loop over many of them. Of PyMySQL's inner parts this module uses the login, ``_rfile`` (which
it replaces), ``_execute_command``, ``_read_packet``, ``_next_seq_id`` and ``_sock``.

Source: "Client/Server Protocol" of the MariaDB and MySQL manuals.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

from attrs import field, frozen
from pymysql import err
from pymysql.connections import Connection
from pymysql.constants import CLIENT, COMMAND, CR

STATUS_IN_TRANSACTION: Final = 0x0001
STATUS_MORE_RESULTS: Final = 0x0008
STATUS_OUT_PARAMETERS: Final = 0x1000

Octets = bytes | bytearray

_CHUNK: Final = 256 * 1024
_LONGEST_PACKET: Final = 0xFFFFFF
_LARGEST_VALUE: Final = 2 * 1024**3
_HEADER: Final = 4
_EXTENDED_TYPES: Final = 1 << 3  # of MariaDB's own capabilities, which begin at bit 32
_EXTENDED_AT: Final = slice(28, 32)
_RESERVED: Final = slice(9, 32)


class Inbox:
    """What has arrived. Stands for the file that PyMySQL reads packets from.

    :ivar data: bytes from the socket, of which those before ``at`` have been taken.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.data = b""
        self.at = 0

    def fill(self) -> None:
        """Wait for more. What has been taken is forgotten."""
        more = self._sock.recv(_CHUNK)
        if not more:
            raise lost("the server has closed the connection")
        self.data = self.data[self.at :] + more if self.at < len(self.data) else more
        self.at = 0

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        left = len(self.data) - self.at
        if left >= size:
            taken = self.data[self.at : self.at + size]
            self.at += size
            return taken
        if size <= _CHUNK:
            while len(self.data) - self.at < size:
                self.fill()
            return self.read(size)
        whole = bytearray(size)
        whole[:left] = self.data[self.at :]
        self.data, self.at = b"", 0
        view = memoryview(whole)
        while left < size:
            count = self._sock.recv_into(view[left:])
            if not count:
                raise lost("the server has closed the connection")
            left += count
        return bytes(whole)

    def packet(self) -> tuple[Octets, int]:
        """A whole packet of whatever size, and its number."""
        header = self.read(_HEADER)
        size = int.from_bytes(header[:3], "little")
        data = self.read(size)
        if size < _LONGEST_PACKET:
            return data, header[3]
        whole = bytearray(data)
        while size == _LONGEST_PACKET:
            header = self.read(_HEADER)
            size = int.from_bytes(header[:3], "little")
            whole += self.read(size)
            if len(whole) > _LARGEST_VALUE:
                raise malformed("a row of more than 2 GiB")
        return whole, header[3]

    def close(self) -> None:
        """PyMySQL closes its file."""
        self.data, self.at = b"", 0


def lost(detail: str) -> Exception:
    """The connection is gone."""
    error: Exception = err.OperationalError(CR.CR_SERVER_LOST, detail)
    return error


def malformed(detail: str) -> Exception:
    """The server has sent what the protocol does not know."""
    error: Exception = err.InternalError(CR.CR_MALFORMED_PACKET, f"malformed packet: {detail}")
    return error


@frozen
class Field:
    """A column's definition as the server sends it.

    :ivar code: the type's number in the protocol.
    :ivar charset: number of the collation; 63 is binary.
    :ivar kind: MariaDB's own name of a type that has no number (``uuid``, ``json`` …).
    """

    name: str
    code: int
    charset: int
    length: int
    flags: int
    decimals: int
    kind: str = ""

    @classmethod
    def parse(cls, data: bytes, *, extended: bool) -> Field:
        """From a packet; ``extended`` when MariaDB's own type names are in it."""
        at = 0
        texts = []
        for _ in range(6):
            text, at = lenenc_bytes(data, at)
            texts.append(text)
        kind = ""
        if extended:
            names, at = lenenc_bytes(data, at)
            kind = _own_type(names)
        charset, length, code, flags, decimals = struct.unpack_from("<xHIBHB", data, at)
        return cls(
            texts[4].decode("utf-8", "replace"), code, charset, length, flags, decimals, kind
        )


def _own_type(data: bytes) -> str:
    """Of pairs (0: type, 1: format) and texts the last text."""
    at = 0
    kind = b""
    while at < len(data):
        kind, at = lenenc_bytes(data, at + 1)
    return kind.decode("ascii", "replace")


def lenenc(data: Octets, at: int) -> tuple[int, int]:
    """A length-encoded integer and where it ends."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}.get(first)
    if size is None or at + 1 + size > len(data):
        raise malformed("a length")
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def lenenc_bytes(data: Octets, at: int) -> tuple[bytes, int]:
    """A length-encoded string and where it ends."""
    size, at = lenenc(data, at)
    if at + size > len(data):
        raise malformed("a string reaches beyond its packet")
    return bytes(data[at : at + size]), at + size


def lenenc_encoded(data: bytes) -> bytes:
    """A string with its length before it."""
    size = len(data)
    if size < 251:
        return bytes((size,)) + data
    if size < 1 << 16:
        return b"\xfc" + size.to_bytes(2, "little") + data
    if size < 1 << 24:
        return b"\xfd" + size.to_bytes(3, "little") + data
    return b"\xfe" + size.to_bytes(8, "little") + data


@frozen
class Answer:
    """How a command's answer begins.

    :ivar fields: of the rows that follow; none when there are no rows.
    :ivar changed: rows changed, or found to be as wanted.
    """

    status: int
    fields: tuple[Field, ...] = ()
    changed: int = 0


@frozen
class Prepared:
    """A statement that the server has parsed."""

    number: int
    parameters: int
    fields: tuple[Field, ...] = field(factory=tuple)


class Wire(Connection):  # type: ignore[misc]  # PyMySQL has no annotations
    """A connection.

    :ivar extended: MariaDB tells its own types' names.
    :ivar status: the server's flags after the last answer.
    """

    extended = False
    status = 0
    inbox: Inbox
    _rfile: Any

    def __init__(self, *, extended: bool, **options: Any) -> None:
        self.extended = extended
        super().__init__(defer_connect=True, **options)
        self.client_flag |= CLIENT.FOUND_ROWS | CLIENT.PS_MULTI_RESULTS

    def may_do_without_tls(self) -> None:
        """TLS is taken where the server offers it, with the context that was given."""
        self._ssl_required = False
        self.client_flag &= ~CLIENT.SSL

    def write_packet(self, payload: bytes) -> None:
        """Say in the login that MariaDB may send its own types' names, which PyMySQL can't say."""
        is_login = len(payload) >= _RESERVED.stop and not any(payload[_RESERVED])
        if self.extended and is_login and self._next_seq_id in (1, 2):
            patched = bytearray(payload)
            patched[0] &= ~CLIENT.LONG_PASSWORD
            patched[_EXTENDED_AT] = struct.pack("<I", _EXTENDED_TYPES)
            payload = bytes(patched)
        super().write_packet(payload)

    def thd_log_in(self, sock: socket.socket) -> None:
        """Greet and log in over a socket, then read through an :class:`Inbox`."""
        self.connect(sock)
        self._rfile.close()
        self._read_timeout = self._write_timeout = None
        self.limit(None)
        self.inbox = Inbox(self._sock)
        self._rfile = self.inbox

    @property
    def is_secure(self) -> bool:
        """Whether nobody else can listen: TLS, or a Unix socket."""
        return bool(self._secure)

    @property
    def tls(self) -> str | None:
        """The version of TLS; None without."""
        version = getattr(self._sock, "version", None)
        return None if version is None else version()

    @property
    def socket(self) -> socket.socket | None:
        """None when it is closed."""
        return self._sock  # type: ignore[no-any-return]  # PyMySQL has no annotations

    def limit(self, seconds: float | None) -> None:
        """How long each of the next waits for the server may take; None for ever."""
        self._current_timeout = None
        self._sock.settimeout(seconds)

    def thd_command(self, command: int, payload: bytes) -> Answer:
        """Send a command and read how its answer begins. Raises PyMySQL's errors."""
        self._execute_command(command, payload)
        return self.thd_answer()

    def thd_query(self, sql: str) -> Answer:
        """Run a statement of the agent's own, or one without parameters."""
        return self.thd_command(COMMAND.COM_QUERY, sql.encode())

    def thd_answer(self) -> Answer:
        """How the next answer begins."""
        try:
            return self._thd_answer()
        except (IndexError, struct.error):
            raise malformed("an answer") from None

    def _thd_answer(self) -> Answer:
        data = self._packet()
        if data[0] == 0:
            changed, at = lenenc(data, 1)
            _, at = lenenc(data, at)
            self.status = int.from_bytes(data[at : at + 2], "little")
            return Answer(self.status, changed=changed)
        if data[0] == 0xFB:
            # The server wants a file of the agent's machine, which it was told it can't have.
            self._force_close()
            raise malformed("the server asks for a local file")
        count, _ = lenenc(data, 0)
        fields = self._fields(count)
        return Answer(self.status, fields)

    def thd_prepare(self, sql: str) -> Prepared:
        """Have a statement parsed."""
        self._execute_command(COMMAND.COM_STMT_PREPARE, sql.encode())
        try:
            return self._thd_prepared()
        except (IndexError, struct.error):
            raise malformed("answer to a prepare") from None

    def _thd_prepared(self) -> Prepared:
        data = self._packet()
        if data[0] != 0 or len(data) < 9:
            raise malformed("answer to a prepare")
        number, columns, parameters = struct.unpack_from("<IHH", data, 1)
        if parameters:
            self._fields(parameters)
        fields = self._fields(columns) if columns else ()
        return Prepared(number, parameters, fields)

    def thd_forget(self, prepared: Prepared) -> None:
        """Free a prepared statement; the server doesn't answer."""
        self._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", prepared.number))

    def ended(self, data: Octets, number: int) -> None:
        """Take the packet that ends a result."""
        self.status = int.from_bytes(data[3:5], "little")
        self._next_seq_id = (number + 1) & 0xFF

    def failed(self, data: Octets) -> Exception:
        """The error in a packet that takes the place of a row; nothing comes after it."""
        self.status &= ~STATUS_MORE_RESULTS
        try:
            err.raise_mysql_exception(data)
        except err.MySQLError as error:
            found: Exception = error
            return found
        except (IndexError, struct.error):
            # It is cut short.
            pass
        return malformed("an error")

    def thd_rows(self) -> Iterator[list[bytes | None]]:
        """The rows of a small result of the agent's own, as they come."""
        while True:
            data, number = self.inbox.packet()
            if data[0] == 0xFE and len(data) < 9:
                self.ended(data, number)
                return
            if data[0] == 0xFF:
                raise self.failed(data)
            row: list[bytes | None] = []
            at = 0
            while at < len(data):
                if data[at] == 251:
                    row.append(None)
                    at += 1
                else:
                    value, at = lenenc_bytes(data, at)
                    row.append(value)
            yield row

    def thd_skipped(self) -> int:
        """Read on to the end of a result, of either protocol; how many rows there were."""
        count = 0
        while True:
            data, number = self.inbox.packet()
            if data[0] == 0xFE and len(data) < 9:
                self.ended(data, number)
                return count
            if data[0] == 0xFF:
                raise self.failed(data)
            count += 1

    def thd_texts(self, sql: str) -> list[list[str]]:
        """A small result of the agent's own as text, NULL as empty text."""
        self.thd_query(sql)
        return [[(value or b"").decode() for value in row] for row in self.thd_rows()]

    def thd_shut(self) -> None:
        """Cut the connection; whoever waits for it is woken. In any thread."""
        sock = self._sock
        if sock is not None:
            try:
                # Not SSLSocket's own: the other thread may be in the midst of reading.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                # It is gone already.
                return

    def thd_end(self) -> None:
        """Say good-bye, without waiting, and close. Never raises."""
        sock = self._sock
        try:
            if sock is not None:
                sock.settimeout(0.5)
                sock.sendall(struct.pack("<iB", 1, COMMAND.COM_QUIT))
        except (OSError, ValueError):
            # The server has gone first.
            pass
        finally:
            self._closed = True
            self._force_close()

    def _fields(self, count: int) -> tuple[Field, ...]:
        fields = tuple(Field.parse(self._packet(), extended=self.extended) for _ in range(count))
        data = self._packet()
        if data[0] != 0xFE:
            raise malformed("no end after the columns")
        self.status = int.from_bytes(data[3:5], "little")
        return fields

    def _packet(self) -> bytes:
        try:
            data: bytes = self._read_packet().get_all_data()
        except err.MySQLError:
            self.status &= ~STATUS_MORE_RESULTS
            raise
        if not data:
            raise malformed("nothing in it")
        return data
