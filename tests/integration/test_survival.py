"""Real processes, a real TLS tunnel, and a network that breaks: no byte is lost, and what is cut
never looks whole. MEBIBYTES can be raised by SURVIVAL_MIB for a longer run."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import free_port
from tests.support.cutting_relay import CuttingRelay, wait_until

MEBIBYTES = int(os.environ.get("SURVIVAL_MIB", "96"))
ROWS = 400_000
CUTS = 20
SERIES = (
    "with recursive s(n) as (select 1 union all select n + 1 from s where n < {rows}) "
    "select n, n * 7 as seven, 'row ' || n as name from s"
)
SECTIONS = """\
database:
  db: {{ adapter: sqlite, database: {folder}/db.sqlite }}
files:
  share: {{ base: {folder}/share }}
"""


class SurvivalTests(SynchronousTestCase):
    """Each test has a deployment of its own: agent -> relay -> gateway."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="survival-"))
        self.addCleanup(shutil.rmtree, folder)
        (folder / "share").mkdir()
        database = sqlite3.connect(folder / "db.sqlite")
        database.execute("create table t (a)")
        database.close()
        self.content = random.Random(7).randbytes(1 << 20) * MEBIBYTES
        (folder / "share" / "big").write_bytes(self.content)
        self.digest = hashlib.sha256(self.content).hexdigest()
        relay_port = free_port()
        sections = SECTIONS.format(folder=folder)
        self.deployment = Deployment(folder, "g", sections, public_port=relay_port)
        self.relay = CuttingRelay(relay_port, self.deployment.tunnel_port)
        self.relay.start()
        self.addCleanup(self.relay.stop)
        self.addCleanup(self.deployment.stop)
        self.deployment.start()
        self.token = self.deployment.token("tester", "g:*:*:*")

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=180)
        try:
            fields = {"Authorization": f"Bearer {self.token}", "X-Timeout": "170", **headers}
            connection.request(method, f"/v1/groups/g/{path}", body, fields)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def test_a_download_survives_twenty_cuts(self) -> None:
        self.relay.arm(len(self.content) // (CUTS + 2), CUTS)
        status, body = self.call("GET", "files/share/content/big")
        self.assertEqual(status, 200)
        self.assertEqual(hashlib.sha256(body).hexdigest(), self.digest)
        self.assertEqual(self.relay.cuts, CUTS)

    def test_an_upload_survives_twenty_cuts(self) -> None:
        self.relay.arm(len(self.content) // (CUTS + 2), CUTS)
        status, answer = self.call("PUT", "files/share/content/uploaded", self.content)
        self.assertEqual(status, 201, answer)
        stored = (self.deployment.folder / "share" / "uploaded").read_bytes()
        self.assertEqual(hashlib.sha256(stored).hexdigest(), self.digest)
        self.assertEqual(self.relay.cuts, CUTS)

    def test_a_query_survives_twenty_cuts(self) -> None:
        statement = json.dumps({"sql": SERIES.format(rows=ROWS)})
        status, undisturbed = self.call("POST", "database/db/query", statement, Accept="text/csv")
        self.assertEqual(status, 200, undisturbed[:500])
        self.relay.arm(len(undisturbed) // (CUTS + 2), CUTS)
        status, body = self.call("POST", "database/db/query", statement, Accept="text/csv")
        self.assertEqual(status, 200)
        self.assertEqual(body.count(b"\n"), ROWS + 1)
        self.assertEqual(body, undisturbed)
        self.assertEqual(self.relay.cuts, CUTS)

    def _kill_agent(self) -> None:
        agent = self.deployment.agent
        assert agent is not None
        os.kill(agent.pid, signal.SIGKILL)
        agent.process.wait(10)

    def _restart_agent(self) -> None:
        self.deployment.start_agent()

    def test_a_killed_agent_cuts_a_download_visibly(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=90)
        connection.request(
            "GET",
            "/v1/groups/g/files/share/content/big",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        first = response.read(1 << 20)
        self._kill_agent()
        try:
            restart = threading.Thread(target=self._restart_agent)
            restart.start()
            with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
                response.read()
        finally:
            restart.join(60)
            connection.close()
        self.assertEqual(len(first), 1 << 20)

    def test_a_killed_agent_leaves_no_half_upload(self) -> None:
        sent = threading.Event()

        def pieces() -> Any:
            for start in range(0, len(self.content), 1 << 20):
                yield self.content[start : start + (1 << 20)]
                if start > 8 << 20:
                    sent.set()

        outcome: list[Any] = []

        def upload() -> None:
            try:
                outcome.append(self.call("PUT", "files/share/content/half", pieces()))
            except (OSError, http.client.HTTPException) as error:
                outcome.append(error)

        caller = threading.Thread(target=upload)
        caller.start()
        sent.wait(30)
        self._kill_agent()
        self._restart_agent()
        caller.join(90)
        self.assertEqual(len(outcome), 1)
        if isinstance(outcome[0], tuple):
            status, body = outcome[0]
            self.assertEqual((status, json.loads(body)["code"]), (502, "tunnel_lost"))
        share = self.deployment.folder / "share"
        self.assertFalse((share / "half").exists())
        status, listing = self.call("GET", "files/share/list/")
        self.assertEqual(status, 200)
        self.assertNotIn(b"half", listing)

    def test_a_call_without_an_answer_yet_gets_tunnel_lost(self) -> None:
        endless = json.dumps({"sql": f"select count(*) from ({SERIES.format(rows=10**9)})"})
        outcome: list[tuple[int, bytes]] = []
        caller = threading.Thread(
            target=lambda: outcome.append(self.call("POST", "database/db/query", endless))
        )
        caller.start()
        metrics = "onprem_gateway_streams"
        wait_until(lambda: metrics.encode() in self.deployment.get("/metrics")[1])
        threading.Event().wait(1.0)
        self._kill_agent()
        self._restart_agent()
        caller.join(90)
        ((status, body),) = outcome
        problem = json.loads(body)
        self.assertEqual((status, problem["code"]), (502, "tunnel_lost"))
        self.assertIn("may", problem["detail"] + problem.get("hint", ""))
