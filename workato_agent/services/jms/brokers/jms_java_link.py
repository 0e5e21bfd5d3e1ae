"""A JMS connection with its one session, on which one thing happens at a time.

Each batch has a connection of its own, not only a session: what hangs is freed by closing the
connection, and that must not take other batches with it. The session is transacted. An answer to
``commit`` is the broker's word in every JMS library, where ``acknowledge`` and ``send`` may return
before the broker has heard of them; what has been received belongs to the transaction, and so to
this batch alone; and several messages are published all or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Final, TypeVar

from attrs import define, field

from workato_tunnel.problems import Problem

from ..broker import Destination, IncomingMessage, OutgoingMessage, Source
from . import jms_java_activemq as activemq
from .jms_java_errors import Stage, address, fault, problem
from .jms_java_messages import (
    DEFAULT_PRIORITY,
    NOT_PERSISTENT,
    PERSISTENT,
    size,
    thd_destination,
    thd_outgoing,
)
from .jms_java_provider import Provider
from .jms_java_taking import Beyond, Taking, thd_consumer, thd_read

T = TypeVar("T")

_TRANSACTED: Final = 0
_ROLLED_BACK: Final = "TransactionRolledBackException"
BROWSED_BYTES: Final = 64 * 2**20


class Stale(Exception):
    """A connection was lost while nobody used it; nothing has been done on it."""


@define(eq=False)
class Link:
    """See above. Made without a connection: :meth:`thd_open` is the first thing done on it.

    :ivar client_id: for a durable subscription, whose connection is nobody else's.
    :ivar used: something has been done on it before.
    """

    client_id: str | None = None
    used: bool = False
    idle_since: float = 0.0
    _provider: Provider | None = field(default=None, init=False)
    _connection: Any = field(default=None, init=False)
    _session: Any = field(default=None, init=False)
    _consumer: Any = field(default=None, init=False)
    _producer: tuple[Destination, Any] | None = field(default=None, init=False)
    _events: Any = field(default=None, init=False)
    _schedules: bool | None = field(default=None, init=False)
    _delaying: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _lock: Any = field(factory=Lock, init=False)

    @property
    def _library(self) -> Provider:
        if self._provider is None:
            raise RuntimeError("the link has not been opened")
        return self._provider

    def thd_open(self, provider: Provider) -> None:
        """Connect and log in. Raises Problem."""
        self._provider = provider
        settings = provider.settings
        with self._told("connecting"):
            if settings.username is None:
                connection = provider.factory.createConnection()
            else:
                connection = provider.factory.createConnection(
                    settings.username, settings.password or ""
                )
            with self._lock:
                self._connection = connection
                late = self._closed
            if late:
                connection.close()
                return
            if self.client_id is not None:
                connection.setClientID(self.client_id)
            self._events = _thd_events(provider, connection)
            if provider.activemq is not None:
                # The broker sends a message when it is asked for one: none waits here while other
                # consumers have nothing to do, and "nothing there" is the broker's own word.
                connection.getPrefetchPolicy().setAll(0)
            connection.start()
            self._session = connection.createSession(True, _TRANSACTED)

    def thd_facts(self) -> Mapping[str, object]:
        """What is known of the broker."""
        provider = self._entered()
        with self._told("working"):
            data = self._connection.getMetaData()
            name = str(data.getJMSProviderName())
            facts: dict[str, object] = {
                "target": name,
                "address": address(provider.settings),
                "library": f"{name} {data.getProviderVersion()}",
                "jms": str(data.getJMSVersion()),
            }
            if provider.activemq is not None:
                facts["broker"] = str(self._connection.getBrokerName())
            return facts

    def thd_publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        """Publish all in one transaction; their ids. Raises Problem; nothing is published then,
        unless the connection was lost while the broker had to confirm."""
        provider = self._entered()
        if not messages:
            return []
        try:
            with self._told("working"):
                if any(each.delay for each in messages):
                    self._thd_can_delay()
                producer = self._thd_producer(provider, destination)
                ids = [self._thd_send(provider, producer, each) for each in messages]
        except Problem as error:
            error.extra["published"] = 0
            raise
        with self._confirming():
            self._session.commit()
        return ids

    def thd_receive(
        self, source: Source, limit: int, milliseconds: int, max_bytes: int
    ) -> list[IncomingMessage]:
        """Messages, which are then this link's until :meth:`thd_settle`."""
        provider, most = self._library, limit
        while True:
            try:
                return self._thd_take(source, most, milliseconds, max_bytes)
            except Beyond as beyond:
                # Those before it are taken again without it.
                self._thd_give_back()
                if beyond.taken == 0:
                    raise beyond.problem(provider.settings) from None
                most = beyond.taken

    def thd_settle(self, *, acknowledge: bool) -> None:
        """Commit what has been received, or give it back. Raises Problem."""
        self._entered(fresh=False)
        if not acknowledge:
            with self._told("working"):
                self._thd_give_back()
            return
        with self._acknowledging():
            self._session.commit()
            self._thd_stop_consuming()

    def thd_browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        """A queue's first messages."""
        provider = self._entered()
        found: list[IncomingMessage] = []
        taken = 0
        with self._told("working"):
            place = thd_destination(provider, self._session, destination)
            if provider.activemq is not None:
                self._connection.getPrefetchPolicy().setQueueBrowserPrefetch(limit)
            browser = self._session.createBrowser(place, selector)
            messages = browser.getEnumeration()
            while len(found) < limit and taken < BROWSED_BYTES and messages.hasMoreElements():
                try:
                    found.append(thd_read(provider, messages.nextElement(), len(found)))
                except Beyond as beyond:
                    if not found:
                        raise beyond.problem(provider.settings) from None
                    break
                taken += size(found[-1])
            browser.close()
            self._session.rollback()
        return found

    def thd_close(self) -> None:
        """Close the connection, from whatever thread; the broker takes back what it has given."""
        self._thd_end(lambda connection, _: connection.close())

    def thd_tear_off(self) -> None:
        """For when :meth:`thd_close` hangs."""

        def tear_off(connection: Any, provider: Provider) -> None:
            if provider.activemq is not None:
                provider.activemq.thd_tear_off(connection)

        self._thd_end(tear_off)

    def _thd_end(self, end: Callable[[Any, Provider], object]) -> None:
        with self._lock:
            self._closed = True
            connection, provider = self._connection, self._provider
        if connection is None or provider is None:
            return
        with suppress(provider.errors):
            end(connection, provider)

    def _entered(self, *, fresh: bool = True) -> Provider:
        """Before each use. Raises Stale for a link that was lost since the last one."""
        provider = self._library
        provider.thd_enter()
        if fresh and self.used and not self._events.isEmpty():
            raise Stale
        self.used = True
        return provider

    def _thd_can_delay(self) -> None:
        """Raises Problem where the broker or the library can't."""
        provider = self._library
        if provider.activemq is not None:
            if self._schedules is None:
                self._connection.getPrefetchPolicy().setAll(1)
                try:
                    self._schedules = activemq.thd_schedules(provider.jpype, self._connection)
                finally:
                    self._connection.getPrefetchPolicy().setAll(0)
            if not self._schedules:
                raise activemq.no_scheduler()

    def _thd_producer(self, provider: Provider, destination: Destination) -> Any:
        """The last one is kept: making one asks the broker for leave."""
        if self._producer is None or self._producer[0] != destination:
            if self._producer is not None:
                self._producer[1].close()
                self._producer = None
            place = thd_destination(provider, self._session, destination)
            self._producer = destination, self._session.createProducer(place)
            self._delaying = False
        return self._producer[1]

    def _thd_send(self, provider: Provider, producer: Any, message: OutgoingMessage) -> str:
        made = thd_outgoing(provider, self._session, message)
        if provider.activemq is not None:
            if message.delay:
                made.setLongProperty(activemq.SCHEDULED, _milliseconds(message.delay))
        elif hasattr(producer, "setDeliveryDelay"):
            if message.delay or self._delaying:
                producer.setDeliveryDelay(_milliseconds(message.delay))
                self._delaying = message.delay > 0
        elif message.delay:
            raise Problem(
                "bad_request",
                "the profile's client library can't delay messages: it is one of JMS 1.1",
                hint="leave delay out",
                extra={"field": "delay"},
            )
        producer.send(
            made,
            PERSISTENT if message.persistent else NOT_PERSISTENT,
            DEFAULT_PRIORITY if message.priority is None else message.priority,
            _milliseconds(message.ttl),
        )
        return str(made.getJMSMessageID() or "")

    def _thd_take(
        self, source: Source, limit: int, milliseconds: int, max_bytes: int
    ) -> list[IncomingMessage]:
        provider = self._entered()
        with self._told("working"):
            place = thd_destination(provider, self._session, source.destination)
            self._consumer = thd_consumer(provider, self._session, place, source)
            taking = Taking(provider, self._session, self._consumer, place)
            found = taking.thd_all(limit, milliseconds, max_bytes)
            if not found:
                self._thd_give_back()
            elif provider.activemq is None:
                # What the library was sent ahead goes back at once; the transaction stays.
                self._thd_stop_consuming()
        return found

    def _thd_stop_consuming(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _thd_give_back(self) -> None:
        self._session.rollback()
        self._thd_stop_consuming()

    @contextmanager
    def _told(self, stage: Stage) -> Iterator[None]:
        provider = self._library
        provider.thd_enter()
        try:
            yield
        except provider.errors as error:
            raise problem(fault(error), provider.settings, stage) from None

    @contextmanager
    def _confirming(self) -> Iterator[None]:
        """Between asking the broker to have messages for good and its word that it has."""
        provider = self._library
        try:
            yield
        except provider.errors as error:
            found = fault(error)
            said = problem(found, provider.settings, "working")
            if said.code == "target_unreachable" and not found.has(_ROLLED_BACK):
                said.hint = "they may have been published or not: look before sending them again"
            else:
                said.extra["published"] = 0
            raise said from None

    @contextmanager
    def _acknowledging(self) -> Iterator[None]:
        """Whatever keeps the broker from confirming means that it delivers again."""
        provider = self._library
        try:
            yield
        except provider.errors as error:
            said = problem(fault(error), provider.settings, "working")
            raise Problem(
                "conflict",
                f"the messages were not acknowledged, or the broker has not said so: {said.detail}",
                hint="the broker delivers them again: handle them so that twice does no harm",
            ) from None


def _thd_events(provider: Provider, connection: Any) -> Any:
    """A queue of Java's into which the library puts what goes wrong with a connection.

    All of it is Java's: a callback into Python could come while Python is being taken down.
    """
    jpype = provider.jpype
    events = jpype.JClass("java.util.concurrent.LinkedBlockingQueue")(1)
    handles = jpype.JClass("java.lang.invoke.MethodHandles")
    kind = jpype.JClass("java.lang.invoke.MethodType")
    anything = jpype.JClass("java.lang.Object").class_
    offer = handles.publicLookup().findVirtual(
        events.getClass(), "offer", kind.methodType(jpype.JBoolean.class_, anything)
    )
    interface = jpype.JClass(
        f"{provider.api.package}.ExceptionListener", loader=provider.api.loader
    )
    listener = jpype.JClass("java.lang.invoke.MethodHandleProxies").asInterfaceInstance(
        interface.class_, offer.bindTo(events)
    )
    connection.setExceptionListener(listener)
    return events


def _milliseconds(seconds: float) -> int:
    """At least one, for what is more than nothing."""
    return 0 if seconds <= 0 else max(1, round(seconds * 1000))
