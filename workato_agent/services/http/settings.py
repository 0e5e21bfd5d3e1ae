"""What an http profile is made of, once its config has been read."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen
from attrs.validators import ge, gt

from ..handshakes import ClientCertificate, TlsSettings
from .credentials import Basic, Bearer, Ntlm


def anywhere(_method: str, _path: str) -> bool:
    """Every redirect may be followed."""
    return True


@frozen
class HttpSettings:
    """One profile. Times in seconds.

    :ivar base_url: ``http`` or ``https``, host, optional port and path; nothing else
        (:func:`~workato_agent.services.http.target.parse_base_url`).
    :ivar auth: what the agent adds to each call as Authorization, or logs its connections in with.
    :ivar certificate: what the agent shows to a target that asks for it.
    :ivar trust_all: accept any certificate, for any name: whoever sits between can read and change
        all.
    :ivar verify_host: the certificate must name the host of ``base_url``.
    :ivar ca: PEM certificates to trust instead of the system's.
    :ivar max_connections: connections to the target at a time, idle ones included.
    :ivar max_waiting: calls that may wait for a free connection; the next is refused.
    :ivar wait_timeout: how long a call waits for a free connection.
    :ivar idle_timeout: how long an unused connection is kept.
    :ivar connect_timeout: name resolution, TCP and TLS together.
    :ivar redirects: follow those that stay with the application.
    :ivar admits: whether the customer allows a method and a path that a redirect leads to.
    :ivar read_timeout: how long a target may send nothing that owes an answer; 0: no limit.
    """

    base_url: str
    auth: Basic | Bearer | Ntlm | None = None
    certificate: ClientCertificate | None = None
    trust_all: bool = False
    verify_host: bool = True
    ca: bytes | None = field(default=None, repr=False)
    max_connections: int = field(default=64, validator=ge(1))
    max_waiting: int = field(default=256, validator=ge(0))
    wait_timeout: float = field(default=10.0, validator=gt(0))
    idle_timeout: float = field(default=30.0, validator=gt(0))
    connect_timeout: float = field(default=10.0, validator=gt(0))
    redirects: bool = False
    admits: Callable[[str, str], bool] = field(default=anywhere, eq=False)
    read_timeout: float = field(default=0.0, validator=ge(0))

    def tls(self) -> TlsSettings:
        """How its connections are secured."""
        return TlsSettings(
            ca=self.ca,
            certificate=self.certificate,
            trust_all=self.trust_all,
            verify_host=self.verify_host,
            protocols=(b"http/1.1",),
            address_key="base_url",
        )
