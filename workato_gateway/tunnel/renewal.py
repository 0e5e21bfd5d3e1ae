"""The one stream that agents open: a new certificate, over the tunnel that is up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from workato_tunnel.errors import ErrorCode, StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.problems import Problem
from workato_tunnel.tx.transport import StreamTransport

SERVICE: Final = "gateway"
PATH: Final = "renew"
MAX_REQUEST: Final = 16 * 1024


class _Request(msgspec.Struct):
    csr: str


class RenewalCall:
    """Collects the request, asks for the certificate and answers."""

    _log = Logger()

    def __init__(
        self, stream: StreamTransport, head: Open, renew: Callable[[str], Awaitable[str]]
    ) -> None:
        self._stream = stream
        self._renew = renew
        self._body = b""
        self._work: Deferred[None] | None = None
        if (head.service, head.method, head.path) != (SERVICE, "POST", PATH):
            stream.reset(ErrorCode.REFUSED, "the gateway serves POST renew only")
            stream.release()

    def head_received(self, head: Head) -> None:
        """Never sent by the opener."""

    def data_received(self, data: bytes) -> None:
        """A piece of the request."""
        self._body += data
        if len(self._body) > MAX_REQUEST:
            self._stream.reset("payload_too_large", f"a renewal is at most {MAX_REQUEST} bytes")
            self._stream.release()

    def end_received(self) -> None:
        """The request is whole."""
        self._work = Deferred.fromCoroutine(self._answer())
        self._work.addErrback(self._failed)
        self._work.addBoth(lambda _done: self._stream.release())

    def finished(self, trailers: Trailers) -> None:
        """Never sent by the opener."""

    def reset_received(self, reason: StreamReset) -> None:
        """The agent is gone."""
        if self._work is not None:
            self._work.cancel()
        else:
            self._stream.release()

    async def _answer(self) -> None:
        try:
            request = msgspec.json.decode(self._body, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem("bad_request", f"not a renewal request: {error}") from None
        certificate = await self._renew(request.csr)
        body = msgspec.json.encode({"certificate": certificate})
        self._stream.send_head(Head(200, (("content-type", "application/json"),)))
        self._stream.write(body)
        self._stream.finish(Trailers())

    def _failed(self, failure: Failure) -> None:
        problem = failure.value
        if isinstance(problem, Problem):
            self._stream.reset(problem.code, problem.detail, problem.hint or "")
        elif not self._stream.closed:
            self._log.failure(
                "A certificate could not be renewed",
                event="certificate_renewal_broke",
                failure=failure,
            )
            self._stream.reset(ErrorCode.INTERNAL_ERROR)
