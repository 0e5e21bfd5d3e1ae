"""STOMP 1.2 frames, whole, cut, malformed and too large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.jms.brokers.stomp_frames import (
    LARGEST_HEAD,
    MOST_HEADERS,
    Frame,
    FrameError,
    FrameReader,
    encode,
)

LARGEST = 1000

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
_headers = st.dictionaries(
    _text.filter(lambda name: name not in ("", "content-length")), _text, max_size=6
)


def frames(data: bytes, size: int = 10**9) -> list[Frame]:
    """What a reader makes of bytes that come in pieces."""
    reader = FrameReader(LARGEST)
    found = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    return found


class RoundTrip(SynchronousTestCase):
    @given(_headers, st.binary(max_size=100), st.integers(1, 50))
    def test_frames_with_a_length(self, headers: dict[str, str], body: bytes, size: int) -> None:
        given_headers = [*headers.items(), ("content-length", str(len(body)))]
        data = encode("MESSAGE", given_headers, body)
        expected = Frame("MESSAGE", dict(given_headers), body)
        self.assertEqual(frames(data * 3, size), [expected] * 3)

    @given(_headers, _text, st.integers(1, 50))
    def test_frames_without_one(self, headers: dict[str, str], text: str, size: int) -> None:
        data = encode("SEND", headers.items(), text.encode())
        expected = Frame("SEND", headers, text.encode())
        self.assertEqual(frames(b"\n" + data + b"\r\n\n" + data, size), [expected] * 2)

    @given(st.binary(max_size=300), st.integers(1, 20))
    def test_anything_gives_frames_or_a_frame_error(self, data: bytes, size: int) -> None:
        for prefix in (b"", b"MESSAGE\n", b"MESSAGE\na:b\n\n"):
            try:
                frames(prefix + data, size)
            except FrameError:
                continue


class Reading(SynchronousTestCase):
    def test_line_ends_may_have_a_carriage_return(self) -> None:
        (frame,) = frames(b"RECEIPT\r\nreceipt-id:1\r\n\r\n\0")
        self.assertEqual(frame, Frame("RECEIPT", {"receipt-id": "1"}))

    def test_heart_beats_are_nothing(self) -> None:
        reader = FrameReader(LARGEST)
        for beat in (b"\n", b"\r\n", b"\n\n\n"):
            self.assertEqual(reader.feed(beat), [])
        self.assertEqual(reader._buffer, b"")

    def test_of_a_header_that_comes_twice_the_first_counts(self) -> None:
        (frame,) = frames(b"MESSAGE\na:1\na:2\n\n\0")
        self.assertEqual(frame.headers, {"a": "1"})

    def test_headers_of_connected_are_not_escaped(self) -> None:
        (frame,) = frames(b"CONNECTED\nserver:a\\b:c\n\n\0")
        self.assertEqual(frame.headers, {"server": "a\\b:c"})
        self.assertEqual(
            encode("CONNECT", [("passcode", "a:\\b")]), b"CONNECT\npasscode:a:\\b\n\n\0"
        )

    def test_escapes(self) -> None:
        (frame,) = frames(b"MESSAGE\na\\cb:\\n\\r\\\\\\c\n\n\0")
        self.assertEqual(frame.headers, {"a:b": "\n\r\\:"})

    def test_what_is_malformed(self) -> None:
        for data in (
            b"220 mail.example ESMTP\r\n",
            b"\x16\x03\x01\x02\x00",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"message\n\n\0",
            b"MESSAGE\na\n\n\0",
            b"MESSAGE\n:a\n\n\0",
            b"MESSAGE\na:\\t\n\n\0",
            b"MESSAGE\na:\\\n\n\0",
            b"MESSAGE\na:\xff\n\n\0",
            b"MESSAGE\ncontent-length:x\n\n\0",
            b"MESSAGE\ncontent-length:-1\n\n\0",
            b"MESSAGE\ncontent-length:99999999999999999999\n\n\0",
            b"MESSAGE\ncontent-length:1\n\nab\0",
        ):
            with self.assertRaises(FrameError):
                frames(data)

    def test_a_body_above_the_limit_is_refused_before_it_is_there(self) -> None:
        reader = FrameReader(LARGEST)
        with self.assertRaises(FrameError) as caught:
            reader.feed(b"MESSAGE\ncontent-length:1001\n\n")
        self.assertTrue(caught.exception.too_large)
        self.assertEqual(len(frames(b"MESSAGE\ncontent-length:1000\n\n" + b"x" * 1000 + b"\0")), 1)

    def test_a_body_without_length_is_bounded_too(self) -> None:
        for data in (b"x" * 1001, b"x" * 1001 + b"\0"):
            with self.assertRaises(FrameError) as caught:
                frames(b"MESSAGE\n\n" + data, 100)
            self.assertTrue(caught.exception.too_large)

    def test_a_head_without_an_end_is_bounded(self) -> None:
        reader = FrameReader(LARGEST)
        with self.assertRaises(FrameError):
            for _ in range(100):
                reader.feed(b"A" * 1000)
        self.assertLess(len(reader._buffer), LARGEST_HEAD + 2000)
        with self.assertRaises(FrameError):
            frames(b"MESSAGE\n" + b"a:b\n" * 20_000 + b"\n\0", 4096)

    def test_the_number_of_headers_is_bounded(self) -> None:
        with self.assertRaises(FrameError):
            frames(b"MESSAGE\n" + b"a:b\n" * MOST_HEADERS + b"\n\0")

    def test_what_no_header_can_say(self) -> None:
        with self.assertRaises(ValueError):
            encode("SEND", [("a", "b\0")])
        with self.assertRaises(ValueError):
            encode("CONNECT", [("passcode", "a\nb")])
