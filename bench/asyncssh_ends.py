"""``asyncssh -R``: server and client of one reverse forward, each a Python process.

``python -m bench.asyncssh_ends server FOLDER PORT`` and
``python -m bench.asyncssh_ends client FOLDER PORT FORWARDED_PORT TARGET_PORT``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncssh


class _Permissive(asyncssh.SSHServer):
    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True


async def _serve(folder: Path, port: int) -> None:
    await asyncssh.create_server(
        _Permissive,
        "127.0.0.1",
        port,
        server_host_keys=[str(folder / "host")],
        authorized_client_keys=str(folder / "user.pub"),
    )
    await asyncio.Event().wait()


async def _dial(folder: Path, port: int, forwarded: int, target: int) -> None:
    connection = await asyncssh.connect(
        "127.0.0.1",
        port,
        username="bench",
        client_keys=[str(folder / "user")],
        known_hosts=None,
        config=None,
    )
    listener = await connection.forward_remote_port("127.0.0.1", forwarded, "127.0.0.1", target)
    await listener.wait_closed()


def main(end: str, folder: str, *ports: str) -> None:
    """Run one end until it is killed."""
    coroutine = _serve if end == "server" else _dial
    asyncio.run(coroutine(Path(folder), *map(int, ports)))


if __name__ == "__main__":
    main(*sys.argv[1:])
