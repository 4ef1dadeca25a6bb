"""Measured facts about python-zstandard (0.25) behind the one place that decompresses foreign bytes."""

from __future__ import annotations

import pytest
import zstandard

MIB = 1 << 20


def bomb(size: int, *, stated: bool) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_content_size=stated).compress(bytes(size))


def test_hazard_21_a_few_kilobytes_can_stand_for_256_mib() -> None:
    """21. 8,211 bytes state and hold 256 MiB (here counted in the stream, a mebibyte at a time)."""
    small = bomb(256 * MIB, stated=True)
    assert len(small) < 10_000
    assert zstandard.frame_content_size(small) == 256 * MIB


def test_hazard_21_max_output_size_is_ignored_when_the_frame_states_its_size() -> None:
    """21. ``max_output_size=1000`` returns 16 MiB."""
    out = zstandard.ZstdDecompressor().decompress(bomb(16 * MIB, stated=True), max_output_size=1000)
    assert len(out) == 16 * MIB


def test_hazard_21_max_output_size_holds_when_the_frame_does_not_state_its_size() -> None:
    """21. Without a stated size the limit raises ``ZstdError``."""
    unstated = bomb(MIB, stated=False)
    assert zstandard.frame_content_size(unstated) == -1
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompress(unstated, max_output_size=1000)


def test_hazard_21_streaming_gives_no_more_than_was_asked_for() -> None:
    """21. A stream reader stops at the bytes asked for, whatever the frame states: the cure."""
    with zstandard.ZstdDecompressor().stream_reader(bomb(16 * MIB, stated=True)) as reader:
        assert reader.read(1001) == bytes(1001)


def test_hazard_21_max_window_size_does_not_stop_a_bomb_either() -> None:
    """21. ``max_window_size`` of 1 MiB lets 16 MiB through in one call."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MIB)
    assert len(decompressor.decompress(bomb(16 * MIB, stated=True))) == 16 * MIB


def test_hazard_21_bytes_after_the_frame_are_ignored() -> None:
    """21. Trailing bytes pass without a word, unless ``allow_extra_data`` is turned off."""
    frame = zstandard.compress(b"value") + b"anything"
    assert zstandard.ZstdDecompressor().decompress(frame) == b"value"
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)


@pytest.mark.parametrize("stated", [1000, 2 * MIB])
def test_hazard_21_a_frame_that_lies_about_its_size_is_refused(stated: int) -> None:
    """21. The stated size is allocated exactly; a frame that holds more or less raises ``ZstdError``."""
    frame = bytearray(bomb(MIB, stated=True))
    assert frame[4] == 0x80  # RFC 8878, 3.1.1.1: the size in four bytes, after the window's one
    frame[6:10] = stated.to_bytes(4, "little")
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompress(bytes(frame))
