"""The groups that exist, in memory, so that no call waits for the store."""

from __future__ import annotations

from ..storage.interface import Store


class Directory:
    """:meth:`refresh` after every change of a group."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Take over what the store holds."""
        groups = await self._store.read(lambda transaction: transaction.groups())
        self._groups = frozenset(group.name for group in groups)

    @property
    def groups(self) -> frozenset[str]:
        """The names."""
        return self._groups

    def has_group(self, name: str) -> bool:
        """Whether there is one of that name."""
        return name in self._groups
