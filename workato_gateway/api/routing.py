"""Where a request goes: to an agent, or to a resource of the gateway itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from ..identity.tokens import Caller
from ..metrics import CALLER_LEFT, Metrics
from .access_log import AccessLog
from .exchange import Exchange
from .messages import AdminRequest, AdminResource, AdminResponse
from .problems import refusal
from .relay import Authenticate, Relay

MAX_ADMIN_BODY: Final = 1024 * 1024
ADMIN_TIMEOUT: Final = 60.0
CALL_FORM: Final = "Calls go to /v1/groups/{group}/{service}/{profile}[/{path}]."
ANONYMOUS: Final = Caller(owner="", token_id="", scopes=())

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def _nobody(_address: str) -> bool:
    return False


@define
class Router:
    """The site that the HTTP server serves.

    :ivar resources: answers everything else under ``/v1``, to callers with a token; it finds the
        resource by the path and authorises.
    :ivar public: exact paths that need no token: the resource sees :data:`ANONYMOUS`.
    :ivar reserved: words in a service's place that belong to the administration.
    :ivar proxies: whether an address is a proxy whose ``X-Forwarded-For`` is believed.
    """

    relay: Relay
    authenticate: Authenticate
    resources: AdminResource
    clock: IReactorTime
    metrics: Metrics
    public: Mapping[str, AdminResource] = field(factory=dict)
    reserved: frozenset[str] = frozenset({"agents", "activation-codes"})
    proxies: Callable[[str], bool] = field(default=_nobody)
    access_log: AccessLog | None = None
    _log = Logger()

    def request_received(self, exchange: Exchange) -> None:
        """A request's head is there: begin to answer it."""
        _identify(exchange)
        forwarded = exchange.head.control.get("x-forwarded-for")
        if forwarded is not None and self.proxies(exchange.peer):
            exchange.peer = self._caller_behind_proxies(forwarded)
        path, _, _ = exchange.head.target.partition("?")
        segments = path.split("/", 6)
        try:
            if (
                len(segments) > 5
                and segments[2] == "groups"
                and segments[1] == "v1"
                and segments[4] not in self.reserved
            ):
                self.relay.begin(exchange, segments)
            else:
                self._administer(exchange, path)
        except Problem as problem:
            exchange.listener = None
            exchange.fail(problem)
        except Exception:  # noqa: BLE001 - a bug must end in an answer, and nowhere else
            self._log.failure(
                "Request {request_id} failed", event="request_broke", request_id=exchange.request_id
            )
            exchange.break_off(_internal_error())

    def refused(self, exchange: Exchange, problem: Problem) -> None:
        """What came is no request."""
        _identify(exchange)
        exchange.fail(problem)

    def exchange_ended(self, exchange: Exchange) -> None:
        """Count it and note it."""
        seconds = self.clock.seconds() - exchange.started
        if exchange.relayed:
            self.relay.ended(exchange)
        if exchange.group or exchange.relayed:
            self.metrics.call_ended(
                exchange.group,
                exchange.service,
                exchange.status if exchange.complete else exchange.code or CALLER_LEFT,
                exchange.bytes_in,
                exchange.bytes_out,
                seconds,
            )
        if exchange.code:
            self.metrics.problem_answered(exchange.code)
        if self.access_log is not None:
            self.access_log.record(exchange, seconds)

    def _caller_behind_proxies(self, forwarded: str) -> str:
        """The last address of the list that is not itself such a proxy."""
        addresses = [part.strip() for part in forwarded.split(",")]
        for address in reversed(addresses):
            if not self.proxies(address):
                return address[:64]
        return addresses[0][:64]

    def _administer(self, exchange: Exchange, path: str) -> None:
        caller = ANONYMOUS
        segments: tuple[str, ...] = ()
        resource = self.public.get(path)
        if resource is None:
            caller = self.authenticate(exchange.head.control.get("authorization"))
            exchange.owner = caller.owner
            root, *rest = (_decoded(part) for part in path.split("/")[1:] or [path])
            if root != "v1":
                raise Problem("not_found", f"there is nothing at {path}", hint=CALL_FORM)
            resource = self.resources
            segments = tuple(rest)
        exchange.limit_body(MAX_ADMIN_BODY)
        query = exchange.head.target.partition("?")[2]
        AdminCall(
            exchange, resource, segments, dict(parse_qsl(query, keep_blank_values=True)), caller
        ).begin(self.clock.seconds() + ADMIN_TIMEOUT)


class AdminCall:
    """Collects a small body, asks the resource, answers."""

    __slots__ = (
        "_body",
        "_caller",
        "_cancelled",
        "_exchange",
        "_path",
        "_query",
        "_resource",
        "_work",
    )

    _log = Logger()

    def __init__(
        self,
        exchange: Exchange,
        resource: AdminResource,
        path: tuple[str, ...],
        query: dict[str, str],
        caller: Caller,
    ) -> None:
        self._exchange = exchange
        self._resource = resource
        self._path = path
        self._query = query
        self._caller = caller
        self._body: list[bytes] = []
        self._work: Deferred[None] | None = None
        self._cancelled = False

    def begin(self, deadline: float) -> None:
        """Begin, at once where there is no body."""
        self._exchange.listener = self
        self._exchange.expire_at(deadline)
        if self._exchange.head.has_body:
            self._exchange.receive_body()
        else:
            self.body_ended()

    def body_received(self, data: bytes) -> None:
        """Listener: request body."""
        self._body.append(data)

    def body_ended(self) -> None:
        """Listener: the body is complete."""
        exchange = self._exchange
        request = AdminRequest(
            exchange.head.method,
            self._path,
            self._query,
            b"".join(self._body),
            self._caller,
            exchange.request_id,
            exchange.peer,
        )
        self._body.clear()
        work = Deferred.fromCoroutine(self._answer(request))
        if not exchange.ended:
            self._work = work
        work.addErrback(self._failed)

    async def _answer(self, request: AdminRequest) -> None:
        try:
            response = await self._resource(request)
        except Problem as problem:
            self._exchange.fail(problem)
            return
        self._exchange.respond(response.status, _fields(response), response.body())

    def _failed(self, failure: Failure) -> None:
        if self._cancelled and failure.check(CancelledError):
            return
        self._log.failure(
            "Request {request_id} failed",
            failure,
            event="request_broke",
            request_id=self._exchange.request_id,
        )
        self._exchange.fail(_internal_error())

    def caller_lost(self) -> None:
        """Listener: nobody waits any more."""
        self._cancel()

    def expired(self) -> None:
        """Listener: it took too long."""
        self._exchange.fail(
            Problem("deadline_exceeded", f"no answer within {ADMIN_TIMEOUT:g} s", hint="Try again.")
        )
        self._cancel()

    def pause_response(self) -> None:
        """Listener: the answer is whole, there is nothing to pause."""

    def resume_response(self) -> None:
        """Listener: nothing to resume."""

    def _cancel(self) -> None:
        self._cancelled = True
        work, self._work = self._work, None
        if work is not None:
            work.cancel()


def _identify(exchange: Exchange) -> None:
    """Give the exchange its trace and its id: the caller's where they are sane, else new ones."""
    control = exchange.head.control
    trace = control.get("traceparent")
    match = _TRACEPARENT.fullmatch(trace) if trace is not None else None
    if match is not None:
        exchange.trace = match[0]
        exchange.request_id = os.urandom(16).hex()
    else:
        fresh = os.urandom(24).hex()
        exchange.request_id = fresh[:32]
        exchange.trace = f"00-{fresh[:32]}-{fresh[32:]}-01"
    wanted = control.get("x-request-id")
    if wanted is not None and _REQUEST_ID.fullmatch(wanted):
        exchange.request_id = wanted


def _fields(response: AdminResponse) -> list[tuple[str, str]]:
    fields = list(response.headers)
    if response.content is not None and not any(
        name.lower() == "content-type" for name, _ in fields
    ):
        binary = isinstance(response.content, bytes)
        fields.append(
            ("content-type", "application/octet-stream" if binary else "application/json")
        )
    return fields


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise refusal(400, "The request is malformed", "the path is not UTF-8") from None


def _internal_error() -> Problem:
    return Problem(
        "internal_error", "the gateway failed on this request", hint="Its log has the request id."
    )
