"""An agent that is killed at any moment leaves the old file or the new one, and no third."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.agent.test_files_jail import LocalCase, agreed
from tests.agent.test_files_service import ServiceCase
from workato_agent.requests import BodyLost
from workato_agent.services.files.filesystem import OffsetBeyond

SIZE = 300_000
KILLS = 5

REPLACER = """
import sys
from pathlib import Path
from workato_agent.services.files.posix import LocalFilesystem
filesystem = LocalFilesystem(Path(sys.argv[1]))
agreed = lambda *_: None
print("writing", flush=True)
while True:
    for letter in (b"a", b"b"):
        pending = filesystem.begin_file((b"replaced",))
        for _ in range(3):
            pending.write([letter * 100_000])
        pending.commit(agreed)
        kept = filesystem.resume_file((b"resumed",), b"key", 0)
        for part in range(1, 4):
            kept.write([letter * 100_000])
            kept.keep()
            kept = filesystem.resume_file((b"resumed",), b"key", part * 100_000)
        kept.commit(agreed)
        filesystem.move((b"replaced",), (b"moved",), agreed)
"""


class KilledTests(LocalCase):
    def test_an_agent_killed_while_it_writes_leaves_no_mix(self) -> None:
        moments = random.Random(11)
        for _ in range(KILLS):
            writer = subprocess.Popen(
                [sys.executable, "-c", REPLACER, str(self.base)], stdout=subprocess.PIPE
            )
            assert writer.stdout is not None
            with writer.stdout:
                self.assertEqual(writer.stdout.readline(), b"writing\n")
                time.sleep(moments.uniform(0.02, 0.2))
                writer.send_signal(signal.SIGKILL)
                writer.wait()
            for name in ("replaced", "resumed", "moved"):
                self.whole(self.base / name)
            self.assertTrue(self.filesystem.remove_leftovers(60))
            self.go_on()
            names = {place.name for place in self.base.iterdir()}
            self.assertLessEqual(names, {"replaced", "resumed", "moved"})

    def whole(self, place: Path) -> None:
        if place.exists():
            content = place.read_bytes()
            self.assertIn(content, (b"a" * SIZE, b"b" * SIZE), (place, len(content)))

    def go_on(self) -> None:
        """Complete the upload that was cut, and see that it is of one piece."""
        try:
            size = self.filesystem.kept_size((b"resumed",), b"key")
            kept = self.filesystem.resume_file((b"resumed",), b"key", size)
        except (FileNotFoundError, OffsetBeyond):
            return
        try:
            letter = kept.read(0, 1) or b"a"
            kept.write([letter * (SIZE - size)])
            kept.commit(agreed)
        finally:
            kept.keep()
        self.whole(self.base / "resumed")


class CutTests(ServiceCase):
    def test_a_body_cut_at_any_byte_changes_nothing(self) -> None:
        new = b"the new content"
        for old in (None, b"old"):
            for cut in range(len(new)):
                if old is not None:
                    self.file("f", old)
                self.assertRaises(BodyLost, self.put, "content/f", new[:cut], lost=True)
                if old is None:
                    self.problem("not_found", self.get, "content/f")
                else:
                    self.assertEqual(self.content("f"), old)
                length = (("content-length", str(len(new))),)
                self.problem("bad_request", self.put, "content/f", new[:cut], headers=length)
