"""``PUT content/{path}``: whole files, and files that come in parts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from workato_tunnel.problems import Problem

from ...requests import Headers, Request, Response
from .access import Access, check_unchanged
from .answers import encoded_response, validator_fields
from .calls import PartParameters, content_length, refuse_partial, upload_of
from .conditions import Conditions
from .confinement import Names
from .filesystem import Facts, KeptFile, Kind, PendingFile
from .resuming import LastPart, Part, Turns, key_of
from .threads import Threads
from .transfers import Transfers
from .writing import ExpectedDigest, Upload, expected_digest, too_large


class Uploads:
    """Takes the files of a profile's callers.

    :param now: Unix seconds.
    """

    def __init__(
        self,
        access: Access,
        threads: Threads,
        transfers: Transfers,
        limit: int | None,
        now: Callable[[], float],
    ) -> None:
        self._access = access
        self._threads = threads
        self._transfers = transfers
        self._limit = limit
        self._now = now
        self._turns = Turns()

    async def put(self, request: Request, path: Names) -> Response:
        """Write a file, whole or a part of it."""
        part = PartParameters.of(request)
        refuse_partial(request)
        conditions = Conditions.of(request.headers)
        length = content_length(request)
        begun = 0 if part is None else part.offset
        if self._limit is not None and begun + (length or 0) > self._limit:
            raise too_large(self._limit)
        self._access.approve(path, Kind.FILE)
        if part is not None:
            return await self._put_part(request, path, part, conditions)
        digest = expected_digest(request.header("content-digest"))
        beginning = self._threads.start(self._access.thd_begin, path, conditions)
        pending = await self._threads.acquire(_discard, beginning)
        upload = self.receiving(pending, path, request, conditions, digest)
        return self._written(*await upload.receive(request.body))

    def receiving(
        self,
        pending: PendingFile,
        path: Names,
        request: Request,
        conditions: Conditions,
        digest: ExpectedDigest | None,
    ) -> Upload:
        """What takes a whole body into a pending file."""
        return Upload(
            self._threads,
            self._transfers,
            pending,
            path,
            content_length(request),
            self._limit,
            digest,
            _approving(path, conditions),
        )

    async def size(self, request: Request, path: Names) -> Response:
        """How much of an upload has arrived."""
        key = key_of(request.caller, upload_of(request))
        size = await self._threads.run(self._access.thd_kept_size, path, key)
        return _with_offset(encoded_response(request, msgspec.json.encode({"offset": size})), size)

    async def drop(self, request: Request, path: Names) -> Response:
        """Give an upload up; a call that is at it is ended."""
        key = key_of(request.caller, upload_of(request))

        async def work() -> Response:
            await self._threads.run(self._access.thd_drop_kept, path, key)
            return Response(204)

        return await self._turns.take((key, path), work)

    async def _put_part(
        self, request: Request, path: Names, part: PartParameters, conditions: Conditions
    ) -> Response:
        whole = expected_digest(request.header("repr-digest") or request.header("content-digest"))
        if whole is not None and not part.complete:
            raise Problem(
                "bad_request",
                "a digest is that of the whole file and comes with its last part",
                hint="Send Content-Digest with the call that completes the upload.",
                extra={"field": "content-digest"},
            )
        key = key_of(request.caller, part.upload)

        async def work() -> Response:
            resuming = self._threads.start(
                self._access.thd_resume, path, key, part.offset, conditions
            )
            kept = await self._threads.acquire(_keep, resuming)
            receiving = LastPart if part.complete else Part
            taken = receiving(
                self._threads,
                self._transfers,
                kept,
                path,
                content_length(request),
                self._limit,
                None,
                _approving(path, conditions),
                part.offset,
            )
            if isinstance(taken, LastPart):
                taken.whole = whole
                return self._written(*await taken.receive(request.body))
            size = await taken.receive(request.body)
            body = msgspec.json.encode({"offset": size})
            return _with_offset(encoded_response(request, body), size, status=202)

        return await self._turns.take((key, path), work)

    def _written(self, facts: Facts, new: bool) -> Response:
        fields = validator_fields(facts.validators, self._now())
        return Response(201, (*fields, ("content-length", "0"))) if new else Response(204, fields)


def _approving(path: Names, conditions: Conditions) -> Callable[[Facts | None], None]:
    def approve(existing: Facts | None) -> None:
        check_unchanged(path, conditions, existing)

    return approve


def _with_offset(response: Response, size: int, status: int = 200) -> Response:
    headers: Headers = (*response.headers, ("upload-offset", str(size)))
    return Response(status, headers, response.body)


def _discard(pending: PendingFile) -> None:
    pending.discard()


def _keep(kept: KeptFile) -> None:
    kept.keep()
