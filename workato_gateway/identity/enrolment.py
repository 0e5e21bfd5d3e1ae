"""One-time codes, and the certificates that agents get for them or renew.

A code is stored as the hash of its secret. It is used up in the same transaction that stores the
certificate, so of two who come with it at once one gets an agent and the other a refusal.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

import msgspec
from attrs import frozen
from twisted.logger import Logger

from workato_tunnel.activation import (
    SECRET_SIZE,
    ActivationCode,
    ActivationCodeError,
    EnrolmentAnswer,
    EnrolmentRequest,
    secret_digest,
)
from workato_tunnel.problems import Problem

from ..addresses import PublicUrl
from ..storage.interface import (
    ActivationCodeRecord,
    Agent,
    AuditEntry,
    Certificate,
    Store,
    Transaction,
)
from .authority import AgentPublicKey, Authority, Issued, pem_of, read_request, sha256_of

CODE_LIFETIME: Final = 3600.0
CODES_KEPT: Final = 7 * 86400.0
"""After its hour a code is remembered that long, so that the log can say why it was refused."""
MAX_BODY: Final = 64 << 10
RENEWALS_AN_HOUR: Final = 10
AGENT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MAX_NAMESAKES: Final = 10_000


class FailureLimit:
    """How many wrong codes one address may try in a minute. Addresses are forgotten in order."""

    def __init__(self, a_minute: int, now: Callable[[], float], max_addresses: int = 4096) -> None:
        self._a_minute = a_minute
        self._now = now
        self._max_addresses = max_addresses
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises Problem ``overloaded`` when the address has no try left."""
        if self._level(address) >= self._a_minute:
            raise Problem(
                "overloaded",
                "too many wrong activation codes from this address",
                hint="wait a minute, then use a fresh code",
                retry_after=60,
            )

    def failed(self, address: str) -> None:
        """Count one more. Counts fade evenly over a minute."""
        level = self._level(address) + 1
        key = self._key(address)
        self._failures[key] = (level, self._now())
        self._failures.move_to_end(key)
        while len(self._failures) > self._max_addresses:
            self._failures.popitem(last=False)

    def _level(self, address: str) -> float:
        level, at = self._failures.get(self._key(address), (0.0, 0.0))
        return max(0.0, level - (self._now() - at) * self._a_minute / 60)

    @staticmethod
    def _key(address: str) -> str:
        """An IPv6 customer has a whole /64."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return address
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
            return str(ip_network((ip, 64), strict=False))
        return str(ip)


@frozen
class IssuedCode:
    """A code just made. ``agent``: whom it sets up, None for an agent that names itself."""

    record: ActivationCodeRecord
    agent: Agent | None
    secret: bytes

    def __repr__(self) -> str:
        return f"IssuedCode({self.record!r})"


def issue_code(
    transaction: Transaction, *, group: str, name: str | None, created_by: str, now: float
) -> IssuedCode:
    """Make a code for a group. With a name: for that agent, which is entered when it is new.

    Raises Problem ``group_not_found`` and ``bad_request``.
    """
    if transaction.group(group) is None:
        raise Problem("group_not_found", f"there is no group {group}")
    agent = None
    if name is not None:
        if not AGENT_NAME.fullmatch(name):
            raise Problem(
                "bad_request",
                f"name: {name!r} is no agent name",
                hint="up to 64 letters, digits, _ . and -",
                extra={"field": "name"},
            )
        agent = transaction.agent_named(group, name)
        if agent is None:
            agent = Agent(secrets.token_hex(8), group, name, created=now)
            transaction.add_agent(agent)
    secret = secrets.token_bytes(SECRET_SIZE)
    record = ActivationCodeRecord(
        digest=sha256(secret).digest(),
        group=group,
        agent_id=None if agent is None else agent.id,
        created=now,
        created_by=created_by,
        expires=now + CODE_LIFETIME,
    )
    transaction.add_code(record)
    return IssuedCode(record, agent, secret)


class _Refused(Exception):
    """A code that opens nothing; the message is for the operator's log."""


def _use_code(transaction: Transaction, digest: bytes, now: float) -> ActivationCodeRecord:
    code = transaction.code(digest)
    if code is None or not hmac.compare_digest(code.digest, digest):
        raise _Refused("unknown code")
    if code.used_at is not None:
        raise _Refused(f"code of the group {code.group} used before")
    if code.expires <= now:
        raise _Refused(f"code of the group {code.group} expired")
    if transaction.group(code.group) is None or not transaction.use_code(digest, now):
        raise _Refused(f"code of the group {code.group} used before")
    return code


def _agent_for(
    transaction: Transaction, code: ActivationCodeRecord, wish: str, now: float
) -> Agent:
    """The agent that a code sets up. One that was set up before loses its old certificates."""
    if code.agent_id is not None:
        agent = transaction.agent(code.agent_id)
        if agent is None or agent.revoked is not None:
            raise _Refused(f"code of the group {code.group} for a revoked agent")
        if agent.serial is not None:
            transaction.revoke_certificates(agent.id, now)
        return agent
    base = re.sub(r"[^A-Za-z0-9_.-]", "-", wish)[:56].lstrip(".-") or "agent"
    name = base
    for number in range(2, _MAX_NAMESAKES):
        if transaction.agent_named(code.group, name) is None:
            break
        name = f"{base}-{number}"
    agent = Agent(secrets.token_hex(8), code.group, name, created=now)
    transaction.add_agent(agent)
    return agent


class Enrolment:
    """Redeems codes and renews certificates."""

    _log = Logger()

    def __init__(
        self,
        store: Store,
        authority: Authority,
        public_url: PublicUrl,
        *,
        agent_lifetime: float,
        failures_a_minute: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._authority = authority
        self._public_url = public_url
        self._agent_lifetime = agent_lifetime
        self._now = now
        self._failures = FailureLimit(failures_a_minute, now)

    def code_text(self, issued: IssuedCode) -> str:
        """The code as the operator hands it on; its secret exists nowhere else."""
        pin = sha256_of(self._authority.certificate)
        return ActivationCode(self._public_url.authority, issued.secret, pin).format()

    async def enrol(self, body: bytes, peer: str) -> EnrolmentAnswer:
        """Redeem a code: ``body`` is an :class:`EnrolmentRequest` as JSON, ``peer`` an IP address.

        Raises Problem ``bad_request`` (the code stays good), ``forbidden``, ``overloaded``.
        """
        self._failures.check(peer)
        request = self._read(body)
        key = read_request(request.csr)
        try:
            digest = secret_digest(request.secret)
            agent, issued = await self._store.write(
                lambda transaction: self._thd_enrol(transaction, request, digest, key, peer)
            )
        except (_Refused, ActivationCodeError) as error:
            self._failures.failed(peer)
            self._log.warn(
                "enrolment from {peer} refused: {reason}",
                event="enrolment_refused",
                peer=peer,
                reason=str(error),
            )
            raise Problem(
                "forbidden",
                "the activation code is not valid",
                hint="a code holds for an hour and works once; ask the gateway's operator for one",
            ) from None
        self._log.info(
            "agent {agent} of group {group} enrolled from {peer}, certificate {serial}",
            event="agent_enrolled",
            agent=agent.name,
            group=agent.group,
            peer=peer,
            serial=issued.serial,
        )
        return EnrolmentAnswer(
            agent_id=agent.id,
            group=agent.group,
            name=agent.name,
            certificate=issued.pem,
            ca=pem_of(self._authority.certificate),
            tunnel_url=self._public_url.tunnel,
        )

    async def renew(self, agent_id: str, csr_pem: str) -> str:
        """A new certificate (PEM) for an agent whose session asks for it.

        The one it has stays valid until it expires. Raises Problem ``bad_request``, ``forbidden``,
        ``overloaded``.
        """
        key = read_request(csr_pem)

        def thd_renew(transaction: Transaction) -> Issued:
            now = self._now()
            agent = transaction.agent(agent_id)
            if agent is None or agent.revoked is not None or not agent.enabled:
                raise Problem(
                    "forbidden",
                    "the agent is revoked or disabled on the gateway",
                    hint="enable it there, or enrol it with a new code",
                )
            if transaction.certificates_issued_since(agent_id, now - 3600) >= RENEWALS_AN_HOUR:
                raise Problem(
                    "overloaded",
                    f"the agent had {RENEWALS_AN_HOUR} certificates within an hour",
                    retry_after=3600,
                )
            return self._thd_issue(transaction, agent, key)

        issued = await self._store.write(thd_renew)
        self._log.info(
            "certificate of agent {agent_id} renewed: {serial}",
            event="agent_certificate_renewed",
            agent_id=agent_id,
            serial=issued.serial,
        )
        return issued.pem

    @staticmethod
    def _read(body: bytes) -> EnrolmentRequest:
        if len(body) > MAX_BODY:
            raise Problem("payload_too_large", f"the request is longer than {MAX_BODY} bytes")
        try:
            return msgspec.json.decode(body, type=EnrolmentRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("bad_request", f"the body is no enrolment request: {error}") from error

    def _thd_enrol(
        self,
        transaction: Transaction,
        request: EnrolmentRequest,
        digest: bytes,
        key: AgentPublicKey,
        peer: str,
    ) -> tuple[Agent, Issued]:
        now = self._now()
        code = _use_code(transaction, digest, now)
        agent = _agent_for(transaction, code, request.name, now)
        issued = self._thd_issue(transaction, agent, key)
        transaction.add_audit(
            AuditEntry(
                at=now,
                actor=f"activation code by {code.created_by}",
                address=peer,
                action="agent.enrol",
                subject=f"{agent.group}/{agent.name}",
                detail={"serial": issued.serial},
            )
        )
        return agent, issued

    def _thd_issue(self, transaction: Transaction, agent: Agent, key: AgentPublicKey) -> Issued:
        issued = self._authority.issue_agent(
            key, agent_id=agent.id, group=agent.group, lifetime=self._agent_lifetime
        )
        transaction.add_certificate(
            Certificate(issued.serial, agent.id, self._now(), issued.not_after)
        )
        return issued
