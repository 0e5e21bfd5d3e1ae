"""What a profile of every service has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from attrs import frozen

from .fields import Model
from .policies import Policy


@frozen
class Fault:
    """What is wrong with a profile's data before a model has looked at it.

    :ivar key: of the profile, or ``""`` for the profile as a whole.
    :ivar message: must not quote a value that may be secret.
    """

    key: str
    message: str
    hint: str | None = None


@frozen
class Variant:
    """What a profile's data is: the model, the data as that model has it, and what was noticed.

    :ivar model: None where the data doesn't tell; then there is a fault.
    :ivar remarks: what the operator should know although the profile is valid.
    """

    model: type[ProfileConfig] | None
    data: dict[str, object]
    faults: tuple[Fault, ...] = ()
    remarks: tuple[str, ...] = ()


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
    def variant(cls, data: dict[str, object]) -> Variant:
        """The model for one profile, where a section has several, and the data for it."""
        return Variant(cls, data)

    @classmethod
    def variants(cls) -> tuple[type[ProfileConfig], ...]:
        """The models that :meth:`variant` chooses from, for the JSON Schema."""
        return (cls,)

    def remarks(self) -> tuple[str, ...]:
        """What the operator should know of this profile although it is valid."""
        return ()

    def warnings(self, facts: Mapping[str, object]) -> tuple[str, ...]:
        """What the operator should know after a test that went well.

        :param facts: what the service's test found out about the target.
        """
        return ()
