"""Amazon SQS as moto emulates it: a server of one's own, in a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from functools import cache
from typing import Any, Final, Self
from urllib.request import Request, urlopen

from attrs import define

from .ports import free_port

REGION: Final = "eu-west-1"
START_SECONDS: Final = 60.0


@define(eq=False)
class SqsServer:
    """A running server without queues."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Of its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def start(cls) -> Self:
        """A new one. Takes about a second."""
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        keys = {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"}
        process = subprocess.Popen(
            command,
            env={**os.environ, **keys},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = cls(port, process)
        atexit.register(server.stop)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                server.ask("ListQueues", {})
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("moto's server does not start") from error
                time.sleep(0.05)
            else:
                return server

    def ask(self, action: str, parameters: dict[str, object]) -> Any:
        """A call past the code under test."""
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/sqs/aws4_request",
        }
        request = Request(self.url, json.dumps(parameters).encode(), headers)  # noqa: S310
        with urlopen(request, timeout=20) as response:  # noqa: S310
            return json.loads(response.read() or b"{}")

    def make_queue(self, name: str, **attributes: str) -> str:
        """A new queue; its URL."""
        parameters = {"QueueName": name, "Attributes": attributes}
        return str(self.ask("CreateQueue", parameters)["QueueUrl"])

    def hang(self) -> None:
        """SIGSTOP: connections stand, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End :meth:`hang`."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        atexit.unregister(self.stop)
        self.process.kill()
        self.process.wait(30)


@cache
def shared_server() -> SqsServer:
    """One server for all tests that leave it running; it ends with the process."""
    return SqsServer.start()
