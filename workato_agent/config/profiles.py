"""What a profile of every service has in common."""

from __future__ import annotations

from typing import ClassVar

from .fields import Model
from .policies import Policy


class ProfileConfig(Model):
    """A named entry of a section: what stands behind it and what the customer allows of it.

    A new service is a subclass and its line in :data:`workato_agent.config.sections.PROFILES`.
    """

    service: ClassVar[str]
    """The service's name in the API."""
    options: ClassVar[type[Model] | None] = None
    """Keys of the section itself, which are the defaults of its profiles."""

    policy: Policy = Policy()

    @classmethod
    def variant(cls, data: dict[str, object]) -> tuple[type[ProfileConfig], dict[str, object]]:
        """The model for one profile, where a section has several, and the data for it.

        Raises PydanticCustomError (:func:`~workato_agent.config.fields.refuse`).
        """
        return cls, data

    @classmethod
    def variants(cls) -> tuple[type[ProfileConfig], ...]:
        """The models that :meth:`variant` chooses from, for the JSON Schema."""
        return (cls,)

    def remarks(self) -> tuple[str, ...]:
        """What the operator should know of this profile although it is valid."""
        return ()
