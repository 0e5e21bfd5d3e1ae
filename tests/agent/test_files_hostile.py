"""Hostile paths over every operation, with a canary folder outside that must stay as it was.

HOSTILE_PATHS can be raised for a longer run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from tests.agent.test_files_jail import SECRET, LocalCase
from tests.support.files import Chunks, DirectReactor, InlineThreadPool, request, start, whole
from workato_agent.requests import BodyLost, Response
from workato_agent.services.files.calls import mark_text
from workato_agent.services.files.service import FilesService
from workato_agent.services.files.settings import FilesSettings
from workato_tunnel.problems import Problem

PATHS = int(os.environ.get("HOSTILE_PATHS", "400"))
CANARY = "the-canary-outside"

AFRESH = 60
"""After so many calls the tree is made anew: they move and remove the links in it."""

SEGMENTS = (
    *("d", "f", "e", "new", "up", "abs", "proc", "fd", "deep", "mixed", "self", "pipe", "canary"),
    *("d", "d", "up", "up", "f", "abs", "abs"),
    *("outside", "base", "etc", "passwd", "root", "..", "..", "..", ".", "", "%2e%2e", ".%2E"),
    *("%2F", "%2f..%2f", "..%2f", "%5c..", "..\\", "..%00", "%00", "%252e%252e", "~", "C:", "f:x"),
    *("\\\\server", "CON", "nul.txt", "%", "%zz", "%c0%ae%c0%ae", "%e0%80%ae", "\ud83d", "\x7f"),
    *("x" * 300, "%ff", "caf%C3%A9", "..;", "....", "*", "?", "-rf", "$HOME", "`id`", "a\nb"),
    *(".onprem-" + "0" * 32 + ".part", ".onprem-" + "a" * 32 + ".upload"),
)
LINKS = {
    "up": "..",
    "fd": "/proc/self/fd",
    "proc": "/proc/self/root",
    "deep": "d/../../outside",
    "mixed": "d/up/up/../../outside",
    "self": "self",
    "d/up": "../..",
    "d/e/up": "../../../outside/f",
}


class HostileTests(LocalCase):
    def setUp(self) -> None:
        super().setUp()
        (self.outside / "d").mkdir()
        (self.outside / "d" / "f").write_bytes(SECRET)
        (self.outside / CANARY).write_bytes(SECRET)
        (self.outside / "link").symlink_to("f")
        self.service = FilesService(
            "hr", FilesSettings(self.base), self.filesystem, DirectReactor(), InlineThreadPool()
        )
        self.random = random.Random(20260302)
        self.told = 0

    def make_tree(self) -> None:
        for place in self.base.iterdir():
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        (self.base / "d" / "e").mkdir(parents=True)
        for name in ("f", "d/f", "d/e/f"):
            (self.base / name).write_bytes(b"inside")
        for name, target in {**LINKS, "abs": str(self.outside), "canary": "abs/f"}.items():
            (self.base / name).symlink_to(target)
        os.mkfifo(self.base / "pipe")

    def snapshot(self) -> list[tuple[object, ...]]:
        """All that lies outside, down to the times: reading a file changes none of these."""
        top = self.base.parent
        places = [place for place in sorted(top.iterdir()) if place.name != "base"]
        places += sorted(self.outside.rglob("*"))
        return [(place, *self.marks(place)) for place in places]

    def marks(self, place: Path) -> tuple[object, ...]:
        status = place.lstat()
        content = place.read_bytes() if place.is_file() and not place.is_symlink() else b""
        changed = (status.st_mtime_ns, status.st_ctime_ns)
        return status.st_ino, status.st_mode, status.st_nlink, *changed, content

    def path(self) -> str:
        return "/".join(self.random.choices(SEGMENTS, k=self.random.randint(1, 6)))

    def calls(self, path: str) -> Iterator[tuple[str, str, str, Any]]:
        """Method, path, query and body of each operation on a path."""
        other = self.path()
        changes = [
            {"from": path, "to": other, "overwrite": True},
            {"from": other, "to": path, "overwrite": True, "encoded": True},
            {"from": "f", "to": path, "overwrite": True, "encoded": True},
        ]
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            yield method, f"content/{path}", "", b"written"
        yield "PUT", f"content/{path}", "offset=0&complete=false", b"part"
        yield "PUT", f"content/{path}", "offset=4", b"rest"
        yield "GET", f"uploads/{path}", "", b""
        yield "DELETE", f"uploads/{path}", "", b""
        yield "DELETE", f"content/{path}", "recursive=true", b""
        yield "POST", f"append/{path}", "", b"appended"
        yield "POST", f"csv/{path}", "", b'{"row": {"inside": "x"}}'
        yield "POST", f"folders/{path}", "", b""
        for change in changes:
            body = json.dumps(change).encode()
            yield "POST", "move", "", body
            yield "POST", "copy", "", body
        yield "GET", f"list/{path}", "recursive=true", b""
        yield "GET", f"stat/{path}", "", b""
        yield "GET", f"watch/{path}", f"recursive=true&since={mark_text((0, b''))}", b""

    def attempt(self, method: str, path: str, query: str, body: bytes) -> None:
        asked = evolve(request(method, path, query, (), Chunks([body])), deadline=5.0)
        call = start(self._read(asked))
        content: list[bytes] = []

        def failed(failure: Any) -> None:
            failure.trap(Problem, BodyLost, CancelledError)

        call.addCallbacks(content.append, failed)
        for answer in content:
            self.told += 1
            self.assertNotIn(SECRET, answer, (method, path))
            self.assertNotIn(CANARY.encode(), answer, (method, path))

    async def _read(self, asked: Any) -> bytes:
        response: Response = await self.service.handle(asked)
        if not asked.path.startswith("watch") or isinstance(response.body, bytes):
            return await whole(response)
        lines: Any = response.body
        taken: bytes = await lines.__anext__()
        following: Deferred[bytes] = start(lines.__anext__())
        if following.called:
            taken += await following
        else:
            following.addErrback(lambda failure: failure.trap(CancelledError))
            following.cancel()
        await lines.aclose()
        return taken

    def test_no_path_leaves_the_base_by_any_operation(self) -> None:
        before = self.snapshot()
        made = 0
        for _ in range(PATHS):
            for call in self.calls(self.path()):
                if made % AFRESH == 0:
                    self.assertEqual(self.snapshot(), before)
                    self.make_tree()
                self.attempt(*call)
                made += 1
        self.assertEqual(self.snapshot(), before)
        self.assertTrue(self.base.is_dir())
        self.assertGreater(self.told, PATHS)
