"""``workato-gateway init``: everything that a new gateway needs, in one folder."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from twisted.internet.defer import Deferred

from ..addresses import Listen, PublicUrl, parse_listen, parse_public_url
from ..assembly import server_hosts_of
from ..config import Config, read
from ..identity.authority import Authority, write_private
from ..identity.tls import ensure_server_certificate
from ..identity.tokens import ADMIN, issue_token
from ..storage.interface import AuditEntry, StoreError, Transaction
from ..storage.sqlite import SqliteStore
from .administration import CommandError
from .output import result, result_json, say

EXAMPLE = """example:
  workato-gateway init --dir /srv/gateway --public-url https://gw.example:8443"""

T = TypeVar("T")

FILE: Final = "gateway.yml"
_FILES: Final = (FILE, "ca.crt", "ca.key", "server.pem", "gateway.db")
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
    parser.add_argument("--dir", metavar="DIR", type=Path, required=True, help="made when missing")
    parser.add_argument(
        "--public-url",
        metavar="URL",
        type=_argument(parse_public_url),
        required=True,
        help="how agents reach the tunnel listener: https://HOST[:PORT]",
    )
    parser.add_argument(
        "--listen-tunnel",
        metavar="ADDRESS:PORT",
        type=_argument(parse_listen),
        default=Listen("0.0.0.0", 8443),  # noqa: S104
        help="for agents; default 0.0.0.0:8443",
    )
    parser.add_argument(
        "--listen-api",
        metavar="ADDRESS:PORT",
        type=_argument(parse_listen),
        default=Listen("127.0.0.1", 8080),
        help="for callers; default 127.0.0.1:8080. Plain HTTP on loopback, else TLS",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=_init)


def _init(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.dir.absolute()
    made_folder = not folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}") from error
    there = [name for name in _FILES if (folder / name).exists()]
    if there:
        raise CommandError(f"{folder} holds {', '.join(there)} already: nothing was changed")
    try:
        config, token = _make(
            folder, arguments.public_url, arguments.listen_tunnel, arguments.listen_api
        )
    except BaseException as error:
        for name in (*_FILES, "gateway.db-wal", "gateway.db-shm"):
            (folder / name).unlink(missing_ok=True)
        if made_folder:
            folder.rmdir()
        if isinstance(error, OSError | StoreError):
            raise CommandError(str(error)) from error
        raise
    _report(arguments, folder / FILE, config, token)


def _make(folder: Path, public_url: PublicUrl, tunnel: Listen, api: Listen) -> tuple[Config, str]:
    text = _TEMPLATE.format(public_url=public_url, tunnel=tunnel, api=api)
    config = read(text, folder / FILE)
    authority = Authority.create(f"Gateway CA {public_url.host}")
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
    write_private(folder / FILE, text.encode("utf-8"), 0o640)
    return config, token[0]


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
