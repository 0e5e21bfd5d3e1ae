"""Who may open a tunnel: what the listener asks of the gateway's identities."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from cryptography import x509


class AdmissionRefused(Exception):
    """The agent may not come in. ``status``: 401 (no or bad certificate) or 403 (not allowed)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@frozen
class AdmittedAgent:
    """An agent whose certificate is good and who is enabled. ``serial``: of that certificate."""

    agent_id: str
    name: str
    group: str
    serial: str


class Admission(Protocol):
    """Decides by certificate and address."""

    async def admit(self, certificate: x509.Certificate | None, address: str) -> AdmittedAgent:
        """The agent of a certificate that TLS has verified. Raises AdmissionRefused."""
        ...

    async def renew(self, agent_id: str, request: str) -> str:
        """A new certificate chain (PEM) for a CSR (PEM). Raises Problem."""
        ...
