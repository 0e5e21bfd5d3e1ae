"""Whom the tunnel listener lets in: what a client certificate is worth right now.

TLS has checked the chain and the dates; here the store is asked about the agent behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import frozen
from cryptography import x509

from workato_tunnel.errors import ErrorCode

from ..addresses import admits, parse_network
from ..storage.interface import Store, Transaction
from .authority import agent_id_of, serial_text


class NotAdmitted(Exception):
    """An agent that may not be connected. The message is for the agent's log and ours.

    :ivar code: what GOAWAY carries.
    :ivar agent_id: as far as known, for the log.
    """

    code: Final = ErrorCode.REVOKED

    def __init__(self, message: str, agent_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.agent_id = agent_id


@frozen
class AdmittedAgent:
    """Who connected. ``serial`` and ``expires`` (Unix seconds) are of the presented certificate."""

    agent_id: str
    name: str
    group: str
    serial: str
    expires: float
    address: str


@frozen
class Presented:
    """A certificate as it was presented, and from where."""

    agent_id: str
    serial: str
    address: str


def _judge(transaction: Transaction, presented: Presented, now: float) -> tuple[str, str]:
    """The agent's group and name. Raises NotAdmitted."""
    agent = transaction.agent(presented.agent_id)
    if agent is None:
        raise NotAdmitted("this gateway knows no such agent: enrol it with a new code")
    if agent.revoked is not None:
        raise NotAdmitted("the agent was revoked: enrol it with a new code")
    certificate = transaction.certificate(presented.serial)
    if certificate is None or certificate.agent_id != agent.id:
        raise NotAdmitted("this gateway did not issue the certificate: enrol with a new code")
    if certificate.revoked is not None:
        raise NotAdmitted("the certificate was revoked: the agent was set up anew elsewhere")
    if agent.certificate_expires is None or agent.certificate_expires <= now:
        raise NotAdmitted("the agent's certificate has expired: enrol it with a new code")
    if not agent.enabled:
        raise NotAdmitted("the agent is disabled on the gateway")
    group = transaction.group(agent.group)
    if group is None:
        raise NotAdmitted(f"the group {agent.group} was deleted")
    networks = tuple(parse_network(text) for text in group.allowed_networks)
    if networks and not admits(networks, presented.address):
        raise NotAdmitted(
            f"the address {presented.address} is not in the allowed networks"
            f" of the group {group.name}"
        )
    return agent.group, agent.name


class Admission:
    """Judges certificates against the store, at the handshake and again when something changed."""

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    async def admit(self, certificate: x509.Certificate, address: str) -> AdmittedAgent:
        """The agent behind a certificate that TLS has verified. Raises NotAdmitted.

        ``address``: the IP address it connects from.
        """
        agent_id = agent_id_of(certificate)
        expires = certificate.not_valid_after_utc.timestamp()
        if agent_id is None:
            raise NotAdmitted("the certificate names no agent")
        # A resumed TLS session skips OpenSSL's own look at the dates.
        if expires <= self._now():
            raise NotAdmitted("the certificate has expired: enrol with a new code", agent_id)
        presented = Presented(agent_id, serial_text(certificate), address)
        try:
            # Only read: thousands may come back at once, and a write waits for the disk.
            group, name = await self._store.read(
                lambda transaction: _judge(transaction, presented, self._now())
            )
        except NotAdmitted as refused:
            raise NotAdmitted(refused.message, agent_id) from None
        return AdmittedAgent(agent_id, name, group, presented.serial, expires, address)

    async def no_longer_admitted(
        self, sessions: Iterable[Presented]
    ) -> Mapping[Presented, NotAdmitted]:
        """Of the given sessions those that have to be cut, and why."""
        asked = tuple(sessions)

        def thd_review(transaction: Transaction) -> dict[Presented, NotAdmitted]:
            refused = {}
            for presented in asked:
                try:
                    _judge(transaction, presented, self._now())
                except NotAdmitted as verdict:
                    refused[presented] = NotAdmitted(verdict.message, presented.agent_id)
            return refused

        return await self._store.read(thd_review)
