"""An ldap service on a real directory, called as the dispatcher does."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase

from tests.support.database import read, request
from tests.support.database_service import Answered
from tests.support.folders import folder_for
from tests.support.slapd import READER, READER_PASSWORD, ROOT, ROOT_PASSWORD, SUFFIX, Slapd
from workato_agent.config import parse_config
from workato_agent.config.ldap import LdapProfile
from workato_agent.services.ldap.service import LdapService
from workato_agent.serving_ldap import ldap_service
from workato_tunnel.problems import Problem

NDJSON = "application/x-ndjson"


class LdapCase(TestCase):
    timeout = 60
    server: Slapd

    def profile(self, **keys: Any) -> dict[str, Any]:
        """A profile of the administrator's; None takes a key out."""
        known = {
            "url": self.server.url,
            "username": ROOT,
            "password": ROOT_PASSWORD,
            "base": SUFFIX,
            **keys,
        }
        return {key: value for key, value in known.items() if value is not None}

    def reader(self, **keys: Any) -> dict[str, Any]:
        """A profile of one who may only read."""
        return self.profile(username=READER, password=READER_PASSWORD, **keys)

    def serve(self, profile: dict[str, Any]) -> LdapService:
        """The service of a profile, by way of its config."""
        text = json.dumps({"ldap": {"test": profile}})
        config = parse_config(text, folder_for(self) / "config.yml", {})
        service = ldap_service(reactor, "test", config.of(LdapProfile)["test"])
        assert isinstance(service, LdapService)
        self.addCleanup(lambda: ensureDeferred(service.close()))
        return service

    async def call(
        self,
        service: LdapService,
        path: str,
        body: object = None,
        *,
        accept: str | None = None,
        seconds: float = 30,
    ) -> Answered:
        """POST, or GET without a path; the whole answer."""
        deadline = reactor.seconds() + seconds  # type: ignore[attr-defined]
        method = "POST" if path else "GET"
        sent = evolve(request(method, path, body, accept=accept, deadline=deadline), service="ldap")
        response = await service.handle(sent)
        data = await read(response)
        if not isinstance(response.body, bytes):
            await response.body.aclose()  # type: ignore[attr-defined]
        return Answered(response.status, dict(response.headers), data, sent.usage.rows)

    async def refused(
        self, service: LdapService, path: str, body: object = None, **more: Any
    ) -> Problem:
        try:
            answered = await self.call(service, path, body, **more)
        except Problem as problem:
            return problem
        raise AssertionError(f"it was answered: {answered}")

    async def entries(self, service: LdapService, **body: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.call(service, "search", body)).json["entries"]
        return found
