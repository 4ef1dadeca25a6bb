from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path

import pytest

from aico_crdt import clock
from aico_crdt.config import ENV_NOT_SETTINGS, Config, load
from aico_crdt.errors import InvalidValue, ReadOnly

NAMES = [f.name for f in dataclasses.fields(Config) if f.name != "origins"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("port = 6000\nkeep_days = 30\nwindow_bytes = '2 MiB'\n")
    return path


def test_the_defaults_are_valid_and_say_they_are_defaults() -> None:
    config = load()
    assert config == Config()
    assert config.undo_window_s == 86_400
    assert config.keep_days == 90
    assert config.drift_ms == clock.DRIFT_MS
    assert (config.port, config.heartbeat_interval_ms, config.heartbeat_timeout_ms) == (5555, 15_000, 45_000)
    assert {config.origin(name) for name in NAMES} == {"default"}


def test_overrides_beat_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    config = load(file, {"AICO_CRDT_KEEP_DAYS": "20", "AICO_CRDT_PORT": "7000"}, {"port": 8000})
    assert (config.port, config.keep_days, config.window_bytes) == (8000, 20, 2 << 20)
    assert config.undo_window_s == 86_400
    assert [config.origin(n) for n in ("port", "keep_days", "window_bytes", "undo_window_s")] == [
        "override",
        "environment AICO_CRDT_KEEP_DAYS",
        f"file {file}",
        "default",
    ]


def test_an_override_of_none_is_an_option_that_was_not_given(file: Path) -> None:
    assert load(file, {}, {"port": None}).port == 6000


def test_a_file_that_is_not_there_sets_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "absent.toml") == Config()


def test_only_our_part_of_the_environment_is_read() -> None:
    others = {"PORT": "1", "PATH": "/bin", "_AICO_CRDT_COMPLETE": "bash_source"}
    files = {f"AICO_CRDT_{name}": "x" for name in ENV_NOT_SETTINGS}
    assert load(None, others | files) == Config()


@pytest.mark.parametrize("text", ["65536", " 65536 ", "64KiB", "64 kib"])
def test_bytes_are_written_with_or_without_a_unit(text: str) -> None:
    assert load(None, {"AICO_CRDT_CHUNK_BYTES": text}).chunk_bytes == 65_536


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("keep_day = 3\n")
    with pytest.raises(InvalidValue, match=r"no setting `keep_day` in .*c\.toml.*Did you mean `keep_days`\?"):
        load(path)
    with pytest.raises(InvalidValue, match=r"environment AICO_CRDT_PROT\).*`port`"):
        load(None, {"AICO_CRDT_PROT": "1"})
    with pytest.raises(InvalidValue, match="no setting `zzzzzz`"):
        load(None, {}, {"zzzzzz": 1})
    with pytest.raises(InvalidValue, match="no setting `origins`"):
        load(None, {}, {"origins": {}})
    with pytest.raises(InvalidValue, match="no setting `origins`"):
        Config().origin("origins")


@pytest.mark.parametrize("value", ["", "many", "-1", "1.5", "5 MB", "0x10", "١", "1e3", "9" * 5000, "5 MiB"])
def test_text_that_is_no_whole_number_is_refused(value: str) -> None:
    with pytest.raises(InvalidValue, match="`keep_days` from environment AICO_CRDT_KEEP_DAYS is not"):
        load(None, {"AICO_CRDT_KEEP_DAYS": value})


@pytest.mark.parametrize("value", [True, 1.0, None, b"5", [5]])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match="`port` is a whole number"):
        Config(port=value)  # type: ignore[arg-type]


def test_a_host_is_text(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("host = 7\n")
    with pytest.raises(InvalidValue, match="`host` is text, not int"):
        load(path)


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(getattr(Config(), name), int)])
def test_every_number_has_a_range_and_a_unit(name: str) -> None:
    limits = next(f for f in dataclasses.fields(Config) if f.name == name).metadata
    for outside in (limits["low"] - 1, limits["high"] + 1):
        with pytest.raises(InvalidValue, match=f"`{name}` is {outside}; it may be"):
            load(None, {}, {name: outside})
    counts = {"max_readers", "max_items", "max_peers", "hold_entries", "port"}
    assert name in counts or re.search(r"_(bytes|s|ms|days|percent)$", name)


@pytest.mark.parametrize(
    "values",
    [
        {"heartbeat_interval_ms": 5_000, "heartbeat_timeout_ms": 4_000},
        {"redial_min_ms": 60_000},
        {"chunk_bytes": 2 << 20, "send_queue_bytes": 1 << 20},
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidValue, match="is above"):
        load(None, {}, values)


@pytest.mark.parametrize("raw", [b"port = ", b"\xff\xfe", b"port = 1\nport = 2\n"])
def test_a_file_that_is_not_toml_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(raw)
    with pytest.raises(InvalidValue, match="is not TOML"):
        load(path)


def test_a_file_that_cannot_be_read_is_the_machine_s_fault(tmp_path: Path) -> None:
    with pytest.raises(ReadOnly, match="cannot be read"):
        load(tmp_path)


def test_it_is_frozen_hashable_and_crosses_processes(file: Path) -> None:
    config = load(file)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert hash(copy) == hash(config)
    assert copy.origin("port") == f"file {file}"
