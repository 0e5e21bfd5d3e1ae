"""Opens MySQL connections, in a thread and in time, and tells why it failed."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from threading import Timer
from typing import Any, Final

from attrs import field, frozen
from pymysql import err

from workato_tunnel.problems import Problem

from ....system import probe_when_idle
from ...greetings import describe
from ..settings import MysqlSettings
from .mysql_errors import login_problem, place, timeout_problem, wrong_type_problem
from .mysql_wire import Wire

# PyMySQL takes a server's packets for what they should be.
NONSENSE: Final = (
    LookupError, ValueError, AssertionError, TypeError, AttributeError, struct.error,
)  # fmt: skip
_SUSPICION_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 0.5
_MARIADB_OWN: Final = 1
_EXTENDED_TYPES: Final = 1 << 3
_LONGEST_GREETING: Final = 1024
_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_HTTP_REQUEST: Final = b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"


@frozen
class _Greeting:
    """What a server says first.

    :ivar extended: it is a MariaDB that can tell the names of its own types.
    """

    extended: bool

    @classmethod
    def parse(cls, data: bytes) -> _Greeting | None:
        """From a packet's body; None when it is no greeting of the protocol's version 10."""
        end = data.find(b"\0", 1)
        if data[:1] != b"\x0a" or not 1 < end < 200 or len(data) < end + 16:
            return None
        at = end + 1 + 4 + 8 + 1
        capabilities = int.from_bytes(data[at : at + 2], "little")
        own = data[at + 14 : at + 18]
        is_mariadb = not capabilities & _MARIADB_OWN and len(own) == 4
        return cls(is_mariadb and bool(int.from_bytes(own, "little") & _EXTENDED_TYPES))


class _ClearPassword:
    """Keeps the password from going over the network as it is."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    def authenticate(self, packet: Any) -> Any:
        """Answer ``mysql_clear_password``, which servers ask for that check by PAM or LDAP."""
        if not self._wire._secure:  # noqa: SLF001 - PyMySQL asks the same for sha256_password
            raise err.OperationalError(
                2059, "the server asks for the password in clear text without TLS"
            )
        self._wire.write_packet(self._wire.password + b"\0")
        answer = self._wire._read_packet()  # noqa: SLF001
        answer.check_error()
        return answer


@frozen
class Login:
    """Opens connections to one server for one user."""

    settings: MysqlSettings = field(repr=False)

    def thd_open(self) -> Wire:
        """A connection, logged in. Raises Problem that says how far it came."""
        settings = self.settings
        until = time.monotonic() + settings.connect_timeout
        addresses = self._thd_addresses()
        failure = Problem("target_unreachable", f"{settings.host} has no address")
        for index, (family, address) in enumerate(addresses):
            left = max(0.2, (until - time.monotonic()) / (len(addresses) - index))
            try:
                return self._thd_open_at(family, address, left)
            except Problem as problem:
                failure = problem
                if problem.code != "target_unreachable":
                    break
        raise failure

    def thd_open_beside(self, wire: Wire, seconds: float) -> Wire:
        """Another connection to the same server, without asking for its name again."""
        sock = wire.socket
        if sock is None:
            raise timeout_problem(self.settings)
        return self._thd_open_at(sock.family, sock.getpeername(), seconds, curious=False)

    def _thd_addresses(self) -> list[tuple[int, Any]]:
        settings = self.settings
        if settings.host.startswith("/"):
            return [(socket.AF_UNIX, settings.host)]
        try:
            found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Problem(
                "target_unreachable",
                f"{place(settings)}: the name {settings.host} can't be resolved: {error}",
                hint="check the profile's host and the DNS of the agent's machine",
            ) from None
        return [(family, address) for family, _, _, _, address in found]

    def _thd_open_at(
        self, family: int, address: Any, seconds: float, *, curious: bool = True
    ) -> Wire:
        until = time.monotonic() + seconds
        sock = self._thd_connected(family, address, seconds)
        wire: Wire | None = None
        watch: Timer | None = None
        late: list[bool] = []
        try:
            greeting = self._thd_greeting(sock, until, curious=curious)
            left = max(0.05, until - time.monotonic())
            wire = self._wire(greeting, left)
            watch = Timer(left, _cut, (wire, sock, late))
            watch.daemon = True
            watch.start()
            wire.thd_log_in(sock)
        except BaseException as error:
            sock.close()
            if wire is not None:
                wire.thd_end()
            if late:
                raise timeout_problem(self.settings) from None
            if isinstance(error, err.MySQLError | OSError | RuntimeError):
                secure = wire is not None and wire.is_secure
                raise login_problem(error, self.settings, secure=secure) from None
            if isinstance(error, NONSENSE):
                raise wrong_type_problem(self.settings, "something") from None
            raise
        finally:
            if watch is not None:
                watch.cancel()
        return wire

    def _thd_connected(self, family: int, address: Any, seconds: float) -> socket.socket:
        settings = self.settings
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            sock.connect(address)
            if family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                probe_when_idle(sock, 30, 10, 3)
        except TimeoutError:
            sock.close()
            raise timeout_problem(settings) from None
        except OSError as error:
            sock.close()
            hint = "check host and port, whether the server runs, and the firewalls in between"
            if isinstance(error, FileNotFoundError):
                hint = "there is no such socket: check the profile's host"
            raise Problem(
                "target_unreachable", f"{place(settings)}: {error.strerror or error}", hint=hint
            ) from None
        return sock

    def _thd_greeting(self, sock: socket.socket, until: float, *, curious: bool) -> _Greeting:
        """Look at what the server says first, and leave it where it is. Raises Problem.

        ``curious``: where nothing is said, find out what is there.
        """
        probed = not curious
        seen = b""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise timeout_problem(self.settings)
            sock.settimeout(left if probed else min(left, _SUSPICION_SECONDS, left / 2 + 0.1))
            try:
                data = sock.recv(_LONGEST_GREETING, socket.MSG_PEEK)
            except TimeoutError:
                if not probed:
                    probed = True
                    name = thd_identify(sock.family, sock.getpeername())
                    if name is not None:
                        raise wrong_type_problem(self.settings, name) from None
                continue
            except OSError as error:
                raise login_problem(error, self.settings, secure=False) from None
            if not data:
                raise Problem(
                    "target_unreachable",
                    f"{place(self.settings)}: the server closed the connection without a word",
                    hint="check the port; the server's log may say why",
                )
            whole = 4 + int.from_bytes(data[:3], "little")
            is_greeting = len(data) >= 5 and data[3] == 0 and whole <= _LONGEST_GREETING
            if len(data) >= 5 and not (is_greeting and data[4] in (0x0A, 0xFF)):
                raise wrong_type_problem(self.settings, describe(data) or "something else")
            if is_greeting and len(data) >= whole:
                if data[4] == 0xFF:
                    # An error, which PyMySQL reads.
                    return _Greeting(extended=False)
                greeting = _Greeting.parse(data[4:whole])
                if greeting is None:
                    raise wrong_type_problem(self.settings, "something else")
                return greeting
            if data == seen:
                # Part of it; peeking doesn't wait for more.
                time.sleep(0.01)
            seen = data

    def _wire(self, greeting: _Greeting, seconds: float) -> Wire:
        settings = self.settings
        options: dict[str, Any] = {}
        local = settings.host.startswith("/")
        context = None if local or settings.tls == "disable" else self._context()
        falls_back = settings.tls in ("allow", "prefer")
        if context is None:
            options["ssl_disabled"] = True
        else:
            options["ssl"] = context
        wire = Wire(
            extended=greeting.extended,
            host=settings.host,
            user=settings.user,
            # PyMySQL would take text for Latin-1.
            password=settings.password.encode(),
            database=settings.database,
            charset="utf8mb4",
            autocommit=None,
            local_infile=False,
            program_name="workato-agent",
            auth_plugin_map={"mysql_clear_password": _ClearPassword, "dialog": _ClearPassword},
            read_timeout=seconds,
            write_timeout=seconds,
            **options,
        )
        if context is not None and falls_back:
            wire.may_do_without_tls()
        return wire

    def _context(self) -> ssl.SSLContext:
        """As libpq has its modes: from ``require`` on there is no falling back to plain text."""
        settings = self.settings
        verified = settings.tls.startswith("verify-") or (
            settings.tls == "require" and settings.ca_file is not None
        )
        try:
            # Nothing is loaded that is not asked: a system's authorities take a while.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if verified and settings.ca_file is None:
                context.load_default_certs()
            elif verified:
                context.load_verify_locations(settings.ca_file)
            if settings.certificate_file is not None:
                context.load_cert_chain(settings.certificate_file, settings.key_file)
        except (OSError, ssl.SSLError) as error:
            raise Problem(
                "target_tls_failed",
                f"the certificate files of the profile can't be used: {error}",
                hint="check sslrootcert, sslcert and sslkey: PEM files that the agent may read",
            ) from None
        # What servers make for themselves fails the strict checks of newer Pythons.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = settings.tls == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
        return context


def _cut(wire: Wire, sock: socket.socket, late: list[bool]) -> None:
    late.append(True)
    wire.thd_shut()
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # TLS has taken it over, or it is closed.
        return


def thd_identify(family: int, address: Any) -> str | None:
    """What listens at an address, when it waits to be spoken to and is known; raises nothing."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PROBE_SECONDS)
            sock.connect(address)
            sock.sendall(_SSL_REQUEST)
            try:
                answer = sock.recv(64)
            except TimeoutError:
                sock.sendall(_HTTP_REQUEST)
                answer = sock.recv(64)
            if answer in (b"S", b"N", b"G"):
                return "a PostgreSQL server"
            if not answer:
                return None
            return describe(answer)
    except OSError:
        return None
