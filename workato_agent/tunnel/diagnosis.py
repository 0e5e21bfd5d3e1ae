"""What stands between this agent and its gateway, found out step by step.

Each step says what it saw and, where that is not good, what to do. Nothing here disturbs an agent
that runs: no session is taken, none is resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

from attrs import define, field, frozen
from cryptography import x509
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError, NoRouteError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from workato_tunnel.tx.tls import PromptTLSFactory

from ..config.schema import AgentConfig
from ..identity.store import Identity, IdentityError
from ..identity.tls import CertificateRejected, Fault, tls_failure
from ..status import StatusUnavailable, read_status
from .access import identity_of, route_of
from .probes import Doorstep, HeadRequest, Unverified, Verdict, head_request
from .proxy import ConnectProxy, ProxyError

TIMEOUT: Final = 10.0
"""Seconds for each step."""
MOST_SKEW: Final = 60.0
"""Seconds that two clocks may differ before it is worth a word."""
DAY: Final = 86_400.0

T = TypeVar("T")


class State(StrEnum):
    """How a step went. ``SKIPPED``: nothing to be seen, and nothing wrong with that."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen
class Step:
    """One thing that was looked at.

    :ivar hint: what to do.
    """

    name: str
    state: State
    detail: str
    hint: str | None = None


class _Stop(Exception):
    """What comes next would only fail for the same reason."""


async def diagnose(
    reactor: Any, config: AgentConfig, *, timeout: float = TIMEOUT, software: str = "workato-agent"
) -> list[Step]:
    """Look at all that an agent with this config needs for its tunnel, in the order of its needs.

    :param timeout: seconds for each step that waits for somebody else.
    """
    diagnosis = _Diagnosis(reactor, config, timeout, software)
    with suppress(_Stop):
        await diagnosis.run()
    return diagnosis.steps


@define
class _Diagnosis:
    reactor: Any
    config: AgentConfig
    timeout: float
    software: str
    steps: list[Step] = field(factory=list)
    host: str = ""
    port: int = 443
    proxy: ConnectProxy | None = None

    async def run(self) -> None:
        identity = self.identity()
        if identity is not None:
            self.certificate(identity)
        await self.agent()
        url = self.config.gateway.url or (identity.facts.gateway_url if identity else None)
        if url is None:
            raise _Stop
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 443
        self.proxy = route_of(self.config.proxy)
        if self.proxy is None and not (isIPAddress(self.host) or isIPv6Address(self.host)):
            await self.names()
        if identity is None:
            await self.look()
            raise _Stop
        await self.handshake(identity)
        await self.admission(identity, url)

    # -- on this machine -----------------------------------------------------------------------

    def identity(self) -> Identity | None:
        try:
            identity = identity_of(self.config.gateway)
        except IdentityError as error:
            self._add("identity", State.FAILED, str(error))
            return None
        facts = identity.facts
        group = f" of group {facts.group}" if facts.group else ""
        self._add("identity", State.OK, f"agent {identity.name}{group}, {identity.directory}")
        return identity

    def certificate(self, identity: Identity) -> None:
        now = datetime.now(UTC)
        begins, ends = identity.certificate.not_valid_before_utc, identity.expires
        left = ends - now
        until = f"until {ends:%Y-%m-%d %H:%M} UTC"
        if left <= timedelta(0):
            self._add(
                "certificate",
                State.FAILED,
                f"expired: it was good {until}",
                "if the clock here is right, ask for an activation code and run"
                " workato-agent enrol --force --code CODE",
            )
        elif begins > now:
            self._add(
                "certificate",
                State.FAILED,
                f"good only from {begins:%Y-%m-%d %H:%M} UTC on",
                "set the clock of this machine",
            )
        else:
            days = left.total_seconds() / DAY
            shown = f"{days:.0f} days" if days >= 2 else f"{days * 24:.1f} hours"
            late = left < identity.lifetime / 3
            self._add(
                "certificate",
                State.WARNING if late else State.OK,
                f"{shown} left, {until}",
                "a running agent renews it over the tunnel: keep it running and connected"
                if late
                else None,
            )

    async def agent(self) -> None:
        """What the running agent says of itself, where there is one."""
        asking = deferToThread(read_status, self.config.status_socket, min(self.timeout, 5.0))
        try:
            status: dict[str, Any] = await asking
        except StatusUnavailable as error:
            self._add("agent", State.SKIPPED, str(error))
            return
        tunnel = status.get("tunnel")
        facts: dict[str, Any] = tunnel if isinstance(tunnel, dict) else {}
        if status.get("connected") is True:
            self._add("agent", State.OK, f"running and connected for {facts.get('for', 0):.0f} s")
            return
        state = facts.get("state") or "not connected"
        problem = facts.get("problem")
        self._add(
            "agent",
            State.WARNING,
            f"running and not connected: {state}{f', {problem}' if problem else ''}",
            "what follows tells where the way to the gateway ends",
        )

    # -- the way -------------------------------------------------------------------------------

    async def names(self) -> None:
        found = _Addresses()
        self.reactor.nameResolver.resolveHostName(found, self.host, self.port)
        try:
            addresses = await self._in_time(found.complete)
        except TimeoutError:
            addresses = None
        if addresses:
            self._add("dns", State.OK, f"{self.host} is {', '.join(addresses[:8])}")
            return
        detail = f"{self.host} has no address"
        if addresses is None:
            detail = f"no answer about {self.host} within {self.timeout:g} s"
        self._add(
            "dns",
            State.FAILED,
            detail,
            "check gateway.url and this machine's DNS; where only a proxy leads out, add section"
            " proxy",
        )
        raise _Stop

    def endpoint(self) -> IStreamClientEndpoint:
        if self.proxy is not None:
            return self.proxy.endpoint(self.reactor, self.host, self.port)
        return HostnameEndpoint(self.reactor, self.host, self.port, timeout=self.timeout)

    async def connect(self, tls: IOpenSSLClientConnectionCreator) -> HeadRequest:
        """A connection on which TLS has begun. Raises _Stop, with the step that failed added."""
        probe, factory = head_request(f"{self.host}:{self.port}")
        name = "tcp" if self.proxy is None else "proxy"
        connecting = self.endpoint().connect(PromptTLSFactory(tls, True, factory, self.reactor))
        try:
            await self._in_time(connecting)
        except (ConnectError, DNSLookupError, TimeoutError, OSError) as error:
            if not any(step.name == name for step in self.steps):
                self._add(name, State.FAILED, *self._unreachable(error))
            raise _Stop from error
        if not any(step.name == name for step in self.steps):
            way = f"{self.host}:{self.port}"
            if self.proxy is not None:
                way = f"{self.proxy.authority} lets us through to {way}"
            self._add(name, State.OK, way)
        return probe

    def _unreachable(self, error: Exception) -> tuple[str, str]:
        target = f"{self.host}:{self.port}"
        if self.proxy is not None:
            words = str(error)
            if not isinstance(error, ProxyError):
                words = f"the proxy {self.proxy.authority}: no answer within {self.timeout:g} s"
            return words, "check section proxy, and what the proxy's admin allows"
        if isinstance(error, Refused):
            return (
                f"{target} refuses the connection",
                "check the port in gateway.url, and that the gateway runs",
            )
        if isinstance(error, TimeoutError | ConnectTimeout):
            return (
                f"{target}: no answer within {self.timeout:g} s",
                "a firewall drops the way out: have it opened, or add section proxy",
            )
        if isinstance(error, NoRouteError):
            return f"there is no route to {target}", "check this machine's network"
        return f"{target}: {error}", "check this machine's network"

    async def handshake(self, identity: Identity) -> None:
        """TLS as the agent does it, then the gateway's idea of the time."""
        system_trust = self.config.gateway.ca == "system"
        probe = await self.connect(identity.client_options(self.host, system_trust=system_trust))
        try:
            chain = await self._in_time(probe.secured)
        except Exception as error:
            probe.drop()
            await self._not_secured(error)
            raise _Stop from error
        self._add("tls", State.OK, _described(chain))
        await self.clock(probe)

    async def _not_secured(self, error: Exception) -> None:
        if not isinstance(error, CertificateRejected):
            words = tls_failure(error) or str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                words = f"no TLS handshake within {self.timeout:g} s"
            self._add(
                "tls",
                State.FAILED,
                words,
                "check that gateway.url names the tunnel's port, and what inspects traffic between",
            )
            return
        chain, skew = await self._seen()
        issuer = _issuer(chain)
        hints = {
            Fault.UNTRUSTED: f"if {issuer} belongs to a proxy that inspects TLS, have {self.host}"
            " exempted from inspection; if the gateway has a new CA, enrol again",
            Fault.NAME: "set gateway.url to a name that the certificate shows, or have the gateway"
            " given one for this name",
            Fault.EXPIRED: "have the gateway's certificate renewed",
            Fault.NOT_YET_VALID: "have the gateway's clock and certificate checked",
        }
        hint = hints.get(error.fault, "have the gateway's certificate replaced")
        if skew is not None and abs(skew) > MOST_SKEW and error.fault is not Fault.UNTRUSTED:
            hint = f"set the clock of this machine: it is {_apart(skew)} the gateway's"
        self._add("tls", State.FAILED, str(error), hint)

    async def _seen(self) -> tuple[Sequence[x509.Certificate], float | None]:
        """What is shown to somebody who does not verify: the certificates and the clock's skew."""
        try:
            probe = await self.connect(Unverified(self.host))
        except _Stop:
            return (), None
        try:
            chain = await self._in_time(probe.secured)
        except Exception:  # noqa: BLE001 - what is wrong is known already
            probe.drop()
            return (), None
        return chain, await self._skew(probe)

    async def look(self) -> None:
        """Without an identity nobody is trusted yet; who answers can be told all the same."""
        chain, skew = await self._seen()
        if chain:
            self._add(
                "tls",
                State.SKIPPED,
                f"{_described(chain)}; not verified, for there is no identity to trust",
            )
            self._clock(skew)

    async def clock(self, probe: HeadRequest) -> None:
        self._clock(await self._skew(probe))

    def _clock(self, skew: float | None) -> None:
        if skew is None:
            self._add("clock", State.SKIPPED, "the gateway does not tell its time")
        elif abs(skew) <= MOST_SKEW:
            self._add("clock", State.OK, f"{_apart(skew)} the gateway's")
        else:
            self._add(
                "clock",
                State.WARNING,
                f"this machine's is {_apart(skew)} the gateway's",
                "set it by NTP: certificates and time windows depend on it",
            )

    async def _skew(self, probe: HeadRequest) -> float | None:
        """Seconds that our clock is ahead of the gateway's."""
        try:
            date, ours = await self._in_time(probe.date)
            # It counts whole seconds.
            return None if date is None else ours - parsedate_to_datetime(date).timestamp() - 0.5
        except Exception:  # noqa: BLE001 - a gateway that will not talk is told by the next step
            return None
        finally:
            probe.drop()

    async def admission(self, identity: Identity, url: str) -> None:
        """Ask to be let in, and leave on the doorstep."""
        door = Doorstep(self.reactor, url, self.software)
        options = identity.client_options(
            self.host, system_trust=self.config.gateway.ca == "system"
        )
        asking = Deferred.fromCoroutine(door.connect(self.endpoint(), options, self.reactor))
        try:
            verdict = await self._in_time(asking)
        except TimeoutError:
            verdict = Verdict(admitted=False, reason=f"no answer within {self.timeout:g} s")
        except (ConnectError, DNSLookupError, OSError) as error:
            verdict = Verdict(admitted=False, reason=str(error))
        if verdict.admitted:
            self._add("admission", State.OK, f"the gateway lets {identity.name} in")
            return
        if verdict.status in (401, 403):
            detail = f"the gateway refuses this agent: {verdict.reason}"
            hint = "ask the gateway's admin; with a new code: workato-agent enrol --force"
        elif verdict.status is not None:
            detail = f"what answers is no gateway's tunnel: HTTP {verdict.status} {verdict.reason}"
            hint = "gateway.url has the form wss://HOST[:PORT]/tunnel"
        else:
            detail = f"the gateway does not let us in: {verdict.reason}"
            hint = "its log says more"
        self._add("admission", State.FAILED, detail.strip(), hint)

    # -- small things --------------------------------------------------------------------------

    def _in_time(self, waiting: Deferred[T]) -> Deferred[T]:
        """What is cancelled for taking too long says so, whatever it says of its cancellation."""

        def too_late(_: object, seconds: float) -> NoReturn:
            raise TimeoutError(f"{seconds:g} s")

        return waiting.addTimeout(self.timeout, self.reactor, onTimeoutCancel=too_late)

    def _add(self, name: str, state: State, detail: str, hint: str | None = None) -> None:
        self.steps.append(Step(name, state, " ".join(detail.split()), hint))


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects what the resolver finds."""

    def __init__(self) -> None:
        self.complete: Deferred[list[str] | None] = Deferred()
        self._found: list[str] = []

    def resolutionBegan(self, resolution: object) -> None:  # noqa: N802
        """See the interface."""

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        """See the interface."""
        self._found.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802
        """See the interface."""
        if not self.complete.called:
            self.complete.callback(list(dict.fromkeys(self._found)))


def _issuer(chain: Sequence[x509.Certificate]) -> str:
    return chain[0].issuer.rfc4514_string() if chain else "its issuer"


def _described(chain: Sequence[x509.Certificate]) -> str:
    if not chain:
        return "a certificate that does not show"
    own = chain[0]
    return (
        f"certificate issued by {own.issuer.rfc4514_string()},"
        f" until {own.not_valid_after_utc:%Y-%m-%d}"
    )


def _apart(skew: float) -> str:
    """``3 s ahead of``."""
    seconds = abs(skew)
    if seconds < 1:
        return "within a second of"
    for size, unit in ((DAY, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            amount = f"{seconds / size:.0f} {unit}"
            break
    else:
        amount = f"{seconds:.0f} s"
    return f"{amount} {'ahead of' if skew > 0 else 'behind'}"
