"""Operations on the directory: one request and its answer, or a search page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import Any, Final, TypeVar

from attrs import define, field, frozen
from ldaptor.protocols import pureber, pureldap
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from workato_tunnel.problems import Problem

from . import failures
from .connecting import Connector
from .connection import Controls, Exchange, LdapConnection
from .failures import Lost
from .pool import ConnectionPool
from .replies import PAGED, Entry, Malformed, Reference, Reply, Result
from .settings import LdapSettings, Server

PROBE_AFTER: Final = 10.0
"""Seconds of idleness after which a connection is asked for a sign of life."""
PROBE_TIMEOUT: Final = 5.0
SILENCE: Final = 5.0
"""Seconds without an answer after which a call that is given up makes its server suspect."""
SCOPES: Final[Mapping[str, int]] = {"base": 0, "one": 1, "sub": 2}
T = TypeVar("T")
_LONGEST_TIME_LIMIT: Final = 2**31 - 1
_TOLD: Final = (
    "vendorName",
    "vendorVersion",
    "supportedExtension",
    "supportedCapabilities",
    "objectClass",
    "domainControllerFunctionality",
)
_EVERYTHING: Final = pureldap.LDAPFilter_present("objectClass")


@frozen
class Query:
    """What a search asks for.

    :ivar base: a DN. ``scope``: of :data:`SCOPES`. ``filter``: ldaptor's.
    :ivar attributes: empty for all that are not operational.
    :ivar limit: entries that are wanted at most.
    """

    base: str
    scope: str
    filter: Any
    attributes: tuple[str, ...]
    page_size: int
    limit: int | None = None

    @property
    def paged(self) -> bool:
        """Whether it may need more than one page; else the directory itself holds the limit."""
        return self.scope != "base" and (self.limit is None or self.limit > self.page_size)

    def request(self, seconds: float) -> Any:
        """ldaptor's request. ``seconds``: that the directory may take."""
        limit = 0 if self.paged or self.limit is None else self.limit
        return pureldap.LDAPSearchRequest(
            baseObject=self.base,
            scope=SCOPES[self.scope],
            derefAliases=pureldap.LDAP_DEREF_neverDerefAliases,
            sizeLimit=limit,
            timeLimit=min(max(ceil(seconds), 1), _LONGEST_TIME_LIMIT),
            filter=self.filter,
            attributes=list(self.attributes),
        )

    def controls(self, cookie: bytes, size: int) -> Controls | None:
        """Those of the page that begins at a cookie."""
        if not self.paged:
            return None
        value = pureber.BERSequence([pureber.BERInteger(size), pureber.BEROctetString(cookie)])
        return [(PAGED, None, value.toWire())]


@frozen
class Facts:
    """What a server says of itself.

    :ivar tls: the version, as ``TLSv1.3``; None without.
    :ivar attributes: of its root DSE (RFC 4512, 5.1), by name in lower case.
    """

    server: Server
    tls: str | None
    attributes: Mapping[str, list[str]]


def _one(base: str, *attributes: str) -> Query:
    """A search for a single entry; "" is the server's own, the root DSE."""
    return Query(base, "base", _EVERYTHING, attributes or ("1.1",), 1)


@define(eq=False)
class Directory:
    """The directory of one profile, over connections that it keeps."""

    _reactor: Any
    _settings: LdapSettings
    _connector: Connector = field(init=False)
    _pool: ConnectionPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connector = Connector(self._reactor, self._settings)
        self._pool = ConnectionPool(
            self._reactor, self._settings, self._connector.connect, self._healthy
        )

    async def perform(self, operation: Any, deadline: float, *, changes: bool) -> Result:
        """Send a request of ldaptor's and wait for its result, whatever that says.

        Raises Problem when there is none. Given up by cancelling, the request is abandoned and its
        connection closed. ``changes``: it may change something, and is sent once only.
        """

        async def ask(connection: LdapConnection) -> Result:
            result = await connection.send(operation).result()
            self._pool.give_back(connection)
            return result

        return await self._on_a_connection(ask, deadline, changes=changes)

    async def search(self, query: Query, deadline: float) -> Search:
        """Begin a search; its connection is its own until its end. Raises Problem."""

        async def ask(connection: LdapConnection) -> Search:
            search = Search(self, self._reactor, connection, query, deadline)
            await search.begin()
            return search

        return await self._on_a_connection(ask, deadline, changes=False)

    async def facts(self, deadline: float) -> Facts:
        """What the server says of itself. Raises Problem."""
        search = await self.search(_one("", *_TOLD), deadline)
        server, tls = search.connection.server, search.connection.tls_version()
        found: dict[str, list[str]] = {}
        while (item := await search.next()) is not None:
            if isinstance(item, Entry):
                for name, values in item.attributes:
                    found[name.lower()] = [each.decode("utf-8", "replace") for each in values]
        return Facts(server, tls, found)

    async def exists(self, base: str, deadline: float) -> None:
        """Raises Problem when there is no such entry, or it may not be seen."""
        search = await self.search(_one(base), deadline)
        while await search.next() is not None:
            pass

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    # -- for searches --------------------------------------------------------------------------

    def finished(self, connection: LdapConnection) -> None:
        """A search has let go of its connection in order."""
        self._pool.give_back(connection)

    def broken(self, connection: LdapConnection) -> None:
        """A search was ended before its time."""
        self._pool.give_up(connection)

    async def awaited(self, exchange: Exchange, connection: LdapConnection) -> Reply:
        """The next answer of a search's exchange. Raises Problem."""
        try:
            return await self._asked(connection, lambda _connection: exchange.reply())
        except Lost as error:
            raise self._lost(connection, error, wrote=False) from error

    # -- inside --------------------------------------------------------------------------------

    async def _on_a_connection(
        self, ask: Callable[[LdapConnection], Awaitable[T]], deadline: float, *, changes: bool
    ) -> T:
        """Ask on a kept connection; on a new one if that turned out to be dead."""
        connection = await self._pool.take(deadline)
        try:
            return await self._asked(connection, ask)
        except Lost as error:
            if changes or not connection.kept or error.reason == "too_large":
                raise self._lost(connection, error, wrote=changes) from error
        connection = await self._pool.fresh(deadline)
        try:
            return await self._asked(connection, ask)
        except Lost as error:
            raise self._lost(connection, error, wrote=changes) from error

    async def _asked(
        self, connection: LdapConnection, ask: Callable[[LdapConnection], Awaitable[T]]
    ) -> T:
        """If asking ends badly, the connection is given up, and its server may be suspect."""
        try:
            return await ask(connection)
        except BaseException:
            if connection.silence() >= SILENCE:
                self._suspect(connection)
            self._pool.give_up(connection)
            raise

    def _suspect(self, connection: LdapConnection) -> None:
        """Its server hangs: others are tried first, and nothing is kept there."""
        self._connector.suspect(connection.server)
        self._pool.forget(connection.server)

    def _lost(self, connection: LdapConnection, error: Lost, *, wrote: bool) -> Problem:
        return failures.lost(connection.server, error, connection.greeting, wrote=wrote)

    async def _healthy(self, connection: LdapConnection) -> bool:
        """Whether a connection that comes out of the pool still answers."""
        if self._reactor.seconds() - connection.idle_since < PROBE_AFTER:
            return True
        query = _one("")
        try:
            exchange = connection.send(query.request(PROBE_TIMEOUT))
            probing = Deferred.fromCoroutine(_drained(exchange))
            probing.addTimeout(min(PROBE_TIMEOUT, self._settings.connect_timeout), self._reactor)
            await probing
        except Lost:
            return False
        except DeferredTimeout:
            self._suspect(connection)
            return False
        return True


async def _drained(exchange: Exchange) -> None:
    while not exchange.over:
        await exchange.reply()


@define(eq=False)
class Search:
    """A search that has begun. The next page is asked for when the one before has been taken.

    :ivar connection: its own, until :meth:`next` gives None or :meth:`close`.
    :ivar exchange: that of the page.
    :ivar more: entries that would have been found were left out, for the query's limit.
    """

    _directory: Directory
    _reactor: Any
    connection: LdapConnection
    _query: Query
    _deadline: float
    exchange: Exchange = field(init=False)
    more: bool = field(init=False, default=False)
    _first: Reply | None = field(init=False, default=None)
    _entries: int = field(init=False, default=0)
    _over: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.exchange = self._send(b"")

    async def begin(self) -> None:
        """Wait for the first answer. Raises Lost."""
        self._first = await self.exchange.reply()

    async def next(self) -> Entry | Reference | None:
        """The next of what is found; None at the end. Raises Problem."""
        while not self._over:
            if self._first is not None:
                item, self._first = self._first, None
            else:
                item = await self._step()
            if isinstance(item, Reference):
                return item
            if isinstance(item, Entry):
                if self._entries == self._query.limit:
                    self.more = True
                    self.close()
                    return None
                self._entries += 1
                return item
            await self._page_ended(item)
        return None

    def close(self) -> None:
        """Give it up, and its connection. Idempotent."""
        if not self._over:
            self._over = True
            self._directory.broken(self.connection)

    async def _step(self) -> Reply:
        try:
            return await self._directory.awaited(self.exchange, self.connection)
        except BaseException:
            self._over = True
            raise

    async def _page_ended(self, result: Result) -> None:
        limit = self._query.limit
        own_limit = result.code == failures.SIZE_LIMIT and limit is not None
        if own_limit and not self._query.paged and self._entries >= (limit or 0):
            self.more = True
        elif result.code != failures.SUCCESS:
            self._finish()
            raise failures.refused(result, "the search")
        try:
            cookie = result.cookie
        except Malformed as error:
            self.close()
            raise self._broken(str(error)) from error
        if not cookie:
            self._finish()
        elif self._entries == limit:
            self.more = True
            await self._abandon_pages(cookie)
        else:
            self.exchange = self._send_next(cookie)

    async def _abandon_pages(self, cookie: bytes) -> None:
        """Tell the directory that the other pages are not wanted: a page of none (RFC 2696, 3)."""
        self.exchange = self._send_next(cookie, 0)
        while not isinstance(await self._step(), Result):
            pass
        self._finish()

    def _send_next(self, cookie: bytes, size: int | None = None) -> Exchange:
        try:
            return self._send(cookie, size)
        except Lost as error:
            self.close()
            raise self._broken(error.detail) from error

    def _send(self, cookie: bytes, size: int | None = None) -> Exchange:
        query = self._query
        if size is None:
            # A page ends where the limit is: the connection is fit for another call then.
            left = query.page_size if query.limit is None else query.limit - self._entries
            size = min(query.page_size, left)
        seconds = self._deadline - self._reactor.seconds()
        return self.connection.send(query.request(seconds), query.controls(cookie, size))

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._directory.finished(self.connection)

    def _broken(self, detail: str) -> Problem:
        """The problem for a connection that broke between two pages."""
        error = Lost("closed", detail)
        return failures.lost(self.connection.server, error, b"")
