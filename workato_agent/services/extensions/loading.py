"""From what the config names to the class of an extension."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Final

from workato_agent.extension import Extension

GROUP: Final = "workato_agent.extensions"


class LoadError(Exception):
    """There is no such extension. ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def load(controller: str) -> Callable[[Mapping[str, object]], Extension]:
    """The class: ``package.module.Class``, or the name of an entry point. Raises LoadError.

    What importing prints or raises goes to stderr, which is the agent's log.
    """
    module, dot, name = controller.replace(":", ".").rpartition(".")
    if not dot:
        found = entry_points(group=GROUP, name=controller)
        if not found:
            raise LoadError(
                f"no installed package has an extension named {controller}",
                f"install the package that offers it (entry point group {GROUP}), or give"
                " controllerClass as package.module.Class",
            )
        module, _, name = next(iter(found)).value.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise _not_importable(module, error) from None
        raise LoadError(
            f"there is no Python module {module}",
            "install it in the agent's Python, or name its folder in python_path",
        ) from None
    except BaseException as error:  # noqa: BLE001 - a module may raise anything
        raise _not_importable(module, error) from None
    if not (isinstance(kind, type) and issubclass(kind, Extension)):
        raise LoadError(
            f"{module} has no class {name} that is an Extension",
            "it has to be a subclass of workato_agent.extension.Extension",
        )
    return kind


def _not_importable(module: str, error: BaseException) -> LoadError:
    traceback.print_exception(error)
    words = f"{type(error).__name__}: {error}"[:500]
    return LoadError(f"{module} can't be imported: {words}", "the agent's log has the traceback")
