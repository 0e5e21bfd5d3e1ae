"""A broker of AMQP 1.0 in memory that keeps to the standard, on the server's side of Qpid Proton.

RabbitMQ 3, the only real one for tests, has no selectors, browsing, durable subscriptions, drain
or confirmed settlements: what is written for brokers that have them (Artemis, Qpid …) meets those
here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, ClassVar

from attrs import define, field
from proton import (
    Collector,
    Condition,
    Connection,
    Delivery,
    Described,
    Endpoint,
    Event,
    Message,
    Terminus,
    Transport,
    symbol,
)
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

SELECTOR = "apache.org:selector-filter:string"


@define(eq=False)
class Entry:
    """A message that is kept.

    :ivar taken: by the link that has it unsettled.
    """

    content: bytes
    ready: float = 0.0
    expires: float | None = None
    deliveries: int = 0
    taken: Any = None

    def properties(self) -> dict[str, Any]:
        """Those of the application."""
        message = Message()
        message.decode(self.content)
        return dict(message.properties or {})

    def encoded(self) -> bytes:
        """With the count of the deliveries that were in vain."""
        message = Message()
        message.decode(self.content)
        message.delivery_count = self.deliveries
        return bytes(message.encode())


@define(eq=False)
class Peer:
    """The broker.

    :ivar refuse: makes the refusal of a link to an address, or None.
    :ivar outcome: of each message that is sent to it.
    :ivar less: what of a source's wishes it does not grant: ``filter``, ``durable``, ``copy``.
    """

    properties: dict[str, str] = field(factory=lambda: {"product": "Peer", "version": "1.0"})
    offers: list[str] = field(factory=lambda: ["DELAYED_DELIVERY", "ANONYMOUS-RELAY"])
    refuse: Callable[[str], Condition | None] = field(default=lambda _: None)
    outcome: int = Delivery.ACCEPTED
    less: set[str] = field(factory=set)
    queues: dict[str, list[Entry]] = field(factory=dict)
    topics: dict[str, set[str]] = field(factory=dict)
    links: list[PeerConnection] = field(factory=list)
    protocol: type[PeerConnection] | None = None
    port: Any = None

    def listen(self) -> int:
        """Where it listens on 127.0.0.1."""
        protocol = self.protocol or PeerConnection
        factory = Factory.forProtocol(lambda: protocol(self))
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        return int(self.port.getHost().port)

    def stop(self) -> Any:
        """Cut everything."""
        for link in list(self.links):
            link.transport.abortConnection()
        return self.port.stopListening()

    def queue(self, name: str) -> list[Entry]:
        """A queue, made when there is none."""
        return self.queues.setdefault(name, [])

    def store(self, address: str, kind: str, content: bytes) -> None:
        """Keep a message in a queue, or in every subscription of a topic."""
        message = Message()
        message.decode(content)
        delay = (message.annotations or {}).get("x-opt-delivery-delay", 0) / 1000
        expires = time.time() + message.ttl if message.ttl else None
        names = [address] if kind == "queue" else sorted(self.topics.get(address, ()))
        for name in names:
            self.queue(name).append(Entry(content, time.time() + delay, expires))
        if delay:
            reactor.callLater(delay + 0.01, self.dispatch)  # type: ignore[attr-defined]
        self.dispatch()

    def dispatch(self) -> None:
        """Give what there is to whoever has credit."""
        for link in list(self.links):
            link.dispatch()


class PeerConnection(Protocol):
    """One client."""

    transport: Any
    done: ClassVar[tuple[Any, ...]] = (Delivery.ACCEPTED, Delivery.REJECTED)

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.engine = Transport(Transport.SERVER)
        self.amqp = Connection()
        self.events = Collector()
        self.outgoing: dict[Any, str] = {}
        self.sent: dict[Any, tuple[Entry, str]] = {}
        self.busy = False
        self.timer: Any = None

    def connectionMade(self) -> None:
        self.peer.links.append(self)
        self.amqp.collect(self.events)
        self.engine.sasl().allowed_mechs("ANONYMOUS")
        self.engine.bind(self.amqp)
        self.pump()

    def dataReceived(self, data: bytes) -> None:
        while data and (room := self.engine.capacity()) > 0:
            self.engine.push(data[:room])
            data = data[room:]
            self.pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.peer.links.remove(self)
        if self.timer is not None:
            self.timer.cancel()
        self.all_back()
        # Parts before the whole, as proton needs it.
        self.outgoing.clear()
        while self.events.peek() is not None:
            self.events.pop()
        self.engine.unbind()
        del self.amqp, self.events, self.engine
        self.peer.dispatch()

    def all_back(self) -> None:
        """Every message returns to its queue."""
        for delivery in list(self.sent):
            self.back(delivery, failed=True)

    def pump(self) -> None:
        """Events and output."""
        if self.busy or self not in self.peer.links:
            return
        self.busy = True
        due = self.engine.tick(reactor.seconds())  # type: ignore[attr-defined]
        while True:
            event = self.events.peek()
            if event is not None:
                self.happened(event)
                self.events.pop()
            elif (waiting := self.engine.pending()) > 0:
                self.transport.write(bytes(self.engine.peek(waiting)))
                self.engine.pop(waiting)
            else:
                break
        self.busy = False
        if self.engine.pending() < 0:
            self.transport.loseConnection()
        elif due and self.timer is None and self in self.peer.links:
            wait = max(due - reactor.seconds(), 0.01)  # type: ignore[attr-defined]
            self.timer = reactor.callLater(wait, self.heartbeat)  # type: ignore[attr-defined]

    def heartbeat(self) -> None:
        """Time to say that we are there."""
        self.timer = None
        self.pump()

    def happened(self, event: Event) -> None:
        """One event."""
        kind = event.type
        if kind == Event.CONNECTION_REMOTE_OPEN:
            self.amqp.container = "peer"
            self.amqp.properties = {symbol(k): v for k, v in self.peer.properties.items()}
            self.amqp.offered_capabilities = [symbol(each) for each in self.peer.offers]
            self.amqp.open()
        elif kind == Event.CONNECTION_REMOTE_CLOSE:
            self.amqp.close()
        elif kind == Event.SESSION_REMOTE_OPEN:
            event.session.open()
        elif kind == Event.SESSION_REMOTE_CLOSE:
            for link in [each for each in self.outgoing if each.session == event.session]:
                self.parted(link)
            event.session.close()
        elif kind == Event.LINK_REMOTE_OPEN:
            self.attach(event.link)
        elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            self.parted(event.link)
            event.link.close()
        elif kind == Event.LINK_FLOW and event.link.is_sender:
            self.dispatch()
        elif kind == Event.DELIVERY:
            self.delivered(event.delivery)

    def attach(self, link: Any) -> None:
        """A client wants a link."""
        address = (link.remote_source if link.is_sender else link.remote_target).address or ""
        condition = self.peer.refuse(address)
        if condition is not None:
            link.open()
            link.condition = condition
            link.close()
            return
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        if link.is_sender and not self.grant(link, address):
            return
        link.open()
        if link.is_receiver:
            link.flow(10)

    def grant(self, link: Any, address: str) -> bool:
        """A link that receives: whether its source is as it should be."""
        source, less = link.source, self.peer.less
        if "durable" in less:
            source.durability = Terminus.NONDURABLE
        if "copy" in less:
            source.distribution_mode = Terminus.DIST_MODE_MOVE
        if "filter" in less:
            source.filter.clear()
        wanted = selector(link)
        if wanted is not None and re.fullmatch(r"\w+ = '\w+'", wanted) is None:
            link.open()
            link.condition = Condition("amqp:invalid-field", "a selector that can't be read")
            link.close()
            return False
        name = address
        if capability(source) == "topic":
            name = f"{address}:{link.name}"
            self.peer.topics.setdefault(address, set()).add(name)
        self.outgoing[link] = name
        return True

    def parted(self, link: Any) -> None:
        """A link has ended: what it had goes back."""
        name = self.outgoing.pop(link, None)
        for delivery in [each for each in self.sent if each.link == link]:
            self.back(delivery, failed=True)
        if name is not None and ":" in name and link.source.durability == Terminus.NONDURABLE:
            self.peer.topics[link.source.address].discard(name)
        self.peer.dispatch()

    def delivered(self, delivery: Any) -> None:
        """A message from a client, or what it says of one of ours."""
        link = delivery.link
        if link.is_receiver:
            if delivery.readable and not delivery.partial:
                content = bytes(link.recv(delivery.pending))
                link.advance()
                if self.peer.outcome == Delivery.ACCEPTED:
                    self.peer.store(link.target.address, capability(link.target), content)
                delivery.update(self.peer.outcome)
                delivery.settle()
                link.flow(1)
            return
        if not delivery.updated or delivery not in self.sent:
            return
        if delivery.remote_state in self.done:
            entry, name = self.sent.pop(delivery)
            self.peer.queue(name).remove(entry)
        elif delivery.remote_state in (Delivery.RELEASED, Delivery.MODIFIED):
            self.back(delivery, failed=delivery.remote.failed)
        else:
            return
        delivery.update(delivery.remote_state)
        delivery.settle()
        self.peer.dispatch()

    def back(self, delivery: Any, *, failed: bool) -> None:
        """A message returns to its queue."""
        entry, _ = self.sent.pop(delivery)
        entry.taken = None
        entry.deliveries += failed

    def dispatch(self) -> None:
        """Send what there is credit for."""
        for link, name in list(self.outgoing.items()):
            if not link.state & Endpoint.LOCAL_ACTIVE:
                continue
            wanted, now = selector(link), time.time()
            browse = link.source.distribution_mode == Terminus.DIST_MODE_COPY
            for entry in list(self.peer.queue(name)):
                if entry.expires is not None and entry.expires < now and entry.taken is None:
                    self.peer.queue(name).remove(entry)
                elif link.credit <= 0:
                    break
                elif entry.taken is None and entry.ready <= now and matches(entry, wanted):
                    self.send(link, name, entry, browse=browse)
            if link.drain_mode:
                link.drained()
        self.pump()

    def send(self, link: Any, name: str, entry: Entry, *, browse: bool) -> None:
        """One message."""
        delivery = link.delivery(link.delivery_tag())
        link.stream(entry.encoded())
        link.advance()
        if browse:
            delivery.settle()
            return
        entry.taken = link
        self.sent[delivery] = (entry, name)


def capability(terminus: Any) -> str:
    """``queue`` or ``topic``."""
    found = terminus.capabilities
    found.rewind()
    return str(found.get_object()) if found.next() else "queue"


def selector(link: Any) -> str | None:
    """What a link's source selects by."""
    filters = link.source.filter
    filters.rewind()
    wanted = filters.get_object() if filters.next() else None
    for each in (wanted or {}).values():
        if isinstance(each, Described) and each.descriptor == SELECTOR:
            return str(each.value)
    return None


def matches(entry: Entry, wanted: str | None) -> bool:
    """Whether a message is selected."""
    if wanted is None:
        return True
    name, _, value = wanted.partition(" = ")
    return bool(entry.properties().get(name) == value.strip("'"))
