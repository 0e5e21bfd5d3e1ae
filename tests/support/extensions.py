"""A profile of an extension, and calls on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.support.files import Chunks
from tests.support.folders import folder_for
from tests.support.tunnel import reactor
from workato_agent.config import AgentConfig, parse_config
from workato_agent.requests import Request, Response
from workato_agent.served import ServedProfiles, serve_profiles
from workato_tunnel.problems import Problem

ROOT = Path(__file__).parents[2]
CASES = "tests.support.extension_cases.Cases"
MIB = 2**20


class ExtensionCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.note = self.folder / "note"
        self.served: ServedProfiles | None = None
        self.log: list[str] = []

        def noted(event: LogEvent) -> None:
            self.log.append(formatEvent(event))

        globalLogPublisher.addObserver(noted)
        self.addCleanup(globalLogPublisher.removeObserver, noted)

    def config(self, controller: str = CASES, **more: Any) -> AgentConfig:
        keys = {"controllerClass": controller, "python_path": str(ROOT), **more}
        return parse_config(json.dumps({"extensions": {"x": keys}}), self.folder / "config.yml", {})

    def serve(self, controller: str = CASES, **more: Any) -> None:
        self.served = serve_profiles(self.config(controller, **more), reactor)
        self.served.start()
        self.addCleanup(self.served.close)

    @property
    def service(self) -> Any:
        assert self.served is not None
        return self.served.profiles["extensions"]["x"].service

    def request(
        self,
        path: str,
        query: str = "",
        method: str = "POST",
        body: Any = None,
        seconds: float = 30,
    ) -> Request:
        return Request(
            service="extensions",
            profile="x",
            method=method,
            path=path,
            query=query,
            headers=(("x-some", "header"),),
            body=Chunks() if body is None else body,
            caller="tester",
            deadline=reactor.seconds() + seconds,
            trace="",
            request_id="r1",
        )

    def begin(self, path: str, query: str = "", **more: Any) -> Deferred[Response]:
        return Deferred.fromCoroutine(self.service.handle(self.request(path, query, **more)))

    async def call(self, path: str, query: str = "", **more: Any) -> tuple[Response, bytes]:
        response = await self.begin(path, query, **more)
        if isinstance(response.body, bytes):
            return response, response.body
        return response, b"".join([chunk async for chunk in response.body])

    async def problem(self, path: str, query: str = "", **more: Any) -> Problem:
        try:
            await self.call(path, query, **more)
        except Problem as problem:
            return problem
        raise AssertionError("no problem")

    async def about(self) -> dict[str, Any]:
        _, body = await self.call("about")
        return dict(json.loads(body))

    async def cancel(self, running: Deferred[Response]) -> None:
        running.cancel()
        try:
            await running
        except CancelledError:
            return
        raise AssertionError("not cancelled")


def alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(") ")[2][0] != "Z"
