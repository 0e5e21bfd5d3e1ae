"""The database service: one profile, whatever its adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .adapters.base import Adapter, Output, Work
from .answers import Document, Held, accepted, result_response
from .batches import batch_of
from .bodies import MAX_BODY, Call, Encoded, check_encoding, media_type
from .formats import negotiate
from .guard import Guard
from .loads import load_rows
from .named import NamedQuery
from .names import parse_name
from .results_arrow import ArrowWriter, thd_load_pyarrow
from .routes import OPERATIONS, Action, Route, find_route
from .sessions import Sessions
from .settings import DatabasePolicy, SessionSettings
from .statements import Batch, Statement, TableName, bind
from .work import Threads

__all__ = ["OPERATIONS", "DatabaseService"]

_LARGE_BODY: Final = 32 * 1024

_OF_SESSIONS: Final = frozenset({Action.OPEN, Action.CLOSE, Action.COMMIT, Action.ROLLBACK})

T = TypeVar("T")
_Served = Callable[[Request, Route, Work], Awaitable[Response]]


@define(eq=False)
class DatabaseService:
    """Serves one profile of the ``database`` section."""

    _reactor: Any
    _adapter: Adapter
    _policy: DatabasePolicy
    _guard: Guard
    _threads: Threads
    _sessions: Sessions
    _queries: Mapping[str, NamedQuery]
    operations: tuple[str, ...] = OPERATIONS
    _debug: bool = False
    _actions: Mapping[Action, _Served] = field(init=False)
    _log: Logger = field(factory=Logger, init=False)

    def __attrs_post_init__(self) -> None:
        self._actions = {
            Action.TEST: self._test,
            Action.QUERY: self._query,
            Action.EXECUTE: self._execute,
            Action.BATCH: self._batch,
            Action.CALL: self._call,
            Action.LOAD: self._load,
            Action.TABLES: self._tables,
            Action.SHAPE: self._shape,
            Action.NAMES: self._names,
            Action.NAMED: self._named,
        }

    @classmethod
    def build(
        cls,
        reactor: Any,
        adapter: Adapter,
        policy: DatabasePolicy,
        operations: tuple[str, ...] = OPERATIONS,
        *,
        queries: Mapping[str, str] | None = None,
        sessions: SessionSettings | None = None,
        debug: bool = False,
    ) -> DatabaseService:
        """A service around an adapter.

        ``operations``: those that the profile's policy leaves. ``queries``: statements that the
        customer has named. ``debug``: statements go to the log, without the values of their
        parameters.
        """
        dialect = adapter.dialect
        named = {name: NamedQuery.of(name, sql, dialect) for name, sql in (queries or {}).items()}
        return cls(
            reactor,
            adapter,
            policy,
            Guard.of(policy, adapter.type, dialect),
            Threads.of(reactor, 1, "database-requests"),
            Sessions.of(reactor, adapter, sessions or SessionSettings()),
            named,
            operations,
            debug,
        )

    @property
    def type(self) -> str:
        """The adapter's name, as in the configuration."""
        return self._adapter.type

    def operation(self, request: Request) -> str:
        """One of :data:`~.routes.OPERATIONS`."""
        return find_route(request.method, request.path).operation

    async def handle(self, request: Request) -> Response:
        """Serve a call; see :class:`~workato_agent.services.base.ProfileService`."""
        route = find_route(request.method, request.path)
        if route.action in _OF_SESSIONS:
            return await self._session_call(route, request)
        if route.session is None:
            return await self._actions[route.action](request, route, self._adapter)
        # What a session runs needs the right to have one too.
        self._allow("sessions", request)
        lease = self._sessions.use(route.session, request.caller)
        try:
            response = await self._actions[route.action](request, route, lease)
        except BaseException:
            lease.release()
            raise
        if isinstance(response.body, bytes):
            lease.release()
            return response
        return Response(response.status, response.headers, Held(response.body, lease.release))

    async def close(self) -> None:
        """Roll sessions back, close the adapter's connections and all threads."""
        await self._sessions.close()
        await self._adapter.close()
        await self._threads.stop()

    # -- sessions ------------------------------------------------------------------------------

    async def _session_call(self, route: Route, request: Request) -> Response:
        document = Document.of(request)
        sessions = self._sessions
        Encoded(
            await request.body.read(MAX_BODY), media_type(request.header("content-type"))
        ).nothing()
        if route.session is None:
            identifier = await sessions.open(request.caller)
            return document.response(
                {"session": identifier, "timeout": sessions.timeout},
                201,
                (("location", f"sessions/{identifier}"), ("cache-control", "no-store")),
            )
        if route.action is Action.CLOSE:
            await sessions.end(route.session, request.caller)
            return Response(204)
        undo = route.action is Action.ROLLBACK
        lease = sessions.use(route.session, request.caller, to_undo=undo)
        try:
            await (lease.rollback() if undo else lease.commit())
        finally:
            lease.release()
        return document.response({"ok": True})

    def _allow(self, operation: str, request: Request) -> None:
        if operation not in self.operations:
            raise Problem(
                "policy_denied",
                f"the rule 'operations' of profile {request.service}/{request.profile} refuses "
                f"this call: it allows {', '.join(self.operations)}, not {operation}",
                hint="the customer sets it in the agent's config.yml",
                extra={"rule": "operations"},
            )

    # -- calls ---------------------------------------------------------------------------------

    async def _test(self, request: Request, route: Route, work: Work) -> Response:
        facts = await self._adapter.test()
        return Document.of(request).response({"ok": True, **facts})

    async def _query(self, request: Request, route: Route, work: Work) -> Response:
        body = await self._body(request)

        def parse() -> tuple[Call, Statement]:
            call = body.query()
            return call, self._bound(call.sql, call.params, route)

        call, statement = await self._parsed(body, parse)
        return await self._result(request, work, statement, call.max_rows, route)

    async def _named(self, request: Request, route: Route, work: Work) -> Response:
        query = self._queries.get(route.name)
        if query is None:
            raise Problem(
                "not_found",
                f"the profile has no query {route.name[:100]!r}",
                hint=f"it has {', '.join(list(self._queries)[:20]) or 'none'}",
            )
        body = await self._body(request)

        def parse() -> tuple[Call, Statement]:
            call = body.named()
            query.check(call.params)
            return call, self._bound(query.sql, call.params, route)

        call, statement = await self._parsed(body, parse)
        return await self._result(request, work, statement, call.max_rows, route)

    async def _execute(self, request: Request, route: Route, work: Work) -> Response:
        body = await self._body(request)

        def parse() -> Statement:
            call = body.execute()
            return self._bound(call.sql, call.params, route)

        statement = await self._parsed(body, parse)
        self._trace(request, route, statement.sql)
        document = Document.of(request)
        output = document.output(self._policy.max_rows, self._policy.max_bytes)
        outcome = await work.execute(statement, output)
        request.usage.rows = outcome.row_count
        return document.outcome(outcome, output)

    async def _batch(self, request: Request, route: Route, work: Work) -> Response:
        body = await self._body(request)
        batch = await self._parsed(body, lambda: self._batch_of(body, route))
        self._trace(request, route, batch.statement.sql)
        count = await work.batch(batch) if batch.rows else 0
        request.usage.rows = count
        return Document.of(request).response({"row_count": count})

    async def _call(self, request: Request, route: Route, work: Work) -> Response:
        procedure = parse_name(route.name, "procedure")
        self._guard.check_procedure(procedure)
        body = await self._body(request)
        params = await self._parsed(body, body.procedure)
        self._trace(request, route, str(procedure))
        document = Document.of(request)

        def output() -> Output:
            return document.output(self._policy.max_rows, self._policy.max_bytes)

        returned = await work.call(procedure, params, output)
        request.usage.rows = sum(each.row_count for each in returned.result_sets)
        return document.returned(returned)

    async def _load(self, request: Request, route: Route, work: Work) -> Response:
        table = parse_name(route.name, "table")
        self._guard.check_table(table, route.operation)
        self._trace(request, route, str(table))
        count = await load_rows(self._reactor, self._threads, request, table, work)
        request.usage.rows = count
        return Document.of(request).response({"row_count": count})

    async def _tables(self, request: Request, route: Route, work: Work) -> Response:
        tables = [
            table
            for table in await work.tables()
            if self._guard.shows(TableName(table.schema, table.name))
        ]
        request.usage.rows = len(tables)
        document = Document.of(request)
        return await self._threads.run(document.response, {"tables": tables})

    async def _shape(self, request: Request, route: Route, work: Work) -> Response:
        table = parse_name(route.name, "table")
        self._guard.check_table(table, route.operation)
        return Document.of(request).response(await work.shape(table))

    async def _names(self, request: Request, route: Route, work: Work) -> Response:
        queries = [query.described() for _, query in sorted(self._queries.items())]
        return Document.of(request).response({"queries": queries})

    # -- their parts ---------------------------------------------------------------------------

    async def _body(self, request: Request) -> Encoded:
        kind = media_type(request.header("content-type"))
        check_encoding(request.header("content-encoding"))
        return Encoded(await request.body.read(MAX_BODY), kind)

    async def _parsed(self, body: Encoded, parse: Callable[[], T]) -> T:
        """Parse on the spot, or in a thread what is large."""
        if len(body.data) < _LARGE_BODY and not self._guard.parses:
            return parse()
        return await self._threads.run(parse)

    def _bound(self, sql: str, params: Any, route: Route) -> Statement:
        statement = bind(sql, params, self._adapter.dialect)
        self._guard.check_statement(statement, route.operation)
        return statement

    def _batch_of(self, body: Encoded, route: Route) -> Batch:
        batch = batch_of(body.batch(), self._adapter.dialect)
        self._guard.check_statement(batch.statement, route.operation)
        return batch

    async def _result(
        self,
        request: Request,
        work: Work,
        statement: Statement,
        max_rows: int | None,
        route: Route,
    ) -> Response:
        self._trace(request, route, statement.sql)
        writer = negotiate(accepted(request))
        if isinstance(writer, ArrowWriter):
            await self._threads.run(thd_load_pyarrow)
        limit = self._policy.max_rows
        own_limit = max_rows is not None and (limit is None or max_rows <= limit)
        output = Output(
            writer,
            max_rows=max_rows if own_limit else limit,
            max_bytes=self._policy.max_bytes,
            own_limit=own_limit,
        )
        stream = await work.query(statement, output)
        return await result_response(request, stream, output)

    def _trace(self, request: Request, route: Route, sql: str) -> None:
        if self._debug:
            self._log.info(
                "{operation} on {profile}: {sql}",
                event="statement",
                operation=route.operation,
                profile=request.profile,
                sql=sql,
                request_id=request.request_id,
            )
