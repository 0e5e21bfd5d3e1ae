"""The identity folder: who this agent is, and the key that proves it.

``key.pem`` (made here, never leaves), ``certificate.pem`` (ours, the gateway signs it), ``ca.pem``
(the gateway's CA, pinned at enrolment) and ``identity.json``. The folder is 0700, the key 0600.

A file changes by write, fsync and rename. All four change together through a folder ``commit``
that one rename puts in place: a crash before that rename leaves the old identity, a crash after
it is made good by the next :func:`load_identity`.
"""

from __future__ import annotations

import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from attrs import define, field, frozen
from cryptography import x509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from ..system import sync_folder
from .keys import (
    PrivateKey,
    certificates_from_pem,
    certificates_to_pem,
    check_certificate,
    key_from_pem,
    key_to_pem,
    signing_request,
)
from .tls import GatewayTLS, PinnedAuthorities, SystemAuthorities, Trust

KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.pem"
CA: Final = "ca.pem"
FACTS: Final = "identity.json"
_FILES: Final = (KEY, CERTIFICATE, CA, FACTS)
_PENDING: Final = "pending"
_COMMIT: Final = "commit"
_LARGEST: Final = 256 * 1024  # bytes; of any file here


class IdentityError(Exception):
    """The identity folder is missing, open to others or damaged. The message says what to do."""


class NotEnrolled(IdentityError):
    """There is no identity in the folder."""


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """``identity.json``: what is no secret and not in the certificate."""

    agent_id: str
    gateway_url: str
    name: str = ""
    group: str = ""


@frozen
class Credentials:
    """A key with the certificate chain that belongs to it, ours first.

    :ivar since: when we got the certificate; its own beginning is dated back by the gateway.
    """

    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    since: datetime


@define
class Identity:
    """An enrolled agent. Its credentials are exchanged when the certificate is renewed, so a
    connection made afterwards uses the new one.

    :ivar authorities: the CA pinned at enrolment, which signs our certificates.
    :ivar trust: whom to trust as the gateway; the pinned CA by default.
    """

    directory: Path
    facts: Facts
    authorities: tuple[x509.Certificate, ...]
    credentials: Credentials
    trust: Trust = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.trust = PinnedAuthorities(self.authorities)

    @property
    def agent_id(self) -> str:
        """The id that the gateway gave."""
        return self.facts.agent_id

    @property
    def name(self) -> str:
        """The agent's name, or its id where it has none."""
        return self.facts.name or self.facts.agent_id

    @property
    def certificate(self) -> x509.Certificate:
        """Our certificate in force."""
        return self.credentials.chain[0]

    @property
    def expires(self) -> datetime:
        """When our certificate ends (UTC)."""
        return self.certificate.not_valid_after_utc

    @property
    def lifetime(self) -> timedelta:
        """For how long we have our certificate, from the day we got it to its end."""
        return self.expires - self.credentials.since

    def client_options(
        self, hostname: str, *, system_trust: bool = False
    ) -> IOpenSSLClientConnectionCreator:
        """TLS towards the gateway with our certificate as it is now: make one for each connection.

        :param hostname: the name that the gateway's certificate has to show.
        :param system_trust: trust the system's authorities instead.
        """
        trust = SystemAuthorities() if system_trust else self.trust
        return GatewayTLS(hostname, trust, key=self.credentials.key, chain=self.credentials.chain)

    def signing_request(self) -> bytes:
        """A request (PEM) for a new certificate of the same key."""
        return signing_request(self.credentials.key, self.name)

    def renew(self, pem: bytes, now: datetime | None = None) -> None:
        """Check, store and use a new certificate for our key.

        Raises CertificateUnfit or ValueError (malformed), and OSError where it can't be stored;
        the one in force then stays.
        """
        now = now or datetime.now(UTC)
        chain = tuple(certificates_from_pem(pem))
        check_certificate(chain[0], self.credentials.key, self.authorities, now=now)
        write_private(self.directory / CERTIFICATE, certificates_to_pem(chain))
        self.credentials = Credentials(self.credentials.key, chain, now)


def load_identity(directory: Path) -> Identity:
    """Read the identity. Raises NotEnrolled where there is none, IdentityError for all else.

    An expired certificate loads: it is the caller who knows what that means.
    """
    if not directory.is_dir():
        raise NotEnrolled(f"{directory}: no identity here: run workato-agent enrol --code CODE")
    check_private(directory)
    _roll_forward(directory)
    if not any((directory / name).exists() for name in _FILES):
        raise NotEnrolled(f"{directory}: no identity here: run workato-agent enrol --code CODE")
    try:
        key = key_from_pem(_read(directory / KEY, private=True))
    except ValueError as error:
        raise IdentityError(f"{directory / KEY}: {error}: enrol again") from error
    chain = _read_certificates(directory / CERTIFICATE)
    authorities = _read_certificates(directory / CA)
    try:
        facts = msgspec.json.decode(_read(directory / FACTS), type=Facts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IdentityError(f"{directory / FACTS}: {error}: enrol again") from error
    if chain[0].public_key() != key.public_key():
        raise IdentityError(
            f"{directory}: {KEY} and {CERTIFICATE} do not belong together: enrol again"
        )
    since = _received(directory / CERTIFICATE, chain[0])
    return Identity(directory, facts, authorities, Credentials(key, chain, since))


def save_identity(identity: Identity) -> None:
    """Put a whole identity in place, over an older one where there is one: all of it or nothing.

    Files of others in the folder are not touched. Raises OSError or IdentityError.
    """
    directory = identity.directory
    prepare_directory(directory)
    pending = directory / _PENDING
    _discard(pending)
    pending.mkdir(mode=0o700)
    contents = {
        KEY: key_to_pem(identity.credentials.key),
        CERTIFICATE: certificates_to_pem(identity.credentials.chain),
        CA: certificates_to_pem(identity.authorities),
        FACTS: msgspec.json.format(msgspec.json.encode(identity.facts)) + b"\n",
    }
    for name, content in contents.items():
        _write_synced(pending / name, content)
    sync_folder(pending)
    pending.rename(directory / _COMMIT)
    sync_folder(directory)
    _roll_forward(directory)


def prepare_directory(directory: Path) -> None:
    """Make the folder, or make sure that an existing one is ours alone and can be written.

    Raises IdentityError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise IdentityError(f"{directory}: can't make the folder: {error.strerror}") from error
    check_private(directory)
    _roll_forward(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise IdentityError(f"{directory}: this user may not write there")


def check_private(path: Path) -> None:
    """Refuse a file or folder that others may read, write or own. Raises IdentityError."""
    if sys.platform == "win32":
        return
    try:
        found = path.stat()
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error
    wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise IdentityError(
            f"{path}: open to others (mode {mode:04o}): run chmod {wanted:o} {path}"
        )
    if os.geteuid() not in {0, found.st_uid} and found.st_uid != 0:
        raise IdentityError(
            f"{path}: belongs to another user: run chown {os.geteuid()} {path},"
            " or start the agent as that user"
        )


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step, 0600: after a crash there is the old one or the new."""
    beside = path.with_name(f".{path.name}.new")
    _write_synced(beside, content)
    beside.replace(path)
    sync_folder(path.parent)


def _roll_forward(directory: Path) -> None:
    commit = directory / _COMMIT
    if not commit.is_dir():
        return
    try:
        for name in _FILES:
            if (commit / name).exists():
                (commit / name).replace(directory / name)
        sync_folder(directory)
        commit.rmdir()
    except OSError as error:
        raise IdentityError(
            f"{commit}: can't complete an enrolment that was cut: {error.strerror}"
        ) from error


def _discard(folder: Path) -> None:
    if folder.is_dir():
        for leftover in folder.iterdir():
            leftover.unlink()
        folder.rmdir()


def _write_synced(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, *, private: bool = False) -> bytes:
    try:
        if private:
            check_private(path)
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise IdentityError(f"{path}: missing: enrol again") from error
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise IdentityError(f"{path}: larger than any such file: enrol again")
    return content


def _received(path: Path, certificate: x509.Certificate) -> datetime:
    """When the file was written, as far as that can be."""
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    latest = min(written, datetime.now(UTC), certificate.not_valid_after_utc)
    return max(latest, certificate.not_valid_before_utc)


def _read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(certificates_from_pem(_read(path)))
    except ValueError as error:
        raise IdentityError(f"{path}: not a certificate in PEM: enrol again") from error
