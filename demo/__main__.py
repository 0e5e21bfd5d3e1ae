"""``make demo``: calls from "the cloud" to a database, a folder and an application "on-prem".

A real gateway and a real agent run as processes of their own and talk over TLS; everything lies in
one temporary folder. Exits with 1 when any answer is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from attrs import define

from .caller import Caller, WrongAnswerError
from .deployment import Deployment
from .processes import Background, ProgramError, clean_up_on_sigterm, command, free_port, run
from .sample import agent_sections, make_database, make_folder
from .steps import STEPS, Stage

GROUP = "demo"


@define
class Running:
    """Everything that the demo has started."""

    folder: Path
    app: Background
    deployment: Deployment

    def stop(self) -> None:
        """Stop it and remove the folder."""
        self.deployment.stop()
        self.app.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> int:
    """Set up, tell the story, and clean up or say how to go on."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    keep: bool = parser.parse_args().keep
    clean_up_on_sigterm()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="onprem-demo-"))
    port = free_port()
    app = Background.start(
        "stock-app",
        [sys.executable, "-m", "demo.onprem_app", str(port)],
        cwd=folder,
        environment={"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    make_database(folder / "shop.db")
    checksum = make_folder(folder / "reports")
    sections = agent_sections(folder / "shop.db", folder / "reports", port)
    running = Running(folder, app, Deployment(folder, GROUP, sections))
    kept = False
    try:
        app.wait_for_port(port)
        stage = _set_up(running, checksum)
        for number, step in enumerate(STEPS, 1):
            print(f"\n{number}. {step.__doc__}")
            print(f"  ✓ {step(stage)}")
        _show_agent(running.deployment)
        print(f"\nAll {len(STEPS)} answers are right ({time.monotonic() - began:.0f} s).")
        if keep:
            _go_on_by_hand(running, stage)
            kept = True
        else:
            print("Run `make demo KEEP=1` to leave it running and call it yourself.")
    except (ProgramError, WrongAnswerError, OSError) as error:
        print(f"\n  ✗ {error}", file=sys.stderr)
        return 1
    finally:
        if not kept:
            running.stop()
    return 0


def _set_up(running: Running, checksum: str) -> Stage:
    deployment = running.deployment
    print(f"Setting up in {running.folder}")
    deployment.make_gateway()
    print(f"  workato-gateway init           CA, certificate, store: {deployment.gateway_config}")
    deployment.admin("group", "create", GROUP)
    token = deployment.token("demo", f"{GROUP}:*:*:*")
    reader = deployment.token("reader", f"{GROUP}:files:*:GET")
    print("  workato-gateway token create   for all of the group, and for reading files only")
    deployment.start_gateway()
    print(f"  twistd -n workato-gateway      API {deployment.url}, tunnels on {deployment.tunnel}")
    code = deployment.admin("agent", "code", GROUP)
    print(f"  workato-gateway agent code     an activation code, for one use: {code[:16]}…")
    deployment.enrol(code)
    print(
        f"  workato-agent enrol --code …   the agent's key and certificate: {deployment.identity}"
    )
    deployment.start_agent()
    print("  twistd -n workato-agent        connected, offers what its config.yml names")
    return Stage(
        folder=running.folder,
        caller=Caller(deployment.url, token),
        reader=Caller(deployment.url, reader, "READER"),
        checksum=checksum,
    )


def _show_agent(deployment: Deployment) -> None:
    print("\nBehind the firewall, the agent's owner sees it too:")
    audit = deployment.identity / "audit" / "audit.jsonl"
    for arguments, lines in (
        (["status", f"--config={deployment.config}"], 8),
        (["verify-audit", str(audit)], 3),
    ):
        print(f"  $ workato-agent {' '.join(arguments)}")
        output = run([command("workato-agent"), *arguments], cwd=deployment.folder).splitlines()
        for line in output[:lines] + ["…"] * (len(output) > lines):
            print(f"  {line}")
    print(f"  $ tail -1 {audit}\n  {audit.read_text(encoding='utf-8').splitlines()[-1]}")


def _go_on_by_hand(running: Running, stage: Stage) -> None:
    deployment = running.deployment
    pids = [
        process.pid
        for process in (deployment.agent, deployment.gateway, running.app)
        if process is not None
    ]
    caller = stage.caller
    sql = {"sql": "select region, count(*) as customers from customers group by region"}
    shop, reports = f"/v1/groups/{GROUP}/database/shop", f"/v1/groups/{GROUP}/files/reports"
    print(
        f"""
It goes on running. In any shell:

  URL={caller.url}
  TOKEN={caller.token}
  ADMIN={deployment.admin_token}

  {caller.curl("POST", f"{shop}/query", body=sql)}
  {caller.curl("POST", f"{shop}/query", body=sql, headers={"Accept": "text/csv"})}
  {caller.curl("GET", f"{reports}/list/")}
  {caller.curl("GET", f"/v1/groups/{GROUP}/http/stock/items/hinge-m8")}
  {caller.curl("GET", f"/v1/groups/{GROUP}/agents").replace("$TOKEN", "$ADMIN")}

  {deployment.config}   what the agent offers
  {running.folder}/*.log        what both have to say

Stop it with:

  kill {" ".join(map(str, pids))}; sleep 2; rm -rf {running.folder}
"""
    )


if __name__ == "__main__":
    sys.exit(main())
