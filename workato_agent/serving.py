"""From a profile of the config to its service: one mapping function for each section."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final

from attrs import define, field
from twisted.python.threadpool import ThreadPool

from .calls import LONGEST_TIMEOUT
from .config.database import ADAPTERS, DatabaseProfile
from .config.extensions import ExtensionProfile
from .config.files import FilesProfile
from .config.http import HttpAuth, HttpProfile
from .config.jms import ActivemqProfile, AmqpProfile, CustomProfile, JmsProfile, SqsProfile
from .config.kafka import KafkaProfile
from .config.ldap import LdapProfile
from .config.ntlm import NtlmProfile
from .config.profiles import ProfileConfig
from .config.scripts import QuoteOptions, ScriptOptions, ScriptsProfile
from .config.tcp import TcpProfile
from .config.windows import NtlmAuth
from .policy import permits
from .services.base import ProfileService
from .services.extensions.service import ExtensionService
from .services.extensions.settings import ExtensionSettings
from .services.files.posix import LocalFilesystem
from .services.files.service import FilesService
from .services.files.settings import FilesPolicy, FilesSettings
from .services.handshakes import ClientCertificate
from .services.http.credentials import Basic, Bearer, Ntlm
from .services.http.service import HttpService
from .services.http.settings import HttpSettings
from .services.scripts.service import OPERATIONS as SCRIPT_OPERATIONS
from .services.scripts.service import ScriptsService
from .services.scripts.settings import Element, Parameter, Quote, Script, ScriptsSettings
from .services.tcp.service import OPERATIONS as TCP_OPERATIONS
from .services.tcp.service import TcpService
from .services.tcp.settings import TcpSettings
from .serving_databases import DatabaseContext, database_service
from .serving_kafka import kafka_service
from .serving_ldap import ldap_service
from .system import ON_WINDOWS

FILE_THREADS: Final = 8
"""Threads of one files profile: a file server that hangs holds up no other profile."""


UNIX_SERVICES: Final = frozenset({"files", "scripts", "extensions"})
"""What rests on things that Windows lacks: folders as handles, process groups."""


class DaemonThreadPool(ThreadPool):
    """A pool whose stuck threads do not keep the process from ending."""

    class threadFactory(Thread):  # noqa: N801 - ThreadPool's own name for it
        """A thread that is a daemon."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, daemon=True)


@define
class ProfileParts:
    """What the service of one profile is given to work with.

    :ivar pools: its own; they live as long as the service.
    """

    reactor: Any
    databases: DatabaseContext = field(factory=DatabaseContext)
    pools: list[DaemonThreadPool] = field(factory=list)

    def thread_pool(self, name: str, size: int = FILE_THREADS) -> DaemonThreadPool:
        """A pool for the profile alone; it has no thread before there is work."""
        pool = DaemonThreadPool(0, size, name)
        self.pools.append(pool)
        return pool


def build_service(parts: ProfileParts, name: str, profile: ProfileConfig) -> ProfileService:
    """The service of a profile; it opens nothing yet. Raises ValueError for the operator."""
    if ON_WINDOWS and profile.service in UNIX_SERVICES:
        raise ValueError(f"{profile.service} profiles are served on Linux and macOS only")
    return _BUILDERS[type(profile)](parts, name, profile)


def _database(parts: ProfileParts, name: str, profile: DatabaseProfile) -> ProfileService:
    return database_service(parts.reactor, parts.databases, profile)


def _ldap(parts: ProfileParts, name: str, profile: LdapProfile) -> ProfileService:
    return ldap_service(parts.reactor, name, profile)


def _files(parts: ProfileParts, name: str, profile: FilesProfile) -> ProfileService:
    rules = profile.policy
    allowed = FilesPolicy(rules.operations, rules.patterns or (), rules.max_bytes)
    return FilesService(
        name,
        FilesSettings(profile.base, allowed),
        LocalFilesystem(profile.base),
        parts.reactor,
        parts.thread_pool(f"files.{name}"),
    )


def _http(parts: ProfileParts, name: str, profile: HttpProfile) -> ProfileService:
    settings = HttpSettings(
        base_url=profile.base_url,
        auth=_http_auth(profile.auth),
        certificate=_client_certificate(profile.auth),
        trust_all=profile.trust_all,
        verify_host=profile.verify_host,
        redirects=profile.redirects,
        admits=partial(permits, profile.policy),
        ca=None if profile.ca is None else _read(profile.ca),
        max_connections=profile.pool.max,
        wait_timeout=profile.pool.wait,
        idle_timeout=profile.pool.idle,
        connect_timeout=profile.timeout,
    )
    return HttpService(parts.reactor, settings)


def _ntlm(parts: ProfileParts, name: str, profile: NtlmProfile) -> ProfileService:
    return HttpService(parts.reactor, ntlm_settings(profile))


def ntlm_settings(profile: NtlmProfile) -> HttpSettings:
    """What a profile of the ``ntlm`` section means to the http service."""
    return HttpSettings(
        base_url=profile.base_url,
        auth=_account(profile.account()),
        trust_all=profile.trust_all,
        verify_host=profile.verify_host,
        redirects=profile.redirects,
        admits=partial(permits, profile.policy),
        ca=None if profile.ca is None else _read(profile.ca),
        max_connections=min(profile.cm_max_total, profile.cm_default_max_per_route),
        wait_timeout=_patience(profile.http_connection_request_timeout),
        connect_timeout=_patience(profile.http_connect_timeout),
        read_timeout=profile.http_socket_timeout / 1000,
    )


def _patience(milliseconds: int) -> float:
    """Seconds; 0 is no limit, which leaves the call's own."""
    return milliseconds / 1000 if milliseconds else LONGEST_TIMEOUT


def _account(auth: NtlmAuth) -> Ntlm:
    return Ntlm(auth.username, auth.password.reveal(), auth.domain, auth.workstation)


def _http_auth(auth: HttpAuth | None) -> Basic | Bearer | Ntlm | None:
    if auth is None:
        return None
    if auth.ntlm is not None:
        return _account(auth.ntlm)
    if auth.basic is not None:
        return Basic(auth.basic.username, auth.basic.password.reveal())
    return None if auth.bearer is None else Bearer(auth.bearer.reveal())


def _client_certificate(auth: HttpAuth | None) -> ClientCertificate | None:
    if auth is None or auth.certificate is None:
        return None
    shown = auth.certificate
    password = None if shown.password is None else shown.password.reveal()
    return ClientCertificate(_read(shown.cert), _read(shown.key), password)


def _kafka(parts: ProfileParts, name: str, profile: KafkaProfile) -> ProfileService:
    agent = parts.databases.agent
    return kafka_service(parts.reactor, agent, name, profile, parts.thread_pool)


def _scripts(parts: ProfileParts, name: str, profile: ScriptsProfile) -> ProfileService:
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(profile.directory)}
    settings = ScriptsSettings(
        scripts={key: _script(script) for key, script in profile.scripts.items()},
        agent=parts.databases.agent,
        concurrency=profile.concurrency_limit,
        timeout=profile.timeout,
        output_limit=profile.output_limit,
        folder=profile.directory,
        environment={
            **environment,
            **{key: value.reveal() for key, value in profile.environment.items()},
        },
        user=profile.run_as,
    )
    allowed = profile.policy.operations
    operations = tuple(
        each for each in SCRIPT_OPERATIONS if allowed is None or each in ("test", *allowed)
    )
    pool = parts.thread_pool(f"scripts.{name}", profile.concurrency_limit)
    return ScriptsService(settings, parts.reactor, pool, operations)


def _tcp(parts: ProfileParts, name: str, profile: TcpProfile) -> ProfileService:
    settings = TcpSettings(
        host=profile.host,
        port=profile.port,
        connect_timeout=profile.timeout,
        max_connections=profile.max_connections,
        idle_timeout=profile.idle_timeout,
    )
    allowed = profile.policy.operations
    operations = tuple(
        each for each in TCP_OPERATIONS if allowed is None or each in ("test", *allowed)
    )
    return TcpService(parts.reactor, settings, operations)


def _extension(parts: ProfileParts, name: str, profile: ExtensionProfile) -> ProfileService:
    settings = ExtensionSettings(
        name=name,
        controller=profile.controller,
        settings=profile.settings,
        paths=() if profile.python_path is None else (profile.python_path,),
        concurrency=profile.concurrency,
        memory_limit=profile.memory_limit,
        start_timeout=profile.start_timeout,
    )
    allowed = profile.policy.operations
    if allowed is None:
        return ExtensionService(parts.reactor, settings)
    return ExtensionService(parts.reactor, settings, ("test", *allowed))


def _jms(parts: ProfileParts, name: str, profile: JmsProfile) -> ProfileService:
    # Not every agent has brokers.
    from .serving_messaging import MessagingContext, messaging_service  # noqa: PLC0415

    context = MessagingContext(
        parts.reactor,
        parts.databases.agent,
        parts.databases.classpath,
        partial(parts.thread_pool, f"jms.{name}"),
    )
    return messaging_service(context, profile)


def _script(script: ScriptOptions) -> Script:
    return Script(
        script.name,
        tuple(
            Element(each) if isinstance(each, str) else Element(each.value, each.condition)
            for each in script.command
        ),
        tuple(
            Parameter(
                name=each.name,
                optional=each.schema_.optional,
                quote=_quote(each.quote, posix_shell=script.posix_shell),
                label=each.schema_.label,
                control_type=each.schema_.control_type,
                choices=each.schema_.pick_list,
                pattern=each.schema_.pattern,
            )
            for each in script.parameters
        ),
    )


def _quote(quote: QuoteOptions | None, *, posix_shell: bool) -> Quote | None:
    if quote is None:
        return None
    start, end = quote.start or quote.quote, quote.end or quote.quote
    return Quote(start, end, quote.escape_char, posix_shell)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


_BUILDERS: Final[
    Mapping[type[ProfileConfig], Callable[[ProfileParts, str, Any], ProfileService]]
] = {
    **dict.fromkeys(ADAPTERS.values(), _database),
    **dict.fromkeys((ActivemqProfile, AmqpProfile, CustomProfile, SqsProfile), _jms),
    ExtensionProfile: _extension,
    FilesProfile: _files,
    HttpProfile: _http,
    KafkaProfile: _kafka,
    LdapProfile: _ldap,
    NtlmProfile: _ntlm,
    ScriptsProfile: _scripts,
    TcpProfile: _tcp,
}
