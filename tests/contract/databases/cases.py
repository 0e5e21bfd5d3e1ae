"""Makes one adapter's test cases of the contract."""

from __future__ import annotations

import sys
from typing import Final

from twisted.trial.unittest import TestCase

from . import bulk, cancellation, errors, pools, sessions, statements, streaming, values
from .contract import DatabaseContract
from .subject import Subject

_GROUPS: Final = (bulk, cancellation, errors, pools, sessions, statements, streaming, values)


def contract(subject: type[Subject]) -> dict[str, type[TestCase]]:
    """Every group of tests for one adapter, by the name of its class."""
    module = sys._getframe(1).f_globals["__name__"]
    cases = {}
    for group in _GROUPS:
        for base in vars(group).values():
            if not isinstance(base, type) or base.__module__ != group.__name__:
                continue
            if issubclass(base, DatabaseContract):
                name = f"{subject.__name__}{base.__name__}"
                members = {
                    key: value
                    for key, value in vars(base).items()
                    if key not in subject.exempt and key not in ("__dict__", "__weakref__")
                }
                members |= {"__module__": module, "subject_type": subject}
                cases[name] = type(name, base.__bases__, members)
    return cases
