"""The Debian packages of this checkout, and a Debian to install them in; each made once a run."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Final, TypeVar

from attrs import frozen

ROOT: Final = Path(__file__).parents[2]
MIRROR: Final = "http://deb.debian.org/debian"
SUITE: Final = "bookworm"
NAMES: Final = ("workato-agent", "workato-gateway")
PREVIOUS: Final = "0.0.9"


class PackagingError(Exception):
    """Building or installing failed; says which command, and shows the end of its output."""


T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Makes it for whoever is first; all others get the same, or the same error."""

    @cache
    def outcome() -> tuple[T | None, Exception | None]:
        try:
            return make(), None
        except Exception as error:  # noqa: BLE001 - raised again, for each who asks
            return None, error

    @wraps(make)
    def made() -> T:
        result, error = outcome()
        if error is not None:
            raise error.with_traceback(None)
        return result  # type: ignore[return-value]

    return made


def run(*argv: str | Path, seconds: float = 300, cwd: Path | None = None) -> str:
    """What a command prints. Raises PackagingError."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except FileNotFoundError as error:
        raise PackagingError(f"{argv[0]} is missing (.ci/packages.sh test)") from error
    except subprocess.TimeoutExpired as error:
        raise PackagingError(f"{_shown(argv)}: no end after {seconds:.0f} s") from error
    if done.returncode:
        raise PackagingError(f"{_shown(argv)}: exit code {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def _shown(argv: Sequence[str | Path]) -> str:
    return " ".join(str(word) for word in argv)


def require_root() -> None:
    """Raises PackagingError for anybody else: only root makes machines."""
    if os.geteuid() != 0:
        raise PackagingError(
            "these tests make a Debian, boot it and install packages in it: run them as root"
        )


@cache
def workplace() -> Path:
    """A folder for all of it, which goes when the run ends."""
    folder = Path(tempfile.mkdtemp(prefix="onprem-deb-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder)
    return folder


@frozen
class Build:
    """Both packages in a folder; ``seconds`` is what building them took."""

    folder: Path
    seconds: float = 0.0

    def file(self, name: str) -> Path:
        """The file of one package."""
        (found,) = self.folder.glob(f"{name}_*.deb")
        return found

    @property
    def version(self) -> str:
        """The packages' version."""
        return run("dpkg-deb", "--field", self.file("workato-agent"), "Version").strip()


@once
def built() -> Build:
    """The packages of this checkout, built as ``make deb`` builds them.

    The Debian for them is fetched meanwhile: the one waits for a processor, the other for the net.
    """
    debian = _fetching() if os.geteuid() == 0 else None
    began = time.monotonic()
    folder = workplace() / "built"
    run("env", f"PYTHON={sys.executable}", ROOT / ".ci/deb.sh", folder, seconds=600)
    build = Build(folder, time.monotonic() - began)
    if debian is not None:
        output, _ = debian.communicate(timeout=300)
        if debian.returncode:
            raise PackagingError(f"mmdebstrap: exit code {debian.returncode}\n{output[-4000:]}")
    return build


def _fetching() -> subprocess.Popen[str]:
    debian = workplace() / "debian"
    argv = ["mmdebstrap", "--variant=minbase", "--include=systemd,systemd-sysv,ca-certificates"]
    # The lists of packages stay, as on any machine on which somebody has run apt-get update.
    argv += ["--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io", SUITE, str(debian), MIRROR]
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise PackagingError("mmdebstrap is missing (.ci/packages.sh test)") from error


@once
def previous() -> Build:
    """The packages of an older version: the same ones, but for the version that they say they are,
    and for a module that the present ones no longer have.
    """
    present, folder = built(), workplace() / "previous"
    folder.mkdir()
    for name in NAMES:
        tree = folder / name
        run("dpkg-deb", "--raw-extract", present.file(name), tree)
        control = tree / "DEBIAN/control"
        text = control.read_text(encoding="utf-8").replace(present.version, PREVIOUS)
        control.write_text(text, encoding="utf-8")
        for packages in tree.glob("opt/*/lib/python3*/site-packages"):
            (packages / "workato_agent/gone.py").write_text('"""Was here."""\n', encoding="utf-8")
            for metadata in packages.glob("workato_agent-*.dist-info/METADATA"):
                text = metadata.read_text(encoding="utf-8")
                text = re.sub(r"(?m)^Version: .*$", f"Version: {PREVIOUS}", text, count=1)
                metadata.write_text(text, encoding="utf-8")
        target = folder / f"{name}_{PREVIOUS}_all.deb"
        run("dpkg-deb", "-Znone", "--build", tree, target)
        shutil.rmtree(tree)
    return Build(folder)


@once
def debian() -> Path:
    """A fresh Debian 12 with what the packages depend on in apt's cache: no machine that is made
    of it needs the net.
    """
    require_root()
    build, root = built(), workplace() / "debian"
    for name in NAMES:
        shutil.copy(build.file(name), root / "root")
    try:
        run(
            *("chroot", str(root), "apt-get", "install", "--yes", "--download-only", "curl"),
            *(f"/root/{build.file(name).name}" for name in NAMES),
        )
    finally:
        for name in NAMES:
            (root / "root" / build.file(name).name).unlink()
    return root
