"""Every limit of a device in one typed, frozen value, with its unit in its name and its reason beside it.

A value comes from the strongest of four places, weakest first: the default below, a TOML file, the
environment (``AICO_CRDT_<FIELD>``), an override (a command-line option or an argument).
:meth:`Config.origin` tells which it was.
What all devices must agree on (hashes, framing, depth) is no setting and stands where it is used.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, cast

from aico_crdt import clock
from aico_crdt.errors import InvalidValue, ReadOnly

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40
DAY_S: Final = 86_400
ENV_PREFIX: Final = "AICO_CRDT_"
ENV_NOT_SETTINGS: Final = frozenset({"HOME", "STORE", "CONFIG", "KEY_FILE", "LOG_FILE"})
"""Variables of the commands that name files; they share the prefix and are left to them."""
_NUMBER: Final = re.compile(r"([0-9]{1,18})()", re.ASCII)
_BYTES: Final = re.compile(r"([0-9]{1,18}) *((?:[kmgt]ib)?)", re.ASCII | re.IGNORECASE)
_UNITS: Final = {"": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_ON_64_BIT: Final = sys.maxsize > 2**32


def _whole(default: int, low: int, high: int) -> int:
    return field(default=default, metadata={"low": low, "high": high})


def _text(default: str) -> str:
    return field(default=default)


@dataclass(frozen=True)
class Config:
    """The limits of one device. Checked on construction.

    Raises:
        InvalidValue: a value of the wrong type, out of range, or at odds with another.
    """

    # --- store

    # LMDB reserves addresses, not disk: the file is sparse and grows with the data. Growing the map while
    # other processes use it is unsafe, so it starts beyond what a household writes; 32-bit has less room.
    map_size_bytes: int = _whole(64 * GIB if _ON_64_BIT else GIB, 16 * MIB, 16 * TIB)
    # Held back from ordinary writes so that a full map still takes forgets and receipts.
    reserve_bytes: int = _whole(8 * MIB, MIB, GIB)
    # Slots in LMDB's reader table: one per reading thread of all processes. LMDB's own 126 is few for a hub.
    max_readers: int = _whole(512, 16, 65_536)
    # Document states kept in memory between writes; about 3.5 KB each, so some thousand documents.
    cache_bytes: int = _whole(16 * MIB, 0, 4 * GIB)
    # A person notices a mistaken forget within a day; after that the life key is destroyed.
    undo_window_s: int = _whole(DAY_S, 0, 365 * DAY_S)
    # A device unseen for longer no longer holds back pruning; it comes back by manifest. A season is common.
    keep_days: int = _whole(90, 1, 3_650)
    # Beyond this the feeds of one collection are pruned although some device has not acknowledged them.
    keep_bytes: int = _whole(GIB, 16 * MIB, TIB)
    # How far ahead of physical time the local clock follows a stamp; the reason is in clock.py.
    drift_ms: int = _whole(clock.DRIFT_MS, 0, DAY_S * 1000)

    # --- entries

    # The largest entry this device writes. A long message is some KB; 1 MiB crosses a slow phone link in
    # seconds. The format takes up to 4 MiB.
    max_entry_bytes: int = _whole(MIB, 64 * KIB, 4 * MIB)
    # Documents touched by one entry this device writes; the format's cap, which an import fills.
    max_items: int = _whole(1024, 1, 1024)
    # What cannot be applied yet waits here, whole store. Months of conversation fit; a flood stops at it.
    hold_bytes: int = _whole(64 * MIB, 4 * MIB, 16 * GIB)
    # The same as a count: 200-byte entries would otherwise cost more in bookkeeping than in bytes.
    hold_entries: int = _whole(65_536, 16, 16_777_216)
    # One author's share of both, in percent, so that one broken device cannot starve the others.
    hold_author_percent: int = _whole(25, 1, 100)
    # What is still not applicable after a month is dropped and asked for again when its reason goes away.
    hold_age_s: int = _whole(30 * DAY_S, 60, 3_650 * DAY_S)

    # --- sync

    # Entries and bodies sent to one peer and not yet acknowledged: a 100 Mbit/s link at 80 ms holds 1 MB.
    window_bytes: int = _whole(MIB, 64 * KIB, 256 * MIB)
    # Digests are exchanged anew this often, to repair what a live push missed; 16 bytes a collection.
    digest_interval_ms: int = _whole(60_000, 1_000, 86_400_000)

    # --- mesh

    # Loopback unless asked otherwise: nothing leaves the device unasked.
    host: str = _text("127.0.0.1")
    # The port of ZeroMQ's own guide; 0 lets the system choose.
    port: int = _whole(5555, 0, 65_535)
    # A frozen peer is found within the timeout; a sleeping phone misses two beats without being dropped.
    heartbeat_interval_ms: int = _whole(15_000, 100, 3_600_000)
    heartbeat_timeout_ms: int = _whole(45_000, 200, 7_200_000)
    # libzmq's 30 s holds a socket for whoever connects and says nothing; CURVE takes three small messages.
    handshake_timeout_ms: int = _whole(10_000, 100, 120_000)
    # After closing, unsent frames are given this long; libzmq would wait forever. What was not
    # acknowledged is sent again, so nothing is lost.
    linger_ms: int = _whole(500, 0, 60_000)
    # Redial waits double between these bounds, with jitter, so that a restarted hub is not stormed.
    redial_min_ms: int = _whole(250, 10, 60_000)
    redial_max_ms: int = _whole(30_000, 10, 3_600_000)
    # Larger messages go in chunks: libzmq drops a connection over MAXMSGSIZE without a word; a chunk of
    # this size keeps an urgent message behind it waiting for 20 ms at 100 Mbit/s.
    chunk_bytes: int = _whole(256 * KIB, 4 * KIB, 16 * MIB)
    # The largest message put together from chunks: a manifest of a million documents is the largest there is.
    max_message_bytes: int = _whole(64 * MIB, 4 * MIB, GIB)
    # Per peer; libzmq's high-water marks count messages, not bytes.
    send_queue_bytes: int = _whole(16 * MIB, MIB, GIB)
    receive_queue_bytes: int = _whole(16 * MIB, MIB, GIB)
    # Connections at once. A household has ten devices; a hub serves a few hundred.
    max_peers: int = _whole(256, 1, 65_536)

    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for setting in _settings():
            _check(setting, getattr(self, setting.name))
        for lower, upper in _ORDERED:
            if getattr(self, lower) > getattr(self, upper):
                raise InvalidValue(
                    f"`{lower}` ({getattr(self, lower)}) is above `{upper}` ({getattr(self, upper)}).",
                    f"Raise `{upper}` or lower `{lower}`.",
                )

    def origin(self, name: str) -> str:
        """Where `name` got its value: ``default``, ``file PATH``, ``environment NAME`` or ``override``.

        Raises:
            InvalidValue: there is no such setting.
        """
        return self.origins.get(_known(name), "default")


_ORDERED: Final = (
    ("heartbeat_interval_ms", "heartbeat_timeout_ms"),
    ("redial_min_ms", "redial_max_ms"),
    ("max_entry_bytes", "hold_bytes"),
    ("chunk_bytes", "send_queue_bytes"),
    ("chunk_bytes", "receive_queue_bytes"),
    ("reserve_bytes", "map_size_bytes"),
)


def load(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """The configuration of this device.

    Args:
        path: a TOML file of settings at top level; None, or a file that does not exist, sets nothing.
        env: the environment; only names that begin with ``AICO_CRDT_`` are looked at.
        overrides: values by setting; a value of None sets nothing, as an option that was not given.

    Raises:
        InvalidValue: an unknown setting (with the nearest known one), a value that does not fit, a file that
            is not TOML.
        ReadOnly: the file exists and cannot be read.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name, value, origin in [*_from_file(path), *_from_env(env or {}), *_from_overrides(overrides or {})]:
        values[name] = _convert(_BY_NAME[name], value, origin)
        origins[name] = origin
    return Config(**cast(dict[str, Any], values), origins=origins)


def _from_file(path: Path | None) -> Iterator[tuple[str, object, str]]:
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"The configuration {path} cannot be read: {error.strerror}."
        raise ReadOnly(what, "Check its mode and owner.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        what = f"The configuration {path} is not TOML: {error}."
        raise InvalidValue(what, "Mend that line, or move the file away.") from error
    for name, value in table.items():
        yield _known(name, f" in {path}"), value, f"file {path}"


def _from_env(env: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for variable, value in env.items():
        name = variable.removeprefix(ENV_PREFIX)
        if name != variable and name not in ENV_NOT_SETTINGS:
            yield _known(name.lower(), f" (environment {variable})"), value, f"environment {variable}"


def _from_overrides(overrides: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    for name, value in overrides.items():
        if value is not None:
            yield _known(name), value, "override"


def _settings() -> Iterator[Field[Any]]:
    return (f for f in fields(Config) if f.name != "origins")


def _known(name: str, where: str = "") -> str:
    if name in _BY_NAME:
        return name
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    cure = f"Did you mean `{near[0]}`?" if near else "See aico_crdt/config.py for the settings there are."
    raise InvalidValue(f"There is no setting `{name}`{where}.", cure)


def _convert(setting: Field[Any], value: object, origin: str) -> object:
    """`value` in the setting's type: text becomes a whole number, for bytes with a unit if one is given."""
    if isinstance(setting.default, int) and isinstance(value, str):
        in_bytes = setting.name.endswith("_bytes")
        match = (_BYTES if in_bytes else _NUMBER).fullmatch(value.strip())
        if match is None:
            wanted = "a number of bytes, such as 65536 or 64 KiB" if in_bytes else "a whole number"
            raise InvalidValue(f"`{setting.name}` from {origin} is not {wanted}.")
        number, unit = match.groups()
        return int(number) * _UNITS[unit.lower()]
    return value


def _check(setting: Field[Any], value: object) -> None:
    if type(value) is not type(setting.default):
        wanted = "a whole number" if isinstance(setting.default, int) else "text"
        raise InvalidValue(f"`{setting.name}` is {wanted}, not {type(value).__name__}.")
    if isinstance(value, int):
        low, high = setting.metadata["low"], setting.metadata["high"]
        if not low <= value <= high:
            raise InvalidValue(f"`{setting.name}` is {value}; it may be {low} to {high}.")


_BY_NAME: Final = {setting.name: setting for setting in _settings()}
