"""Disks that are full or mounted read-only, and folders of many files: the real ones."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.agent.test_files_jail import LocalCase
from tests.support.small_disk import outcomes_on
from workato_agent.services.files.confinement import Names
from workato_agent.services.files.listing import Listing, Query
from workato_agent.services.files.patterns import compile_pattern

MANY = 20_000


class SmallDiskTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_a_full_disk_is_insufficient_storage_and_changes_nothing(self) -> None:
        told = outcomes_on("full", self.folder)
        for operation in (
            *("kept", "put", "replace", "part", "append", "append new", "csv", "copy"),
            *("put without inodes", "folder without inodes"),
        ):
            self.assertEqual(told[operation], ["insufficient_storage", "ENOSPC", True], operation)
        # What needs no room goes on.
        self.assertEqual(told["given up"], [204, None, True])
        self.assertEqual(told["move"], [200, None, False])
        self.assertEqual(told["delete tree"], [204, None, False])
        self.assertEqual(told["test"][0], 200)

    def test_a_read_only_mount_denies_every_change(self) -> None:
        told = outcomes_on("readonly", self.folder)
        self.assertEqual(told.pop("test")[0], 200)
        self.assertEqual(len(told), 11)
        for operation, outcome in told.items():
            self.assertEqual(outcome, ["target_permission_denied", "EROFS", True], operation)


class LargeFolderTests(LocalCase):
    def setUp(self) -> None:
        super().setUp()
        folder = os.open(self.base, os.O_RDONLY)
        for number in range(MANY):
            name = f"{number * 7919 % MANY:06}.{'csv' if number % 2 else 'txt'}"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)

    def query(self, after: bytes | None, limit: int, pattern: str = "*") -> Query:
        compiled = compile_pattern(pattern)

        def visible(names: Names, _kind: object) -> bool:
            return compiled.matches(names)

        return Query((), limit, False, visible, lambda _: True, lambda _: None, after)

    def test_its_pages_hold_every_name_once_in_order_and_little_memory(self) -> None:
        expected = sorted(os.fsencode(place.name) for place in self.base.iterdir())
        found: list[bytes] = []
        after: bytes | None = None
        tracemalloc.start()
        try:
            while not found or after is not None:
                page = Listing(self.filesystem, self.query(after, 2000)).page()
                found += [names[0] for names, _ in page.entries]
                after = page.cursor
                del page
                # A page and its candidates, and the names found so far: no whole folder of entries.
                self.assertLess(tracemalloc.get_traced_memory()[1], 6_000_000)
        finally:
            tracemalloc.stop()
        self.assertEqual(found, expected)

    def test_a_pattern_that_few_names_match_is_one_page(self) -> None:
        page = Listing(self.filesystem, self.query(None, 1000, "00?00*.*")).page()
        names = sorted(place.name for place in self.base.glob("00?00*.*"))
        self.assertEqual([entry[0][0].decode() for entry in page.entries], names)
        self.assertIsNone(page.cursor)
