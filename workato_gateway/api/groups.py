"""``/v1/groups``: groups of interchangeable agents."""

from __future__ import annotations

import time

import msgspec

from workato_tunnel.problems import Problem

from ..addresses import parse_network
from ..storage.interface import Group, NameTakenError, Store, Transaction
from .documents import NAME, Changed, Now, audit, bad_field, flag, moment, read_body
from .messages import AdminRequest, AdminResponse

MAX_NETWORKS = 1000


class NewGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/groups``."""

    name: str
    allowed_networks: list[str] = []


class GroupChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v1/groups/{group}``."""

    allowed_networks: list[str]


def _networks(texts: list[str]) -> tuple[str, ...]:
    if len(texts) > MAX_NETWORKS:
        raise bad_field("allowed_networks", f"has more than {MAX_NETWORKS} entries")
    try:
        return tuple(str(parse_network(text)) for text in texts)
    except ValueError as error:
        raise bad_field("allowed_networks", str(error)) from error


def existing_group(transaction: Transaction, name: str) -> Group:
    """The group. Raises Problem ``group_not_found``."""
    group = transaction.group(name)
    if group is None:
        raise Problem(
            "group_not_found",
            f"there is no group {name!r}",
            hint="workato-gateway group list shows those that there are",
        )
    return group


def _document(group: Group, agents: int) -> dict[str, object]:
    return {
        "name": group.name,
        "allowed_networks": group.allowed_networks,
        "created": moment(group.created),
        "agents": agents,
    }


class Groups:
    """The resource."""

    def __init__(self, store: Store, changed: Changed, now: Now = time.time) -> None:
        self._store = store
        self._changed = changed
        self._now = now

    async def list(self, request: AdminRequest) -> AdminResponse:
        """All groups by name, with the number of their agents."""

        def thd_list(transaction: Transaction) -> list[dict[str, object]]:
            counts: dict[str, int] = {}
            for agent in transaction.agents():
                counts[agent.group] = counts.get(agent.group, 0) + 1
            return [_document(each, counts.get(each.name, 0)) for each in transaction.groups()]

        return AdminResponse(200, {"groups": await self._store.read(thd_list)})

    async def create(self, request: AdminRequest) -> AdminResponse:
        """A new one. Problem ``conflict`` when the name is taken."""
        wanted = read_body(request, NewGroup)
        if not NAME.fullmatch(wanted.name):
            raise bad_field(
                "name", f"{wanted.name!r} is no group name", "1 to 64 letters, digits, _ and -"
            )
        group = Group(wanted.name, _networks(wanted.allowed_networks), self._now())

        def thd_create(transaction: Transaction) -> None:
            transaction.add_group(group)
            detail = {"allowed_networks": group.allowed_networks}
            audit(transaction, request, "group.create", group.name, detail, self._now)

        try:
            await self._store.write(thd_create)
        except NameTakenError as error:
            raise Problem("conflict", f"there is a group {group.name!r} already") from error
        await self._changed()
        return AdminResponse(201, _document(group, 0), (("location", f"/v1/groups/{group.name}"),))

    async def read(self, request: AdminRequest) -> AdminResponse:
        """One group."""
        name = request.path[1]

        def thd_read(transaction: Transaction) -> dict[str, object]:
            group = existing_group(transaction, name)
            return _document(group, len(transaction.agents(name)))

        return AdminResponse(200, await self._store.read(thd_read))

    async def change(self, request: AdminRequest) -> AdminResponse:
        """Another list of networks; sessions from elsewhere are cut at once."""
        name = request.path[1]
        networks = _networks(read_body(request, GroupChange).allowed_networks)

        def thd_change(transaction: Transaction) -> dict[str, object]:
            existing_group(transaction, name)
            transaction.set_allowed_networks(name, networks)
            detail = {"allowed_networks": networks}
            audit(transaction, request, "group.change", name, detail, self._now)
            return _document(existing_group(transaction, name), len(transaction.agents(name)))

        document = await self._store.write(thd_change)
        await self._changed()
        return AdminResponse(200, document)

    async def delete(self, request: AdminRequest) -> AdminResponse:
        """An empty group goes; with ``?force=true`` its agents are revoked before."""
        name, force = request.path[1], flag(request, "force")

        def thd_delete(transaction: Transaction) -> None:
            existing_group(transaction, name)
            agents = transaction.agents(name)
            if agents and not force:
                raise Problem(
                    "conflict",
                    f"the group {name!r} has {len(agents)} agents",
                    hint="revoke them first, or delete the group with force",
                )
            for agent in agents:
                transaction.revoke_agent(agent.id, self._now())
            transaction.delete_group(name)
            detail = {"revoked": [agent.name for agent in agents]}
            audit(transaction, request, "group.delete", name, detail, self._now)

        await self._store.write(thd_delete)
        await self._changed()
        return AdminResponse(204)
