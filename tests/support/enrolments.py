"""Agents that enrol without a network."""

from __future__ import annotations

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from workato_gateway.addresses import PublicUrl
from workato_gateway.identity.authority import Authority
from workato_gateway.identity.enrolment import Enrolment, issue_code
from workato_gateway.storage.interface import Group
from workato_tunnel.activation import ActivationCode, EnrolmentAnswer, EnrolmentRequest

from .stores import StoreCase

URL = PublicUrl("gw.example", 8443)


def signing_request() -> str:
    """A request for a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


class EnrolmentCase(StoreCase):
    """A store with the group ``g``, a CA, and the means to enrol."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority.create("test", self.now)
        self.enrolment = Enrolment(
            self.store,
            self.authority,
            URL,
            agent_lifetime=30 * 86400.0,
            failures_a_minute=5,
            now=self.now,
        )
        self.result(self.store.write(lambda rows: rows.add_group(Group("g", (), self.now()))))

    def code(self, name: str | None = None, group: str = "g") -> ActivationCode:
        """A code as an agent reads it."""
        issued = self.result(
            self.store.write(
                lambda rows: issue_code(
                    rows, group=group, name=name, created_by="me", now=self.now()
                )
            )
        )
        return ActivationCode.parse(self.enrolment.code_text(issued))

    def enrol(
        self,
        code: ActivationCode,
        *,
        name: str = "host",
        csr: str | None = None,
        peer: str = "192.0.2.1",
    ) -> EnrolmentAnswer:
        """What the gateway answers. Raises Problem."""
        request = EnrolmentRequest(code.secret_text, csr or signing_request(), name)
        return self.result(self.enrolment.enrol(msgspec.json.encode(request), peer))
