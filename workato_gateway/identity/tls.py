"""TLS of the gateway's listeners: their certificates, kept fresh, and whom they ask for one."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from .authority import (
    Authority,
    AuthorityError,
    generate_server_key,
    load_chain,
    pem_of,
    write_private,
)

RENEW_AFTER: Final = 2 / 3


def server_hosts(public_host: str, listen_hosts: Sequence[str]) -> tuple[str, ...]:
    """The names of the gateway's own certificate: the public one first, then this machine's."""
    local = [host for host in listen_hosts if not ipaddress.ip_address(host).is_unspecified]
    return tuple(dict.fromkeys([public_host, "localhost", "127.0.0.1", "::1", *local]))


def ensure_server_certificate(
    authority: Authority, path: Path, hosts: tuple[str, ...], now: Callable[[], float] = time.time
) -> bool:
    """Make or renew the listeners' certificate; True when there is a new one.

    ``path`` holds key, certificate and CA certificate, in one file so that they change together. It
    is renewed at two thirds of its life, for other hosts, and under another CA.
    """
    if path.exists() and _still_good(load_chain(path)[0], authority, hosts, now()):
        return False
    public, key_pem = generate_server_key()
    issued = authority.issue_server(public, hosts)
    content = key_pem.decode("ascii") + issued.pem + pem_of(authority.certificate)
    write_private(path, content.encode("ascii"))
    return True


def _still_good(
    certificate: x509.Certificate, authority: Authority, hosts: tuple[str, ...], now: float
) -> bool:
    begin = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    if now >= begin + (end - begin) * RENEW_AFTER:
        return False
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    have = {str(name.value) for name in names}
    return have == set(hosts)


def check_leads_to(chain: Sequence[x509.Certificate], authority: Authority, path: Path) -> None:
    """Agents pin the gateway's CA: a tunnel certificate of another one would shut them all out.

    Raises AuthorityError.
    """
    if chain[-1] != authority.certificate:
        raise AuthorityError(
            f"{path}: the chain does not end with the gateway's CA certificate, which agents pin;"
            " sign the certificate with that CA and append the CA's certificate to the file"
        )


@implementer(IOpenSSLServerConnectionCreator)
@define
class ServerTls:
    """Makes server connections with a certificate that can be exchanged while listening.

    ``client_authorities``: who signs the clients' certificates; empty asks for none. A client may
    still come without one (enrolment does); one that comes with a wrong one fails the handshake.
    """

    certificate: Path
    key: Path
    client_authorities: tuple[x509.Certificate, ...] = ()
    _context: SSL.Context = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.reload()

    def reload(self) -> None:
        """Read the files again; connections that are up keep theirs. Raises AuthorityError."""
        chain = load_chain(self.certificate)
        try:
            key = serialization.load_pem_private_key(self.key.read_bytes(), None)
            options = CertificateOptions(
                privateKey=crypto.PKey.from_cryptography_key(key),  # type: ignore[arg-type]
                certificate=crypto.X509.from_cryptography(chain[0]),
                extraCertChain=[crypto.X509.from_cryptography(each) for each in chain[1:]],
                verify=bool(self.client_authorities),
                caCerts=[crypto.X509.from_cryptography(each) for each in self.client_authorities]
                or None,
                requireCertificate=False,
                raiseMinimumTo=TLSVersion.TLSv1_2,
            )
            self._context = options.getContext()
        except OSError as error:
            raise AuthorityError(f"{self.key}: {error.strerror}") from error
        except (ValueError, TypeError, SSL.Error) as error:
            raise AuthorityError(f"{self.key}: is not the key of {self.certificate}") from error

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See IOpenSSLServerConnectionCreator."""
        return SSL.Connection(self._context, None)
