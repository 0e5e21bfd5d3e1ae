"""The services of ldap profiles, loaded when there is one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from .config.distinguishednames import Name
from .config.ldap import LdapProfile
from .services.base import ProfileService
from .services.handshakes import ClientCertificate, TlsSettings
from .services.ldap.settings import LdapPolicy, LdapSettings, Server


def ldap_service(reactor: Any, name: str, profile: LdapProfile) -> ProfileService:
    """The service of one profile. Raises ValueError, whose text is for the operator."""
    if find_spec("ldaptor") is None:
        raise ValueError("ldaptor is not installed: pip install 'workato-agent[ldap]'")
    # Not every agent has a directory.
    from .services.ldap.service import OPERATIONS, LdapService  # noqa: PLC0415

    allowed = profile.policy.operations
    operations = tuple(each for each in OPERATIONS if allowed is None or each in ("test", *allowed))
    return LdapService.build(reactor, name, ldap_settings(profile), operations)


def ldap_settings(profile: LdapProfile) -> LdapSettings:
    """What a profile means to the service."""
    password = profile.password
    return LdapSettings(
        servers=tuple(Server(each.host, each.port, each.secure) for each in profile.servers()),
        username=profile.username or "",
        password="" if password is None else password.reveal(),
        base=profile.base,
        starttls=profile.start_tls,
        tls=_tls(profile),
        connect_timeout=profile.timeout,
        max_connections=profile.pool.max,
        wait_timeout=profile.pool.wait,
        idle_timeout=profile.pool.idle,
        page_size=profile.page_size,
        policy=_policy(profile),
    )


def _tls(profile: LdapProfile) -> TlsSettings:
    ssl = profile.ssl
    shown = None
    if ssl.pem is not None and ssl.key is not None:
        password = None if ssl.password is None else ssl.password.reveal()
        shown = ClientCertificate(ssl.pem.encode(), ssl.key.reveal().encode(), password)
    return TlsSettings(
        ca=None if ssl.cert is None else ssl.cert.encode(),
        certificate=shown,
        trust_all=ssl.trust_all,
        verify_host=ssl.verify_host,
    )


def _policy(profile: LdapProfile) -> LdapPolicy:
    rules = profile.policy
    readable, writable = rules.read_attributes, rules.write_attributes
    return LdapPolicy(
        bases=None
        if rules.bases is None
        else tuple(_absolute(base, profile.base) for base in rules.bases),
        readable=None if readable is None else frozenset(readable),
        writable=None if writable is None else frozenset(writable),
        max_entries=rules.max_entries,
        max_bytes=rules.max_bytes,
    )


def _absolute(name: Name, base: Name) -> Name:
    relative = name.below(base)
    return (name if relative is None else relative).under(base)
