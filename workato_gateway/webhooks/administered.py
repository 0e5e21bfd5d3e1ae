"""What administrators and enrolling agents did, read from the audit: whoever did it, in this
process or on the command line, it is entered there in the transaction that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ..storage.interface import AuditEntry, Store
from .events import Event, EventType

AT_ONCE: Final = 1000
_TYPES: Final[dict[str, EventType]] = {
    "agent.disable": "agent.disabled",
    "agent.enable": "agent.enabled",
    "agent.enrol": "agent.enrolled",
    "agent.revoke": "agent.revoked",
}


class Administered:
    """Tells of audit entries that are newer than the start."""

    def __init__(self, store: Store, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._tell = tell
        self._point = 0

    async def begin(self) -> None:
        """What is there already is no news. Raises StoreError."""
        newest = await self._store.read(lambda rows: rows.audit(limit=1))
        self._point = newest[0].seq if newest else 0

    async def look(self) -> None:
        """Tell what is new. Raises StoreError."""
        point = self._point
        entries = await self._store.read(lambda rows: rows.audit_after(point, limit=AT_ONCE))
        for entry in entries:
            self._point = entry.seq
            for event in _events(entry):
                self._tell(event)


def _events(entry: AuditEntry) -> Iterator[Event]:
    by = {"by": entry.actor, "address": entry.address or None}
    if entry.action in _TYPES:
        group, _, name = entry.subject.partition("/")
        data = {"group": group, "agent": name, **by}
        if "serial" in entry.detail:
            data["certificate_serial"] = str(entry.detail["serial"])
        yield Event(_TYPES[entry.action], entry.at, data)
    elif entry.action == "group.delete":
        revoked = entry.detail.get("revoked")
        for name in revoked if isinstance(revoked, list) else ():
            data = {"group": entry.subject, "agent": str(name), **by}
            yield Event("agent.revoked", entry.at, data)
