"""``workato-gateway init``: everything that a new gateway needs, in one folder or where a config
file wants it."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from twisted.internet.defer import Deferred

from workato_tunnel.tx.process import become_owner_of

from ..addresses import Listen, PublicUrl, parse_listen, parse_public_url
from ..assembly import server_hosts_of
from ..config import Config, load, read
from ..identity.authority import Authority, write_private
from ..identity.tls import ensure_server_certificate
from ..identity.tokens import ADMIN, issue_token
from ..storage.interface import AuditEntry, StoreError, Transaction
from ..storage.sqlite import SqliteStore
from .administration import CommandError, WrongUse
from .output import result, result_json, say

EXAMPLE = """example:
  workato-gateway init --dir /srv/gateway --public-url https://gw.example:8443
  workato-gateway init --config /etc/workato-gateway/gateway.yml --public-url https://gw.example:8443"""

T = TypeVar("T")

FILE: Final = "gateway.yml"
_FILES: Final = (FILE, "ca.crt", "ca.key", "server.pem", "gateway.db")
_TUNNEL: Final = Listen("0.0.0.0", 8443)  # noqa: S104
_API: Final = Listen("127.0.0.1", 8080)
_TEMPLATE: Final = """\
# The gateway's configuration. Every key is explained in docs/gateway-configuration.md.
# Relative paths count from this file's folder. After a change: workato-gateway run again.

# How agents reach the tunnel listener; part of every activation code.
public_url: {public_url}

tunnel:
  listen: "{tunnel}"

# Callers and administrators. Plain HTTP on a loopback address, TLS on any other.
api:
  listen: "{api}"

storage: sqlite:gateway.db
"""


def _argument(parse: Callable[[object], T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def configure(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--dir", metavar="DIR", type=Path, help="all of it in this folder, made when missing"
    )
    where.add_argument(
        "--config",
        metavar="PATH",
        type=Path,
        help="a gateway.yml that is there: the files that it names are made",
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        type=_argument(parse_public_url),
        help="how agents reach the tunnel listener: https://HOST[:PORT]; with --config it is"
        " written into the file, and may be left out",
    )
    parser.add_argument(
        "--listen-tunnel",
        metavar="ADDRESS:PORT",
        type=_argument(parse_listen),
        help=f"for agents; default {_TUNNEL}",
    )
    parser.add_argument(
        "--listen-api",
        metavar="ADDRESS:PORT",
        type=_argument(parse_listen),
        help=f"for callers; default {_API}. Plain HTTP on loopback, else TLS",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=_init)


def _init(arguments: argparse.Namespace) -> None:
    if arguments.config is not None:
        _init_config(arguments)
    elif arguments.public_url is None:
        raise WrongUse("init: --dir needs --public-url")
    else:
        _init_folder(arguments)


def _init_folder(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.dir.absolute()
    made_folder = not folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}") from error
    there = [name for name in _FILES if (folder / name).exists()]
    if there:
        raise CommandError(f"{folder} holds {', '.join(there)} already: nothing was changed")
    become_owner_of(folder)
    path = folder / FILE
    text = _TEMPLATE.format(
        public_url=arguments.public_url,
        tunnel=arguments.listen_tunnel or _TUNNEL,
        api=arguments.listen_api or _API,
    )
    config = read(text, path)
    try:
        token = _made(config)
        _written(path, text, config)
    except CommandError:
        if made_folder:
            folder.rmdir()
        raise
    _report(arguments, path, config, token)


def _written(path: Path, text: str, config: Config) -> None:
    try:
        write_private(path, text.encode("utf-8"), 0o640)
    except OSError as error:
        _remove(config)
        raise CommandError(str(error)) from error


def _init_config(arguments: argparse.Namespace) -> None:
    """What a config file names is made; of the file itself only the public URL is changed."""
    if arguments.listen_tunnel is not None or arguments.listen_api is not None:
        raise WrongUse("init: with --config the file says where to listen")
    path: Path = arguments.config
    config = load(path)
    there = [str(file) for file in _files_of(config) if file.exists()]
    if there:
        raise CommandError(f"{', '.join(there)} is there already: nothing was changed")
    if arguments.public_url is not None:
        config = _with_public_url(path, arguments.public_url)
    become_owner_of(config.storage.parent)
    _report(arguments, path, config, _made(config))


def _with_public_url(path: Path, public_url: PublicUrl) -> Config:
    text, lines = re.subn(
        r"(?m)^public_url:.*$", f"public_url: {public_url}", path.read_text(encoding="utf-8")
    )
    if lines != 1:
        raise CommandError(f"{path}: write public_url: {public_url} into it, on a line of its own")
    config = read(text, path)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    return config


def _files_of(config: Config) -> tuple[Path, ...]:
    return config.ca.certificate, config.ca.key, config.ca.server, config.storage


def _remove(config: Config) -> None:
    store = config.storage
    beside = (store.with_name(f"{store.name}{suffix}") for suffix in ("-wal", "-shm"))
    for file in (*_files_of(config), *beside):
        file.unlink(missing_ok=True)


def _made(config: Config) -> str:
    """Make the CA, the certificate and the store; returns the admin token. All of it or nothing."""
    try:
        return _make(config)
    except BaseException as error:
        _remove(config)
        if isinstance(error, OSError | StoreError):
            raise CommandError(str(error)) from error
        raise


def _make(config: Config) -> str:
    authority = Authority.create(f"Gateway CA {config.public_url.host}")
    authority.save(config.ca.certificate, config.ca.key)
    ensure_server_certificate(authority, config.ca.server, server_hosts_of(config))
    store = SqliteStore.open_here(config.storage, create=True)
    token: list[str] = []

    def work(transaction: Transaction) -> None:
        now = time.time()
        record, text = issue_token(
            transaction, owner="admin", scopes=(ADMIN,), expires=None, now=now
        )
        entry = AuditEntry(now, "workato-gateway init", "", "token.create", record.id)
        transaction.add_audit(entry)
        token.append(text)

    Deferred.fromCoroutine(_store(store, work)).addErrback(lambda failure: failure.raiseException())
    return token[0]


async def _store(store: SqliteStore, work: Callable[[Transaction], None]) -> None:
    await store.write(work)
    await store.close()


def _report(arguments: argparse.Namespace, path: Path, config: Config, token: str) -> None:
    scheme = "http" if config.api.plain else "https"
    if arguments.json:
        result_json(
            {
                "config": str(path),
                "ca": str(config.ca.certificate),
                "api": f"{scheme}://{config.api.listen}",
                "tunnel": config.public_url.tunnel,
                "admin_token": token,
            }
        )
        return
    say(f"made {path}")
    say(f"  agents dial   {config.public_url.tunnel} (listening on {config.tunnel.listen})")
    say(f"  callers use   {scheme}://{config.api.listen}")
    if not config.api.plain:
        say(f"  and trust     {config.ca.certificate}")
    say(f"next: workato-gateway run --config {path}")
    say("the admin token, not shown again:")
    result(token)
