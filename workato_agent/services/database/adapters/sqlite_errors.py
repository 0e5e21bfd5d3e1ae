"""SQLite's errors as problems."""

from __future__ import annotations

from pathlib import Path

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, SqliteSettings
from .base import read_only_problem


def file_problem(error: Exception, settings: SqliteSettings, policy: DatabasePolicy) -> Problem:
    """The problem that an error of the driver is."""
    name = getattr(error, "sqlite_errorname", None) or ""
    detail = str(error)
    if name.startswith("SQLITE_NOTADB"):
        return Problem(
            "target_wrong_type",
            f"{settings.path} is no SQLite database: {detail}",
            hint="check the profile's database, and whether the file is encrypted",
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM")):
        code = "target_permission_denied" if Path(settings.path).exists() else "target_not_found"
        return Problem(
            code,
            f"{settings.path}: {detail}",
            hint="the agent's user needs the right to read the file and to write its folder",
        )
    if name.startswith("SQLITE_READONLY"):
        if policy.read_only:
            return read_only_problem(detail)
        return Problem("target_permission_denied", detail, hint="check the file's rights")
    hint: str | None = None
    if name.startswith("SQLITE_BUSY"):
        hint = f"another process held the file for {settings.busy_timeout:g} s: try again"
    elif isinstance(error, UnicodeError) or "decode to UTF-8" in detail:
        hint = "the column holds text that is not UTF-8: CAST(… AS BLOB) reads it as bytes"
    extra = {"sqlite_error": name} if name else None
    return Problem("query_failed", detail, hint=hint, extra=extra)
