"""Renewal of the agent's certificate over the tunnel that is up, long before it ends.

Due at about two thirds of its life. The tunnel goes on with the old certificate; connections made
afterwards show the new one. The key stays.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from workato_tunnel.errors import ErrorCode, StreamRefused, StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

from .keys import CertificateUnfit
from .store import Identity

TIMEOUT: Final = 30.0
FIRST_RETRY: Final = 30.0
LONGEST_RETRY: Final = 3600.0
LONGEST_NAP: Final = 3600.0
"""Seconds between looks at the wall clock, which may be set or have slept meanwhile."""
DAY: Final = 86_400.0
WARN_BEFORE: Final = 7 * DAY
_LARGEST_ANSWER: Final = 256 * 1024


class RenewalError(Exception):
    """The gateway did not give a certificate that is of use; the message says why."""


class OpenSession(Protocol):
    """The session, as renewal needs it."""

    @property
    def available(self) -> bool: ...

    def open_stream(
        self, head: Open, receiver: StreamReceiver, *, end: bool = False
    ) -> StreamTransport: ...


class Renewal(Service):
    """Renews in time, tries again where that fails, and warns while there is time to act.

    :param session: the tunnel's present session, None where there is none.
    :param wall_clock: Unix seconds; certificates speak of real time.
    :ivar problem: why the latest attempt failed; "" when it did not.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        identity: Identity,
        session: Callable[[], OpenSession | None],
        *,
        wall_clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.problem = ""
        self.renewals = 0
        self._clock = clock
        self._identity = identity
        self._session = session
        self._now = wall_clock
        self._jitter = jitter
        self._due_at = 0.0
        self._failures = 0
        self._warned_at: float | None = None
        self._next: IDelayedCall | None = None
        self._attempt: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._plan()
        self._look()

    def stopService(self) -> None:
        """Stop at once; an exchange under way is given up."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._attempt is not None:
            self._attempt.cancel()

    @property
    def seconds_left(self) -> float:
        """Until the certificate ends; negative once it has."""
        return self._identity.expires.timestamp() - self._now()

    def status(self) -> dict[str, object]:
        """For ``workato-agent status``."""
        return {
            "expires": self._identity.expires.isoformat(),
            "days_left": round(self.seconds_left / DAY, 2),
            "renewal_due": datetime.fromtimestamp(self._due_at, UTC).isoformat(),
            "renewals": self.renewals,
            "problem": self.problem or None,
        }

    # -- when ----------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Two thirds of the life, a little earlier or later, so that agents enrolled together do
        not come together."""
        life = self._identity.lifetime.total_seconds()
        part = 2 / 3 + (self._jitter() - 0.5) * 0.06
        self._due_at = self._identity.expires.timestamp() - life * (1 - part)

    def _look(self) -> None:
        self._next = None
        self._warn()
        if self._now() < self._due_at:
            self._sleep(self._due_at - self._now())
            return
        session = self._session()
        if session is None or not session.available:
            self._sleep(self._retry_after(FIRST_RETRY))
            return
        self._attempt = Deferred.fromCoroutine(self._renew(session))
        self._attempt.addBoth(self._attempted)

    def _attempted(self, _: object) -> None:
        self._attempt = None
        if not self.running:
            return
        if self.problem:
            wait = min(FIRST_RETRY * 2.0**self._failures, LONGEST_RETRY)
            self._failures = min(self._failures + 1, 16)
            self._sleep(self._retry_after(wait))
        else:
            self._failures = 0
            self._plan()
            self._sleep(max(self._due_at - self._now(), self._shortest()))

    def _retry_after(self, wait: float) -> float:
        """Often enough that several attempts fit what is left of a short-lived certificate."""
        return min(wait, max(self._shortest(), self.seconds_left / 8)) * (0.75 + self._jitter() / 2)

    def _shortest(self) -> float:
        return min(FIRST_RETRY, max(1.0, self._identity.lifetime.total_seconds() / 20))

    def _sleep(self, seconds: float) -> None:
        self._next = self._clock.callLater(min(max(seconds, 0.0), LONGEST_NAP), self._look)

    def _warn(self) -> None:
        left = self.seconds_left
        threshold = min(WARN_BEFORE, self._identity.lifetime.total_seconds() / 4)
        if left >= threshold:
            self._warned_at = None
            return
        if self._warned_at is not None and self._now() - self._warned_at < DAY and left > 0:
            return
        if left <= 0 and self._warned_at is not None and self._warned_at > self._expired_at():
            return
        self._warned_at = self._now()
        if left > 0:
            self._log.warn(
                "The agent's certificate ends at {expires}, in {days} days, and is not renewed yet:"
                " {reason}",
                event="certificate_expiring",
                expires=f"{self._identity.expires:%Y-%m-%d %H:%M} UTC",
                days=round(left / DAY, 1),
                reason=self.problem or "the tunnel is down",
            )
        else:
            self._log.error(
                "The agent's certificate ended at {expires}: the gateway no longer lets the agent"
                " in. Ask for an activation code and run workato-agent enrol --force",
                event="certificate_expired",
                expires=f"{self._identity.expires:%Y-%m-%d %H:%M} UTC",
            )

    def _expired_at(self) -> float:
        return self._identity.expires.timestamp()

    # -- how -----------------------------------------------------------------------------------

    async def _renew(self, session: OpenSession) -> None:
        try:
            certificate = await self._exchange(session)
            self._identity.renew(certificate, datetime.fromtimestamp(self._now(), UTC))
        except CancelledError:
            return
        except (RenewalError, CertificateUnfit, ValueError, OSError) as error:
            self.problem = str(error)
            self._log.warn(
                "The certificate could not be renewed: {reason}",
                event="renewal_failed",
                reason=self.problem,
            )
            return
        self.problem = ""
        self.renewals += 1
        self._log.info(
            "The certificate is renewed until {expires}",
            event="certificate_renewed",
            expires=f"{self._identity.expires:%Y-%m-%d %H:%M} UTC",
        )

    async def _exchange(self, session: OpenSession) -> bytes:
        head = Open(
            service="gateway",
            method="POST",
            path="renew",
            headers=(("content-type", "application/json"),),
            timeout=int(TIMEOUT * 1000),
        )
        answer = _Answer()
        try:
            stream = session.open_stream(head, answer)
        except StreamRefused as error:
            raise RenewalError(f"the tunnel takes no stream: {error}") from error
        stream.write(msgspec.json.encode({"csr": self._identity.signing_request().decode()}))
        stream.half_close()

        def too_late(_: object, seconds: float) -> bytes:
            raise RenewalError(f"no answer within {seconds:g} s")

        complete = answer.complete.addTimeout(TIMEOUT, self._clock, onTimeoutCancel=too_late)
        try:
            body = await complete
        finally:
            stream.reset(ErrorCode.CANCELLED, "renewal ended")  # no-op after a complete answer
        return answer.certificate(body)


class _Certificate(msgspec.Struct):
    certificate: str


class _Refusal(msgspec.Struct):
    detail: str


class _Answer:
    """The receiver of the one answer. ``complete`` fires with its body."""

    def __init__(self) -> None:
        self.complete: Deferred[bytes] = Deferred()
        self._status = 0
        self._body = bytearray()

    def certificate(self, body: bytes) -> bytes:
        """The certificate in PEM. Raises RenewalError."""
        try:
            if self._status == 200:
                return msgspec.json.decode(body, type=_Certificate).certificate.encode()
            refusal = msgspec.json.decode(body, type=_Refusal).detail
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RenewalError(
                f"the gateway's answer (status {self._status}) is no certificate: {error}"
            ) from error
        raise RenewalError(f"the gateway refuses: {refusal}")

    def head_received(self, head: Head) -> None:
        self._status = head.status

    def data_received(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _LARGEST_ANSWER:
            self._fail("its answer is too long")

    def end_received(self) -> None:
        """Told again by ``finished``."""

    def finished(self, trailers: Trailers) -> None:
        if not self.complete.called:
            self.complete.callback(bytes(self._body))

    def reset_received(self, reason: StreamReset) -> None:
        words = ", ".join(each for each in (reason.message, reason.detail) if each)
        self._fail(f"{reason.reason}: {words}" if words else reason.reason)

    def _fail(self, words: str) -> None:
        if not self.complete.called:
            self.complete.errback(RenewalError(f"the gateway did not renew: {words}"))
