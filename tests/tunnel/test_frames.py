"""Frames and HELLO: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel import frames
from workato_tunnel.errors import ErrorCode, RemoteProtocolError
from workato_tunnel.frames import (
    HEADER,
    HEADER_SIZE,
    MAX_PAYLOAD,
    Catalogue,
    FrameType,
    Goaway,
    Head,
    Hello,
    Limits,
    Open,
    Profile,
    Reset,
    Trailers,
)
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.testing import split

text = st.text(max_size=40)
headers = st.lists(st.tuples(text, text), max_size=5).map(tuple)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)

maps = st.one_of(
    st.builds(
        Open,
        service=text,
        profile=text,
        method=text,
        path=text,
        query=text,
        headers=headers,
        caller=text,
        timeout=st.integers(0, 2**40),
        trace=text,
        request_id=text,
    ),
    st.builds(Head, status=st.integers(100, 599), headers=headers),
    st.builds(
        Trailers,
        bytes=u64,
        rows=st.none() | u64,
        sha256=st.none() | text,
        elapsed=st.integers(0, 2**40),
    ),
    st.builds(Reset, code=text, message=text, detail=text),
    st.builds(Goaway, code=text, message=text),
    st.builds(
        Catalogue,
        profiles=st.lists(
            st.builds(Profile, service=text, name=text, type=text, ok=st.none() | st.booleans()),
            max_size=4,
        ).map(tuple),
        config_hash=text,
        pid=st.integers(0, 2**31),
    ),
)


class FrameTests(SynchronousTestCase):
    @given(maps, u32, st.sampled_from(list(FrameType)), st.integers(0, 255))
    def test_a_map_frame_decodes_to_what_was_encoded(
        self, payload: frames.PayloadMap, stream: int, kind: FrameType, flags: int
    ) -> None:
        frame = frames.encode_map(kind, stream, payload, flags)
        ((found, found_flags, found_stream, body),) = split(frame)
        self.assertEqual((found, found_flags, found_stream), (kind, flags, stream))
        self.assertEqual(frames.decode_map(type(payload), body), payload)

    @given(u64, u32)
    def test_a_number_decodes_to_what_was_encoded(self, number: int, stream: int) -> None:
        frame = frames.encode_number(FrameType.WINDOW, stream, number)
        self.assertEqual(frames.decode_number(frame[HEADER_SIZE:]), number)

    @given(st.binary(max_size=16).filter(lambda payload: len(payload) != 8))
    def test_a_number_of_another_length_is_the_peers_fault(self, payload: bytes) -> None:
        with self.assertRaises(RemoteProtocolError):
            frames.decode_number(payload)

    @given(
        st.sampled_from([Hello, Goaway, Catalogue, Open, Head, Trailers, Reset]),
        st.binary(max_size=200),
    )
    def test_any_bytes_decode_or_are_the_peers_fault(
        self, kind: type[frames.PayloadMap], payload: bytes
    ) -> None:
        try:
            self.assertIsInstance(frames.decode_map(kind, payload), kind)
        except RemoteProtocolError as error:
            self.assertEqual(error.code, ErrorCode.PROTOCOL_ERROR)

    def test_deeply_nested_maps_are_the_peers_fault(self) -> None:
        for opening in (b"\x91", b"\x81\xa1x"):
            payload = b"\x81\xa1z" + opening * (MAX_PAYLOAD // len(opening) - 8) + b"\x90"
            with self.assertRaises(RemoteProtocolError):
                frames.decode_map(Open, payload)

    def test_members_of_a_later_version_are_ignored(self) -> None:
        payload = msgspec.msgpack.encode({"status": 204, "later": {"a": [1, 2]}})
        self.assertEqual(frames.decode_map(Head, payload), Head(204))

    def test_a_map_past_the_frame_limit_is_not_encoded(self) -> None:
        with self.assertRaises(ValueError):
            frames.encode_map(FrameType.RESET, 1, Reset("x", "m" * MAX_PAYLOAD))


class HelloTests(SynchronousTestCase):
    @given(
        st.builds(
            Hello,
            limits=st.builds(
                Limits,
                streams=st.integers(0, 65536),
                window=st.integers(1, 2**40),
                map_size=st.integers(1024, MAX_PAYLOAD),
            ),
            session=st.none() | st.binary(max_size=32),
            received=st.none() | st.integers(0, 2**63 - 1),
            software=text,
            hold=st.floats(0, 86400),
        )
    )
    def test_a_hello_decodes_to_what_was_encoded(self, hello: Hello) -> None:
        self.assertEqual(decode_hello(encode_hello(hello)), hello)

    @given(st.binary(max_size=100))
    def test_anything_else_is_the_peers_fault(self, message: bytes) -> None:
        with self.assertRaises(RemoteProtocolError):
            decode_hello(message)

    def test_limits_that_nobody_can_keep_are_refused(self) -> None:
        for hello in (
            Hello(limits=Limits(streams=-1)),
            Hello(limits=Limits(streams=65537)),
            Hello(limits=Limits(window=0)),
            Hello(limits=Limits(window=2**41)),
            Hello(limits=Limits(map_size=10)),
            Hello(limits=Limits(map_size=MAX_PAYLOAD + 1)),
            Hello(hold=-1.0),
            Hello(hold=1e9),
            Hello(received=-1),
        ):
            with self.assertRaises(RemoteProtocolError):
                decode_hello(encode_hello(hello))

    def test_another_version_is_told_by_its_code(self) -> None:
        with self.assertRaises(RemoteProtocolError) as caught:
            decode_hello(encode_hello(Hello(versions=(7, 9))))
        self.assertEqual(caught.exception.code, ErrorCode.UNSUPPORTED_VERSION)

    def test_a_second_frame_beside_hello_is_refused(self) -> None:
        message = encode_hello(Hello())
        with self.assertRaises(RemoteProtocolError):
            decode_hello(message + HEADER.pack(FrameType.ACK, 0, 0, 0))
