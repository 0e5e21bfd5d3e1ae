"""Raw TCP: pgbench and a bulk download through ``onprem forward``, beside port forwards of SSH.

And beside a chain of as many of Twisted's own bare forwards as our way has processes: what is left
when there is no TLS, no frame, no policy and no resumption.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from demo.processes import Background, ProgramError, command, free_port, run

from .peers import Way, start_asyncssh, start_ssh
from .postgres import PASSWORD
from .results import Result, Target, compared, interleaved
from .site import GROUP, Site
from .transfers import download, transfer

_BARE = "Twisted's bare forward, three in a row"
_CLIENTS = 16
_SECONDS = 5
_RATE = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)


def measure(site: Site) -> list[Result]:
    """pgbench's SELECT-only transactions of 16 clients, each on one connection; and 1 GiB of nginx.

    Our way has one hop more than theirs: the caller's own ``onprem forward``.
    """
    running: list[Background] = []
    try:
        databases = _ways(site, running, site.postgres(), "database")
        webs = _ways(site, running, site.target(), "web")
        _pgbench(site, site.postgres(), "--initialize", "--scale=10", "--quiet")

        def both(name: str) -> dict[str, float]:
            found = _RATE.search(
                _pgbench(
                    site,
                    databases[name].port,
                    "--select-only",
                    "--protocol=prepared",
                    "--no-vacuum",
                    f"--client={_CLIENTS}",
                    f"--time={_SECONDS}",
                )
            )
            if found is None:
                raise ProgramError("pgbench printed no rate")
            down = transfer(download(webs[name])).megabytes_per_second
            return {"tps": float(found[1]), "down": down}

        medians = interleaved({name: partial(both, name) for name in databases})
    finally:
        for process in reversed(running):
            process.stop()
    return [
        *compared(
            f"pgbench over TCP, {_CLIENTS} clients, transactions/s",
            medians,
            "tps",
            {"ssh -R": Target("ratio", least=0.8)},
        ),
        *compared(
            "download 1 GiB over TCP, MB/s",
            medians,
            "down",
            {"ssh -R": Target("ratio", least=0.6)},
        ),
    ]


def _ways(site: Site, running: list[Background], target: int, profile: str) -> dict[str, Way]:
    folder = site.folder / f"forward-{profile}"
    folder.mkdir()
    folder.chmod(0o755)
    ways = [
        Way("direct", target),
        start_ssh(folder, running, target),
        start_asyncssh(folder, running, target),
        _start_bare(folder, running, target),
    ]
    if not site.peers_only:
        ways.append(_start_ours(site, folder, running, profile))
    return {way.name: way for way in ways}


def _start_ours(site: Site, folder: Path, running: list[Background], profile: str) -> Way:
    deployment = site.deployment()
    port = free_port()
    forward = Background.start(
        f"forward-{profile}",
        [command("onprem"), "forward", profile, str(port)],
        cwd=folder,
        environment={
            "ONPREM_URL": f"http://127.0.0.1:{deployment.api_port}",
            "ONPREM_GROUP": GROUP,
            "ONPREM_TOKEN": deployment.token("forward", f"{GROUP}:tcp:*:*"),
        },
    )
    running.append(forward)
    forward.wait_for_port(port)
    return Way("ours", port)


def _start_bare(folder: Path, running: list[Background], target: int) -> Way:
    for _ in range(3):
        port = free_port()
        forward = Background.start(
            f"bare-{port}",
            [command("twist"), "portforward", f"--port=tcp:{port}:interface=127.0.0.1",
             "--host=127.0.0.1", f"--dest_port={target}"],
            cwd=folder,
        )  # fmt: skip
        running.append(forward)
        forward.wait_for_port(port)
        target = port
    return Way(_BARE, target)


def _pgbench(site: Site, port: int, *options: str) -> str:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    os.environ["PGPASSWORD"] = PASSWORD
    return run(
        [str(programs[-1]), "--host=127.0.0.1", f"--port={port}", "--username=bench",
         *options, "postgres"],
        cwd=site.folder,
        seconds=120,
    )  # fmt: skip
