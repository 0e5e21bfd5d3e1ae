"""The ldap service: one profile's directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from attrs import define, field
from ldaptor.protocols import pureber, pureldap
from ldaptor.protocols.pureldap import LDAPPasswordModifyRequest

from workato_tunnel.problems import Problem

from ...config.distinguishednames import Name
from ...requests import Request, Response
from . import failures
from .answers import JSON, negotiate, search_response
from .bodies import (
    AddBody,
    Change,
    CompareBody,
    DeleteBody,
    ModifyBody,
    PasswordBody,
    RenameBody,
    SearchBody,
    body_of,
)
from .directory import Directory, Facts, Query
from .filters import filter_of
from .guard import Guard
from .replies import Result
from .settings import LdapSettings
from .values import attribute, octets, refuse, several, type_of

OPERATIONS: Final = (
    "test", "search", "add", "modify", "delete", "rename", "compare", "password",
)  # fmt: skip
_CHANGES: Final[Mapping[str, int]] = {"add": 0, "delete": 1, "replace": 2, "increment": 3}
"""RFC 4511, 4.6; increment is RFC 4525."""
_ACTIVE_DIRECTORY: Final = "1.2.840.113556.1.4.800"
"""The capability by which Active Directory is known (MS-ADTS, 3.1.1.3.4.3.1)."""
_PASSWORD_MODIFY: Final = LDAPPasswordModifyRequest.oid.decode("ascii")


@define(eq=False)
class LdapService:
    """Serves one profile of the ``ldap`` section (a ``ProfileService``)."""

    type = "ldap"

    _reactor: Any
    _settings: LdapSettings
    _guard: Guard
    operations: tuple[str, ...] = OPERATIONS
    _directory: Directory = field(init=False)
    _actions: Mapping[str, Callable[[Request], Awaitable[Response]]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._directory = Directory(self._reactor, self._settings)
        self._actions = {
            "test": self._test,
            "search": self._search,
            "add": self._add,
            "modify": self._modify,
            "delete": self._delete,
            "rename": self._rename,
            "compare": self._compare,
            "password": self._password,
        }

    @classmethod
    def build(
        cls,
        reactor: Any,
        name: str,
        settings: LdapSettings,
        operations: tuple[str, ...] = OPERATIONS,
    ) -> LdapService:
        """A service. Raises ValueError for certificates that can't be used."""
        guard = Guard(name, settings.base, settings.policy)
        return cls(reactor, settings, guard, operations)

    def operation(self, request: Request) -> str:
        """One of :data:`OPERATIONS`."""
        if request.path == "" and request.method in ("GET", "HEAD"):
            return "test"
        if request.method == "POST" and request.path in OPERATIONS[1:]:
            return request.path
        raise Problem(
            "operation_not_found",
            f"ldap has no {request.method[:20]} {request.path[:100]!r}",
            hint=f"POST {', '.join(OPERATIONS[1:])}; or GET the profile to test it",
        )

    async def handle(self, request: Request) -> Response:
        """Serve a call; see :class:`~workato_agent.services.base.ProfileService`."""
        return await self._actions[self.operation(request)](request)

    async def close(self) -> None:
        """Close the connections."""
        await self._directory.close()

    # -- reading -------------------------------------------------------------------------------

    async def _test(self, request: Request) -> Response:
        facts = await self._directory.facts(request.deadline)
        base = self._settings.base.text
        if base:
            await self._directory.exists(base, request.deadline)
        product = _product(facts)
        return _answer(
            {
                "ok": True,
                "target": f"{product} at {facts.server}",
                "product": product,
                "server": facts.server.url,
                "base": base,
                "tls": facts.tls,
            }
        )

    async def _search(self, request: Request) -> Response:
        writer = negotiate(request)
        body = await body_of(request, SearchBody)
        question = filter_of(body.filter, body.params)
        self._guard.asks(question)
        limits = (body.max_entries, self._guard.policy.max_entries)
        query = Query(
            self._guard.entry(body.base, "base").text,
            body.scope,
            question.node,
            self._guard.selection(body.attributes),
            body.page_size or self._settings.page_size,
            min((each for each in limits if each is not None), default=None),
        )
        binary = frozenset(type_of(attribute(name, "binary")) for name in body.binary)
        search = await self._directory.search(query, request.deadline)
        return await search_response(request, search, writer, self._guard, binary)

    async def _compare(self, request: Request) -> Response:
        body = await body_of(request, CompareBody)
        name = attribute(body.attribute, "attribute")
        self._guard.compares(name)
        assertion = pureldap.LDAPAttributeValueAssertion(
            attributeDesc=pureldap.LDAPAttributeDescription(name),
            assertionValue=pureldap.LDAPAssertionValue(octets(body.value, "value")),
        )
        dn = self._guard.entry(body.dn, "dn").text
        operation = pureldap.LDAPCompareRequest(dn, assertion)
        result = await self._directory.perform(operation, request.deadline, changes=False)
        if result.code not in (failures.COMPARE_TRUE, failures.COMPARE_FALSE):
            raise failures.refused(result, "the comparison")
        request.usage.rows = 1
        return _answer({"dn": dn, "match": result.code == failures.COMPARE_TRUE})

    # -- changing ------------------------------------------------------------------------------

    async def _add(self, request: Request) -> Response:
        body = await body_of(request, AddBody)
        name = self._guard.entry(body.dn, "dn")
        named = [pair.type for part in name.parts[:1] for pair in part.pairs]
        self._guard.writes([*body.attributes, *named])
        attributes = [
            _new_attribute(each, values, f"attributes.{each[:100]}")
            for each, values in body.attributes.items()
        ]
        operation = pureldap.LDAPAddRequest(entry=name.text, attributes=attributes)
        return await self._change(request, operation, name.text)

    async def _modify(self, request: Request) -> Response:
        body = await body_of(request, ModifyBody)
        dn = self._guard.entry(body.dn, "dn").text
        self._guard.writes(change.attribute for change in body.changes)
        changes = [
            _modification(change, f"changes[{index}]") for index, change in enumerate(body.changes)
        ]
        operation = pureldap.LDAPModifyRequest(object=dn, modification=changes)
        return await self._change(request, operation, dn)

    async def _delete(self, request: Request) -> Response:
        body = await body_of(request, DeleteBody)
        dn = self._guard.entry(body.dn, "dn").text
        return await self._change(request, pureldap.LDAPDelRequest(entry=dn), dn)

    async def _rename(self, request: Request) -> Response:
        body = await body_of(request, RenameBody)
        name = self._guard.entry(body.dn, "dn")
        part = self._guard.part(body.new_rdn, "new_rdn")
        old = [pair.type for each in name.parts[:1] for pair in each.pairs]
        self._guard.writes([*old, *(pair.type for pair in part.parts[0].pairs)])
        parent = (
            None if body.new_parent is None else self._guard.entry(body.new_parent, "new_parent")
        )
        operation = pureldap.LDAPModifyDNRequest(
            entry=name.text,
            newrdn=part.text,
            deleteoldrdn=body.delete_old_rdn,
            newSuperior=None if parent is None else parent.text,
        )
        above = parent.parts if parent is not None else name.parts[1:]
        renamed = self._guard.renamed(Name(part.parts + above))
        return await self._change(request, operation, renamed.text)

    async def _password(self, request: Request) -> Response:
        body = await body_of(request, PasswordBody)
        dn = self._guard.entry(body.dn, "dn").text
        facts = await self._directory.facts(request.deadline)
        if _ACTIVE_DIRECTORY in facts.attributes.get("supportedcapabilities", ()):
            # The change may go to another of the servers than the one that was asked here.
            if not self._settings.secured:
                raise Problem(
                    "target_permission_denied",
                    f"{facts.server}: Active Directory takes passwords over TLS only",
                    hint="give all of the profile's url with ldaps://, or startTls: true",
                )
            operation = _unicode_password(dn, body.new, body.old)
        elif _PASSWORD_MODIFY in facts.attributes.get("supportedextension", ()):
            operation = LDAPPasswordModifyRequest(
                userIdentity=dn, oldPasswd=body.old, newPasswd=body.new
            )
        else:
            raise Problem(
                "operation_not_found",
                f"{facts.server} can't change passwords: it has neither RFC 3062 nor unicodePwd",
                hint="modify the attribute that holds the password, as the directory wants it",
            )
        return await self._change(request, operation, dn)

    async def _change(self, request: Request, operation: Any, dn: str) -> Response:
        result = await self._directory.perform(operation, request.deadline, changes=True)
        if result.code != failures.SUCCESS:
            raise self._refused(request, result)
        request.usage.rows = 1
        return _answer({"ok": True, "dn": dn})

    def _refused(self, request: Request, result: Result) -> Problem:
        problem = failures.refused(result, f"the {request.path}")
        if request.path == "password" and result.code == failures.INVALID_CREDENTIALS:
            # The agent itself is logged in.
            return Problem(
                "target_permission_denied",
                problem.detail,
                hint="check the old password",
                extra=problem.extra,
            )
        return problem


def _answer(document: Mapping[str, object]) -> Response:
    return Response(200, (("content-type", JSON),), msgspec.json.encode(document))


def _set_of(values: Iterable[bytes]) -> Any:
    return pureber.BERSet([pureldap.LDAPAttributeValue(value) for value in values])


def _new_attribute(name: str, given: object, where: str) -> Any:
    values = several(given, where)
    if not values:
        raise refuse("expected a value", where)
    return pureldap.LDAPAttributeDescription(attribute(name, where)), _set_of(values)


def _modification(change: Change, where: str) -> Any:
    name = attribute(change.attribute, f"{where}.attribute")
    values = several(change.values, f"{where}.values")
    if not values and change.operation in ("add", "increment"):
        raise refuse("expected a value", f"{where}.values")
    return _one_change(_CHANGES[change.operation], name, values)


def _one_change(operation: int, name: str, values: list[bytes]) -> Any:
    return pureber.BERSequence(
        [
            pureber.BEREnumerated(operation),
            pureber.BERSequence([pureldap.LDAPAttributeDescription(name), _set_of(values)]),
        ]
    )


def _unicode_password(dn: str, new: str, old: str | None) -> Any:
    """Active Directory's way (MS-ADTS, 3.1.1.3.1.5): quoted, in UTF-16."""
    quoted = f'"{new}"'.encode("utf-16-le")
    if old is None:
        changes = [_one_change(_CHANGES["replace"], "unicodePwd", [quoted])]
    else:
        before = f'"{old}"'.encode("utf-16-le")
        changes = [
            _one_change(_CHANGES["delete"], "unicodePwd", [before]),
            _one_change(_CHANGES["add"], "unicodePwd", [quoted]),
        ]
    return pureldap.LDAPModifyRequest(object=dn, modification=changes)


def _product(facts: Facts) -> str:
    """The server's own name and version, as far as it tells."""
    told = facts.attributes
    vendor = told.get("vendorname", [""])[0]
    version = told.get("vendorversion", [""])[0]
    if vendor or version:
        return " ".join(filter(None, (vendor, version)))
    if _ACTIVE_DIRECTORY in told.get("supportedcapabilities", ()):
        return "Active Directory"
    if "OpenLDAProotDSE" in told.get("objectclass", ()):
        return "OpenLDAP"
    return "LDAP directory"
