"""Paths as Windows would take them: pure logic, compared with Python's own of Windows paths."""

from __future__ import annotations

import ntpath
from pathlib import PureWindowsPath
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.files.confinement import Names, kept_name, names_of, temporary_name
from workato_tunnel.problems import Problem

BASE = "C:\\srv\\base"
PIECE = st.sampled_from(
    [
        *("a", "C", "c:", ":", "\\", "..", ".", " ", "~1", "CON", "nul", "Com1", "COM¹", "LPT9"),
        *(
            "$DATA",
            "::$DATA",
            "?",
            "*",
            "<",
            "|",
            '"',
            "\x01",
            "\x7f",
            "é",
            "ß",
            "\u2215",
            "CONIN$",
        ),
        *("server", "share", "%", "\ud83d", ".txt", "prn", "AUX", "\u00a0", "\\\\?\\", "\\\\.\\"),
    ]
)
SEGMENT = st.lists(PIECE, min_size=1, max_size=4).map("".join)
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)


def taken(path: str) -> Names | None:
    """The names of a path on Windows; None where it is refused."""
    try:
        return names_of(path, windows=True)
    except Problem:
        return None


class WindowsNameTests(SynchronousTestCase):
    def refused(self, *paths: str) -> None:
        for path in paths:
            self.assertIsNone(taken(quote(path)), path)
            self.assertIsNone(taken(quote(f"d/{path}")), path)

    def test_drives_and_streams_are_refused(self) -> None:
        self.refused("C:", "C:f", "c:\\f", "f:stream", "f::$DATA", "f:stream:$DATA", ":f", "d:/f")

    def test_unc_and_device_paths_are_refused(self) -> None:
        self.refused(
            *("\\\\server\\share", "//server/share", "\\\\?\\C:\\f", "//?/C:/f", "\\\\.\\NUL"),
            *("\\", "\\f", "..\\f", "f\\..\\..\\x", "/f", "\\??\\C:\\f"),
        )
        self.assertIsNone(taken("%5c%5cserver%5cshare"))

    def test_devices_are_refused_in_any_case_and_with_any_ending(self) -> None:
        self.refused(
            *("CON", "con", "Prn", "AUX", "nul", "NUL.txt", "nul.tar.gz", "NUL .txt", "nul. "),
            *("COM1", "com9.log", "LPT1", "COM0", "COM¹", "lpt³.x", "CONIN$", "conout$", "Clock$"),
        )
        for name in ("CONSOLE", "COM", "COM10", "LPTX", "NULL", "xnul", "a.con", "auxiliary.txt"):
            self.assertEqual(taken(name), (name.encode(),))

    def test_names_that_windows_would_change_are_refused(self) -> None:
        self.refused(
            "f.", "f ", "f. .", "...", " ", "f\t", 'f"', "f<", "f>", "f|", "f?", "f*", "\x1f"
        )
        self.refused("PROGRA~1", "secret~12.key", "A~1.")
        self.assertIsNone(taken("caf%E9"))
        for name in (" f", ".f", "a~b", "report~old", "long-name~1", "a.b.c", "é"):
            self.assertEqual(taken(quote(name)), (name.encode(),))

    def test_uploads_under_way_are_refused_in_any_case(self) -> None:
        for name in (temporary_name(), kept_name(b"key", (b"f",))):
            self.refused(name.decode(), name.decode().upper(), name.decode().title())
        upper = temporary_name().upper()
        self.assertEqual(names_of(upper.decode()), (upper,))

    @given(PATH)
    @settings(max_examples=300, deadline=None)
    @example("c:/a")
    @example("a/nul.txt")
    @example("a/con /b")
    @example("a./b")
    def test_what_is_taken_stays_below_the_base_and_is_what_it_says(self, path: str) -> None:
        self.stays(taken(path))
        self.stays(taken(quote(path, errors="surrogatepass")))

    def stays(self, names: Names | None) -> None:
        if not names:
            return
        texts = [name.decode() for name in names]
        relative = PureWindowsPath(*texts)
        self.assertEqual((relative.drive, relative.root), ("", ""))
        self.assertEqual(list(relative.parts), texts)
        self.assertFalse(relative.is_reserved())
        for text in texts:
            self.assertFalse(PureWindowsPath(text).is_reserved(), text)
            self.assertEqual(text.rstrip(". "), text)
        whole = ntpath.normpath(ntpath.join(BASE, *texts))
        self.assertEqual(whole, "\\".join([BASE, *texts]))
