"""What a file system's failures are to the caller."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

from .confinement import Names, shown
from .filesystem import BaseUnavailable, LeavesBase, NotRegular, OffsetBeyond, TooManyKept


@frozen
class _Row:
    code: str
    hint: str
    retry_after: int | None = None


_NOT_FOUND: Final = _Row(
    "not_found", "List the folder to see what is there; names are case-sensitive."
)
_DENIED: Final = _Row(
    "target_permission_denied",
    "Give the user that the agent runs as the rights it needs there, also on every folder above.",
)
_FULL: Final = _Row(
    "insufficient_storage",
    "Free space, or raise the quota, where the profile's base lies; then retry.",
)
_BROKEN: Final = _Row(
    "target_unreachable",
    "Check the disk, mount or file server below the profile's base, and the system's log.",
)
_BUSY: Final = _Row("conflict", "Another program uses it; try again when it is done.")
_EXHAUSTED: Final = _Row("overloaded", "The agent's machine is short of resources; retry.", 1)
_BAD_NAME: Final = _Row("bad_request", "The file system there takes no such name: use another.")

_ROWS: Final[dict[int, _Row]] = {
    errno.ENOENT: _NOT_FOUND,
    errno.ENOTDIR: _Row("not_found", "A part of the path is a file where a folder is needed."),
    errno.EISDIR: _Row("conflict", "It is a folder: list it, or name a file in it."),
    errno.ENOTEMPTY: _Row("conflict", "Remove what is in the folder first."),
    errno.EEXIST: _Row("conflict", "Something of that name is there already."),
    errno.EXDEV: _Row(
        "conflict", "It would go to another file system mounted below the base: copy, then delete."
    ),
    errno.ELOOP: _Row("conflict", "Symbolic links lead in a circle, or through too many others."),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _Row("target_permission_denied", "It is mounted read-only."),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _Row("payload_too_large", "The file system there takes no file of that size."),
    errno.ENAMETOOLONG: _Row(
        "bad_request", "Most systems take 255 bytes for a name: use a shorter one."
    ),
    errno.EILSEQ: _BAD_NAME,
    errno.EINVAL: _BAD_NAME,
    errno.EBUSY: _BUSY,
    errno.ETXTBSY: _BUSY,
    errno.EMFILE: _EXHAUSTED,
    errno.ENFILE: _EXHAUSTED,
    errno.ENOMEM: _EXHAUSTED,
    errno.EAGAIN: _EXHAUSTED,
}


def problem_of(error: OSError, path: Names, doing: str) -> Problem:
    """The problem for what the system refused.

    :param doing: what was being done, as in "reading"; goes before the path.
    """
    number = error.errno or 0
    row = _ROWS.get(number, _BROKEN)
    name = errno.errorcode.get(number, str(number))
    words = error.strerror or os.strerror(number)
    return Problem(
        row.code,
        f"{doing} {shown(path)}: {words} ({name})",
        hint=row.hint,
        retry_after=row.retry_after,
        extra={"errno": name},
    )


def base_problem(unavailable: BaseUnavailable, base: str) -> Problem:
    """The problem of a base folder that can't be opened."""
    error = unavailable.error
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    code = {
        errno.ENOENT: "target_not_found",
        errno.ENOTDIR: "target_wrong_type",
        errno.EACCES: "target_permission_denied",
        errno.EPERM: "target_permission_denied",
    }.get(error.errno or 0, "target_unreachable")
    return Problem(
        code,
        f"the base folder {base!r}: {error.strerror} ({name})",
        hint="Check 'base' of the profile, that it exists, is a folder and mounted, "
        "and that the user the agent runs as may enter it.",
        extra={"errno": name},
    )


def policy_problem(rule: str, detail: str) -> Problem:
    """A refusal by the profile's policy, naming its rule."""
    return Problem(
        "policy_denied",
        detail,
        hint=f"The agent's configuration sets '{rule}' for this profile; its owner can change it.",
        extra={"rule": rule},
    )


@contextmanager
def problems_at(path: Names, doing: str, base: str) -> Iterator[None]:
    """Turn the failures of a file system into problems that name the path."""
    try:
        yield
    except BaseUnavailable as error:
        raise base_problem(error, base) from error
    except LeavesBase as error:
        raise policy_problem(
            "base", f"{doing} {shown(path)}: a symbolic link leads out of the profile's base"
        ) from error
    except NotRegular as error:
        raise Problem(
            "conflict",
            f"{doing} {shown(path)}: it is no regular file but a FIFO, a socket or a device",
            hint="Only files and folders are served.",
        ) from error
    except OffsetBeyond as error:
        raise Problem(
            "conflict",
            f"{doing} {shown(path)}: {error.size} bytes of this upload have arrived",
            hint="Go on at 'offset', or begin anew with offset=0.",
            extra={"offset": error.size},
        ) from error
    except TooManyKept as error:
        raise Problem(
            "overloaded",
            f"{doing} {shown(path)}: too many uploads of this profile are unfinished",
            hint="Finish or DELETE uploads/{path} those that are given up; "
            "the rest is removed a day after the last byte.",
            retry_after=60,
        ) from error
    except OSError as error:
        raise problem_of(error, path, doing) from error
