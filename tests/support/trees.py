"""A small tree of files on each file system, for the contract suites."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.files import open_descriptors
from workato_agent.services.files.confinement import Names
from workato_agent.services.files.filesystem import Filesystem, Kind
from workato_agent.services.files.memory import InMemoryFilesystem
from workato_agent.services.files.posix import LocalFilesystem


class Refused(Exception):
    """What an ``approve`` of these tests raises."""


def n(path: str) -> Names:
    """The names of a path as text."""
    return tuple(part.encode() for part in path.split("/")) if path else ()


def agreed(*_: object) -> None:
    """An ``approve`` that has nothing against it."""


def refuse(*_: object) -> None:
    """An ``approve`` that refuses."""
    raise Refused


class Tree:
    """A file system and how something is put into it from outside."""

    filesystem: Filesystem
    base: bytes

    def make(self, path: str, kind: Kind, value: bytes = b"") -> None:
        """Put it there, with the folders above it."""
        raise NotImplementedError

    def file(self, path: str, content: bytes = b"content") -> None:
        """Put a file there."""
        self.make(path, Kind.FILE, content)

    def folder(self, path: str) -> None:
        """Put an empty folder there."""
        self.make(path, Kind.FOLDER)

    def link(self, path: str, target: bytes) -> None:
        """Put a link there."""
        self.make(path, Kind.LINK, target)

    def content(self, path: str) -> bytes:
        """What is in a file."""
        file = self.filesystem.open_file(n(path))
        try:
            return file.read(0, file.found.facts.size)
        finally:
            file.close()


class InMemoryTree(Tree):
    """The verified fake."""

    def setUp(self) -> None:
        memory = InMemoryFilesystem()
        self.filesystem = self.memory = memory
        self.base = memory.base

    def make(self, path: str, kind: Kind, value: bytes = b"") -> None:
        *above, _ = n(path)
        for depth in range(1, len(above) + 1):
            try:
                self.memory.stat(tuple(above[:depth]))
            except FileNotFoundError:
                self.memory.add(tuple(above[:depth]), Kind.FOLDER)
        self.memory.add(n(path), kind, value)


class LocalTree(Tree):
    """The real thing, in a temporary folder."""

    addCleanup: Callable[..., Any]
    assertEqual: Callable[..., None]  # noqa: N815

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "base"
        self.root.mkdir()
        self.base = os.fsencode(self.root)
        self.filesystem = LocalFilesystem(self.root)
        before = open_descriptors()
        self.addCleanup(lambda: self.assertEqual(open_descriptors(), before))

    def make(self, path: str, kind: Kind, value: bytes = b"") -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind is Kind.FILE:
            place.write_bytes(value)
        elif kind is Kind.FOLDER:
            place.mkdir()
        elif kind is Kind.LINK:
            place.symlink_to(os.fsdecode(value))
        elif kind is Kind.SPECIAL:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(place))
