"""Hybrid logical clock (Kulkarni et al., *Logical Physical Clocks*, 2014).

A stamp is one integer of 64 bits: 48 bits of Unix milliseconds, then a 16-bit counter. 48 bits last until the year
10889, so 2038 and 2106 are ordinary days. A stamp is never rewritten; only the local clock refuses to follow one that
is too far ahead. Pure: physical time is an argument.
"""

from __future__ import annotations

from typing import Final

from aico_crdt.errors import InvalidValue

COUNTER_BITS: Final = 16
MAX_STAMP: Final = (1 << 64) - 1
DRIFT_MS: Final = 5 * 60 * 1000
"""How far ahead of local physical time the local clock follows a stamp (ms): NTP-less phones drift by seconds, five
minutes is Kerberos's tolerance."""
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_VALUES: Final = {pair: value for value, pair in enumerate(_PAIRS)}
_FIRST: Final = {c: i for i, c in enumerate(_ALPHABET)}
TEXT_LENGTH: Final = 13


def stamp(ms: int, counter: int = 0) -> int:
    """The stamp for `ms` (Unix milliseconds) and `counter` (0..65535)."""
    return ms << COUNTER_BITS | counter


def milliseconds(hlc: int) -> int:
    """The physical part of a stamp, in Unix milliseconds."""
    return hlc >> COUNTER_BITS


def tick(last: int, now_ms: int) -> int:
    """The next local stamp: above `last`, and not below local physical time. Rises even when `now_ms` jumps back."""
    return max(last + 1, max(now_ms, 0) << COUNTER_BITS)


def observe(last: int, remote: int, now_ms: int, drift_ms: int) -> int:
    """The local clock after seeing `remote`: follows it, but at most `drift_ms` ahead of `now_ms`.

    The bound keeps one device whose clock is years ahead from dragging the whole family with it; its stamp itself is
    kept as written. Never moves back.
    """
    ceiling = (max(now_ms, 0) + drift_ms) << COUNTER_BITS
    return max(last, min(remote, ceiling))


def to_text(hlc: int) -> str:
    """13 characters of Crockford base32, sorting as the integer does (JSON numbers end at 2^53)."""
    if not 0 <= hlc <= MAX_STAMP:
        raise InvalidValue(f"{hlc} is not a 64-bit stamp.")
    pairs = _PAIRS
    return (
        f"{_ALPHABET[hlc >> 60]}{pairs[hlc >> 50 & 1023]}{pairs[hlc >> 40 & 1023]}{pairs[hlc >> 30 & 1023]}"
        f"{pairs[hlc >> 20 & 1023]}{pairs[hlc >> 10 & 1023]}{pairs[hlc & 1023]}"
    )


def from_text(text: str) -> int:
    """Inverse of :func:`to_text`.

    Raises:
        InvalidValue: not 13 characters of the alphabet, or beyond 64 bits.
    """
    if not isinstance(text, str) or len(text) != TEXT_LENGTH:
        raise InvalidValue("A stamp is 13 characters of Crockford base32.")
    try:
        value = _FIRST[text[0]]
        for place in (1, 3, 5, 7, 9, 11):
            value = value << 10 | _VALUES[text[place : place + 2]]
    except KeyError:
        raise InvalidValue("A stamp is 13 characters of Crockford base32.") from None
    if value > MAX_STAMP:
        raise InvalidValue("A stamp holds 64 bits.")
    return value
