"""Profiles of the ``files`` section."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from .fields import ConfigPath, refuse
from .policies import FilesPolicy
from .profiles import ProfileConfig


class FilesProfile(ProfileConfig):
    """A folder, the jail of all paths that callers name."""

    service: ClassVar[str] = "files"

    base: ConfigPath
    policy: FilesPolicy = FilesPolicy()

    @field_validator("base", mode="before")
    @classmethod
    def _exists(cls, value: object) -> object:
        """A relative folder may be made later; an absolute one that is missing is a typo."""
        if isinstance(value, str) and Path(value).expanduser().is_absolute():
            try:
                Path(value).expanduser().stat()
            except OSError as error:
                refuse(
                    f"the folder can't be used: {error.strerror}", "create it or correct the path"
                )
            except ValueError:
                refuse("expected a path")
        return value

    @field_validator("base")
    @classmethod
    def _folder(cls, value: Path) -> Path:
        if value.exists() and not value.is_dir():
            refuse("expected a folder, this is a file")
        return value
