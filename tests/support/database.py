"""Calls to a database service the way the dispatcher makes them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

from attrs import define, field, frozen

from workato_agent.requests import Request, Response
from workato_agent.services.database.service import DatabaseService
from workato_tunnel.problems import Problem


@frozen
class WholeBody:
    """A request's body that has arrived."""

    data: bytes

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 65536):
            yield self.data[start : start + 65536]

    async def read(self, limit: int) -> bytes:
        if len(self.data) > limit:
            raise Problem("payload_too_large", f"the body is larger than {limit} bytes")
        return self.data


def request(
    method: str = "POST",
    path: str = "query",
    body: object = None,
    *,
    accept: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    deadline: float = 1e12,
    query: str = "",
    caller: str = "tester",
) -> Request:
    """A call; ``body`` is encoded as JSON unless it is bytes."""
    data = (
        body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    )
    if accept is not None:
        headers = (*headers, ("accept", accept))
    return Request(
        service="database",
        profile="test",
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=WholeBody(data),
        caller=caller,
        deadline=deadline,
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        request_id="request-1",
    )


@frozen
class Answer:
    """A response that has been read to its end."""

    request: Request
    response: Response
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rows(self) -> list[list[Any]]:
        rows: list[list[Any]] = self.json["rows"]
        return rows

    @property
    def types(self) -> list[str]:
        return [column["type"] for column in self.json["columns"]]


async def read(response: Response) -> bytes:
    """The whole body of a response."""
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


@define
class Caller:
    """Makes calls to one service."""

    service: DatabaseService
    sent: list[Request] = field(factory=list)

    async def call(self, path: str, body: object, *, accept: str | None = None) -> Answer:
        """POST to an operation and read the answer."""
        sent = request("POST", path, body, accept=accept)
        response = await self.service.handle(sent)
        return Answer(sent, response, await read(response))

    async def query(
        self, sql: str, params: object = None, *, accept: str | None = None, **more: object
    ) -> Answer:
        """Run a query."""
        body = {"sql": sql, **more} | ({} if params is None else {"params": params})
        return await self.call("query", body, accept=accept)

    async def execute(self, sql: str, params: object = None) -> Any:
        """Run a statement; the decoded answer."""
        body = {"sql": sql} | ({} if params is None else {"params": params})
        return (await self.call("execute", body)).json

    async def test(self) -> Any:
        """Test the profile; the decoded answer."""
        response = await self.service.handle(request("GET", ""))
        return json.loads(await read(response))


def typed(kind: str, value: object) -> dict[str, object]:
    """A typed parameter; bytes are encoded."""
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    return {"type": kind, "value": value}
