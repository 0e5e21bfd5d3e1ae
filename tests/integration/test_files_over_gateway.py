"""Files through gateway and agent: uploads and watches that go on after a killed agent."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from tests.support.cutting_relay import wait_until

MEBIBYTE = 1 << 20
SECTIONS = """\
files:
  share: {{ base: {folder}/share }}
"""
FILES = "/v1/groups/g/files/share"


class FilesOverGatewayTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="files-"))
        self.addCleanup(shutil.rmtree, folder)
        self.share = folder / "share"
        self.share.mkdir()
        self.deployment = Deployment(folder, "g", SECTIONS.format(folder=folder))
        self.addCleanup(self.deployment.stop)
        self.deployment.start()
        self.token = self.deployment.token("tester", "g:*:*:*")

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=60)
        self.addCleanup(connection.close)
        return connection

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> http.client.HTTPResponse:
        fields = {"Authorization": f"Bearer {self.token}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connect()
        connection.request(method, f"{FILES}/{path}", body, fields)
        return connection.getresponse()

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        response = self.send(method, path, body, **headers)
        return response.status, json.loads(response.read() or b"null")

    def kill_agent(self) -> None:
        agent = self.deployment.agent
        assert agent is not None
        os.kill(agent.pid, signal.SIGKILL)
        agent.process.wait(10)

    def arrived(self) -> int:
        """How much of the upload has arrived; 0 while nothing has."""
        status, answer = self.json("GET", "uploads/big")
        return int(answer["offset"]) if status == 200 else 0

    def test_an_upload_goes_on_after_a_cut_and_after_a_killed_agent(self) -> None:
        content = random.Random(5).randbytes(12 * MEBIBYTE)
        connection = self.connect()
        connection.putrequest("PUT", f"{FILES}/content/big?offset=0")
        connection.putheader("Authorization", f"Bearer {self.token}")
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders()
        connection.send(content[: 5 * MEBIBYTE])
        wait_until(lambda: self.arrived() > 4 * MEBIBYTE)
        connection.close()
        wait_until(lambda: self.arrived() == 5 * MEBIBYTE)
        at = self.arrived()
        status, answer = self.json(
            "PUT", f"content/big?offset={at}&complete=false", content[at : 8 * MEBIBYTE]
        )
        self.assertEqual((status, answer), (202, {"offset": 8 * MEBIBYTE}))

        def pieces() -> Any:
            yield content[8 * MEBIBYTE : 10 * MEBIBYTE]
            self.kill_agent()
            self.deployment.start_agent()
            yield content[10 * MEBIBYTE :]

        try:
            self.json("PUT", f"content/big?offset={8 * MEBIBYTE}", pieces())
        except (OSError, http.client.HTTPException) as error:
            self.assertIsInstance(error, (ConnectionError, http.client.HTTPException))
        at = self.arrived()
        self.assertGreaterEqual(at, 8 * MEBIBYTE)
        self.assertFalse((self.share / "big").exists())
        self.assertEqual(self.json("GET", "list/")[1]["entries"], [])
        value = base64.b64encode(hashlib.sha256(content).digest()).decode()
        status, _ = self.json(
            "PUT", f"content/big?offset={at}", content[at:], Content_Digest=f"sha-256=:{value}:"
        )
        self.assertEqual(status, 201)
        self.assertEqual((self.share / "big").read_bytes(), content)
        self.assertEqual([place.name for place in self.share.iterdir()], ["big"])

    def test_a_watch_tells_at_once_and_goes_on_after_a_killed_agent(self) -> None:
        response = self.send("GET", "watch/?settle=0.2&recursive=true", X_Timeout="30")
        self.assertEqual(response.headers["content-type"], "application/x-ndjson")
        self.assertEqual(json.loads(response.readline())["type"], "alive")
        (self.share / "one").write_bytes(b"1")
        line = json.loads(response.readline())
        self.assertEqual((line["type"], line["path"], line["size"]), ("created", "one", 1))
        self.kill_agent()
        (self.share / "two").write_bytes(b"22")
        self.deployment.start_agent()
        with self.assertRaises((http.client.HTTPException, ConnectionError)):
            response.read()
        (self.share / "d").mkdir()
        response = self.send(
            "GET", f"watch/?settle=0.2&recursive=true&since={line['cursor']}", X_Timeout="9"
        )
        threading.Timer(1, lambda: (self.share / "d" / "three").write_bytes(b"333")).start()
        lines = [json.loads(text) for text in response.read().splitlines()]
        told = [line["path"] for line in lines if "path" in line]
        self.assertEqual(told, ["two", "d/three"])
        self.assertEqual((lines[0]["type"], lines[-1]["type"]), ("alive", "end"))
