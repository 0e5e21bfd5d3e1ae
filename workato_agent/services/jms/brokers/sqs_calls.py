"""Calls of Amazon SQS: AWS's JSON protocol 1.0, signed, over kept HTTPS connections."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final, TypeVar

import msgspec
from attrs import define, field
from OpenSSL.SSL import Error as TLSError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from workato_tunnel.problems import Problem

from ....config.aws import LOGIN_HINTS, AwsKeys
from ...handshakes import Handshake, Trust
from ..dialling import lost_problem
from ..settings import Address, SqsSettings

T = TypeVar("T")
_SERVICE: Final = "sqs"
_LARGEST: Final = 64 * 2**20
"""Bytes of an answer: ten messages of a mebibyte, in JSON's longest way to write them."""
_PATIENCE: Final = 3
"""So many times the time for connecting an answer may take, beside what a long poll asks for."""
_IDLE: Final = 15
_ONCE: Final = frozenset({"SendMessageBatch"})
"""What must not be sent twice; all else does the same when it is."""
_DIED: Final = (ResponseNeverReceived, RequestTransmissionFailed, ConnectionClosed)

_CODES: Final = {
    "QueueDoesNotExist": "target_not_found",
    "QueueDeletedRecently": "target_not_found",
    "ReceiptHandleIsInvalid": "conflict",
    "MessageNotInflight": "conflict",
    "BatchRequestTooLong": "payload_too_large",
    "OverLimit": "overloaded",
    "RequestThrottled": "overloaded",
    "ThrottlingException": "overloaded",
    "Throttling": "overloaded",
    "KmsThrottled": "overloaded",
    "InternalFailure": "target_unreachable",
    "InternalError": "target_unreachable",
    "ServiceUnavailable": "target_unreachable",
}
_HINTS: Final = {
    "target_not_found": "check the queue's name, the region and the account",
    "target_permission_denied": "allow this key's user or role the action on the queue, in IAM and"
    " in the queue's own policy",
    "overloaded": "try again shortly",
    "payload_too_large": "send less at once",
}


@implementer(IAgentEndpointFactory)
@define(eq=False)
class _Endpoints:
    """Makes connections, verified as the profile says; remembers the latest handshake."""

    _reactor: Any
    _trust: Trust | None
    _timeout: float
    latest: Handshake | None = None

    def endpointForURI(self, uri: URI) -> Any:  # noqa: N802 - Twisted's name
        """Where the service listens."""
        host = uri.host.decode("ascii").strip("[]")
        endpoint: Any = HostnameEndpoint(self._reactor, host, uri.port, timeout=self._timeout)
        if self._trust is not None:
            self.latest = self._trust.handshake(host)
            endpoint = wrapClientTLS(self.latest, endpoint)
        return endpoint


@define(eq=False)
class SqsCalls:
    """The calls of one profile."""

    url: str
    _clock: Any
    _settings: SqsSettings
    _keys: AwsKeys
    _address: Address
    _endpoints: _Endpoints
    _pool: HTTPConnectionPool
    _client: HTTPClient
    _running: int = field(init=False, default=0)

    @classmethod
    def of(cls, reactor: Any, settings: SqsSettings) -> SqsCalls:
        """Nothing is opened yet. Raises ValueError for TLS that can't be used."""
        url = (settings.endpoint or _public(settings.region)) + "/"
        uri = URI.fromBytes(url.encode("ascii"))
        address = Address(uri.host.decode("ascii").strip("[]"), uri.port)
        trust = None if settings.tls is None else Trust(settings.tls)
        endpoints = _Endpoints(reactor, trust, settings.connect_timeout)
        pool = HTTPConnectionPool(reactor, persistent=True)
        pool.maxPersistentPerHost = settings.max_connections
        pool.cachedConnectionTimeout = _IDLE
        agent = Agent.usingEndpointFactory(reactor, endpoints, pool)
        keys = AwsKeys(settings.access_key, settings.secret_key, settings.session_token)
        return cls(url, reactor, settings, keys, address, endpoints, pool, HTTPClient(agent))

    async def call(
        self, action: str, parameters: Mapping[str, object], wait: float = 0.0
    ) -> dict[str, Any]:
        """What SQS answers. Raises Problem.

        Cancelling ends the HTTP request.

        :param wait: seconds that a long poll asks for.
        """
        if self._running >= self._settings.max_connections:
            raise Problem(
                "overloaded",
                f"{self._running} calls of SQS are the most that this profile makes at a time",
            )
        body = msgspec.json.encode(parameters)
        self._running += 1
        try:
            status, headers, content = await self._exchange(action, body, wait)
        finally:
            self._running -= 1
        return self._answer(action, status, headers, content)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.closeCachedConnections()

    async def _exchange(self, action: str, body: bytes, wait: float) -> tuple[int, Any, bytes]:
        """Send and read; once more where a kept connection proves dead and that does no harm."""
        patience = _PATIENCE * self._settings.connect_timeout + wait
        try:
            return await self._attempt(action, body, patience)
        except _DIED as error:
            if action in _ONCE:
                raise self._lost(error) from None
        try:
            return await self._attempt(action, body, patience)
        except _DIED as error:
            raise self._lost(error) from None

    async def _attempt(self, action: str, body: bytes, patience: float) -> tuple[int, Any, bytes]:
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"AmazonSQS.{action}",
        }
        signed = self._keys.sign(_SERVICE, self._settings.region, self.url, headers, body)
        work = _cancellable(Deferred.fromCoroutine(self._read(signed, body)))
        work.addTimeout(patience, self._clock)
        try:
            return await work
        except DeferredTimeout:
            raise self._unreachable(
                f"no answer within {patience:g} s", "check the network, and AWS's service health"
            ) from None
        except DNSLookupError:
            raise self._unreachable(
                "the name is not known", "check region and endpoint, and the DNS of this machine"
            ) from None
        except ConnectError as error:
            raise self._unreachable(
                str(error), "check endpoint and network; the agent dials AWS directly"
            ) from None
        except ResponseFailed as error:
            if isinstance(error, _DIED) and not self._refused(error):
                raise
            raise self._lost(error) from None
        except RequestGenerationFailed as error:
            raise self._lost(error) from None

    async def _read(self, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        fields = Headers({name: [value] for name, value in headers.items()})
        response = await self._client.request(
            "POST", self.url, headers=fields, data=body, allow_redirects=False, unbuffered=True
        )
        reader = _Reader()
        response.deliverBody(reader)
        return response.code, response.headers, await reader.content

    def _answer(self, action: str, status: int, headers: Any, content: bytes) -> dict[str, Any]:
        try:
            answer = msgspec.json.decode(content) if content else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        kind = answer.get("__type") if isinstance(answer, dict) else None
        if isinstance(answer, dict) and isinstance(kind, str):
            told = answer.get("message") or answer.get("Message") or ""
            code = kind.rpartition("#")[2]
            raise aws_problem(action, code, str(told), self._skew(headers))
        if status >= 500:
            raise self._unreachable(f"HTTP {status}", "check AWS's service health; try again")
        raise Problem(
            "target_wrong_type",
            f"{self._address}: what answers there (HTTP {status}) is not Amazon SQS",
            hint="check the profile's endpoint",
        )

    def _skew(self, headers: Any) -> float:
        """Seconds by which this machine's clock is ahead of theirs, as far as known."""
        for value in headers.getRawHeaders("date", []):
            try:
                return time() - parsedate_to_datetime(value).timestamp()
            except (ValueError, TypeError):
                continue
        return 0.0

    def _refused(self, error: Exception) -> bool:
        latest = self._endpoints.latest
        told = latest is not None and latest.refusal is not None
        return told or any(each.check(TLSError) for each in getattr(error, "reasons", ()))

    def _lost(self, error: Exception) -> Problem:
        reasons = [each.value for each in getattr(error, "reasons", ())]
        tls = next((each for each in reasons if isinstance(each, TLSError)), None)
        if self._refused(error):
            return lost_problem(self._address, self._endpoints.latest, tls)
        words = "; ".join(str(each) for each in reasons) or str(error)
        return self._unreachable(
            f"the connection was lost before an answer: {words}", "check what was done, try again"
        )

    def _unreachable(self, words: str, hint: str) -> Problem:
        extra = {"host": self._address.host, "port": self._address.port}
        return Problem("target_unreachable", f"{self._address}: {words}", hint=hint, extra=extra)


class _Reader(Protocol):
    """Gathers a body up to its limit. Cancelling ``content`` ends the connection."""

    def __init__(self) -> None:
        self.content: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _LARGEST:
            self._fail(Problem("payload_too_large", f"an answer of more than {_LARGEST} bytes"))
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.content.called:
            return
        if reason.check(ResponseDone):
            self.content.callback(b"".join(self._parts))
        else:
            self.content.errback(Failure(ResponseNeverReceived([reason])))

    def _fail(self, problem: Problem) -> None:
        if not self.content.called:
            self.content.errback(problem)
        self._abort()

    def _abort(self) -> None:
        self._parts.clear()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


def _cancellable(work: Deferred[T]) -> Deferred[T]:
    """The same, whose cancelling is told as such: HTTP makes failures of other kinds of it."""

    def cancel(_: Deferred[T]) -> None:
        waiting.errback(CancelledError())
        work.cancel()

    waiting: Deferred[T] = Deferred(cancel)
    work.addBoth(lambda outcome: None if waiting.called else waiting.callback(outcome))
    return waiting


def aws_problem(action: str, code: str, told: str, skew: float = 0.0) -> Problem:
    """An error of AWS's as a problem.

    :param code: without its namespace. ``told``: AWS's own words.
    """
    name = code.removeprefix("AWS.SimpleQueueService.").removesuffix(":")
    name = "QueueDoesNotExist" if name == "NonExistentQueue" else name
    words = "".join(c if c.isprintable() else " " for c in told)[:400]
    detail = f"Amazon SQS, {action}: {words} ({name})" if words else f"Amazon SQS, {action}: {name}"
    if name in LOGIN_HINTS:
        hint = LOGIN_HINTS[name]
        if abs(skew) > 60:
            hint = f"this machine's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        return Problem("target_login_failed", detail, hint=hint)
    if name.startswith(("AccessDenied", "KmsAccessDenied")) or name == "AccessDenied":
        problem = "target_permission_denied"
    elif "must be shorter than" in told:
        problem = "payload_too_large"
    elif "receipt handle has expired" in told:
        problem = "conflict"
    else:
        problem = _CODES.get(name, "bad_request")
    retry = 1 if problem == "overloaded" else None
    return Problem(problem, detail, hint=_HINTS.get(problem), retry_after=retry)


def _public(region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://sqs.{region}.{suffix}"
