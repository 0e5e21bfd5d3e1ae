"""What a service is to the rest of the agent."""

from __future__ import annotations

from typing import Protocol

from ..requests import Request, Response


class ProfileService(Protocol):
    """Serves one profile of one config section.

    It is built from the profile's parsed config with all it needs (reactor, thread pools) passed
    in, opens nothing before it is asked, and owns what it opens.
    """

    @property
    def type(self) -> str:
        """What stands behind the profile, for the catalogue: ``postgresql``, ``http`` …."""
        ...

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that this profile offers under its policy, for the catalogue."""
        ...

    def operation(self, request: Request) -> str:
        """The name of the operation that a request asks for (``query``, ``read``, ``test`` …).

        Cheap and pure: decided by method and path alone. Policy and audit speak of it.
        Raises Problem ``operation_not_found`` where there is none.
        """
        ...

    async def handle(self, request: Request) -> Response:
        """Serve a call that the policy has let through.

        Raises Problem for every failure that has a code. Cancelling the awaiting Deferred
        (deadline, caller gone, drain's end) really stops the work and releases what it held.
        """
        ...

    async def close(self) -> None:
        """Release pools and connections. Calls in flight have ended or are cancelled by then."""
        ...
