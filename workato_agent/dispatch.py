"""From a stream to a service and back: which calls there are, and where each goes.

The dispatcher owns every call (:mod:`workato_agent.calls`) until its work has really ended. A drain
refuses new ones and waits for the rest; an abort cancels them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from workato_tunnel.errors import ErrorCode
from workato_tunnel.frames import Open
from workato_tunnel.problems import Problem
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

from .calls import Call, CallEnd, CallObserver, ServedProfile

Profiles = Mapping[str, Mapping[str, ServedProfile]]
"""What this agent serves, by service and then by profile. A service without profiles is there."""


class Dispatcher:
    """Serves the streams that the gateway opens.

    :param admit: asked before each call; raises Problem where none can be taken now. A call that it
        refuses has not been one: no observer hears of it.
    :ivar profiles: may be replaced at any time; calls in flight stay with what they began on.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        profiles: Profiles,
        observers: tuple[CallObserver, ...] = (),
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        self._admit = admit
        self.profiles = profiles
        self.clock = clock
        self.observers = observers
        self.draining = False
        self._calls: set[Call] = set()
        self._idle: list[Deferred[None]] = []

    @property
    def in_flight(self) -> int:
        """Calls whose work has not ended."""
        return len(self._calls)

    def accept(self, stream: StreamTransport, head: Open) -> StreamReceiver:
        """Begin a call. Never raises: this runs inside the session's reading."""
        call = Call(self, stream, head)
        if self.draining:
            stream.reset(ErrorCode.DRAINING, "the agent is going away")
            stream.release()
            return call
        try:
            self._admit()
        except Problem as problem:
            call.refuse(problem)
            return call
        self._calls.add(call)
        call.begin()
        return call

    def drain(self) -> Deferred[None]:
        """Refuse new calls (as safe to try elsewhere). Fires when those in flight have ended."""
        self.draining = True
        if not self._calls:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._idle.remove)
        self._idle.append(waiting)
        return waiting

    def abort(self) -> None:
        """Cancel what is in flight; their callers are told that the agent left."""
        for call in list(self._calls):
            call.stop(
                Problem(
                    "tunnel_lost",
                    "The agent was stopped before this call ended; its work may be half done",
                    hint="check what was done before trying again",
                )
            )

    def route(self, head: Open) -> ServedProfile:
        """The profile that is called. Raises Problem."""
        profiles = self.profiles.get(head.service)
        if profiles is None:
            raise Problem(
                "service_not_found",
                f"This agent has no service {head.service!r}",
                hint=f"it has {', '.join(sorted(self.profiles)) or 'none'}",
            )
        profile = profiles.get(head.profile)
        if profile is None:
            raise Problem(
                "profile_not_found",
                f"This agent has no profile {head.profile!r} under {head.service!r}",
                hint="profiles are named in the agent's config.yml",
            )
        return profile

    def ended(self, call: Call, end: CallEnd) -> None:
        """A call's work has ended (called by the call)."""
        self._calls.discard(call)
        for observer in self.observers:
            try:
                observer.call_ended(end)
            except Exception:  # noqa: BLE001 - one observer's fault must not keep another's record
                self.log.failure(
                    "Recording the end of call {request_id} failed",
                    event="call_end_not_recorded",
                    request_id=end.head.request_id,
                )
        if not self._calls and self._idle:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)
