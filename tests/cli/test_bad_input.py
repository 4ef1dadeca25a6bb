"""Bad input: each ends with exit code 1, an error that names the cause and the cure, and nothing changed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import MONTH, Device, Devices, error_of, write_lines


@pytest.fixture
def filled(laptop: Device, month: Path) -> Device:
    laptop("import", month)
    return laptop


# A missing store


READING = ["status", "devices", "inspect", "log", "verify", "export", "bundle x", "why memory-000001", "sync", "serve"]


@pytest.mark.parametrize("words", READING)
def test_a_missing_store_names_init(new: Devices, words: str) -> None:
    device = new("device")
    said = device.fails(*words.split())
    assert "There is no store at" in said
    assert "aico-crdt init" in said
    assert not device.home.exists() or not any(device.home.rglob("*"))


def test_a_directory_that_is_no_store(new: Devices, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter").write_text("x")
    device = new("device")
    assert "There is no store" in device.fails("status", "--store", tmp_path / "letters")
    assert "is not empty" in device.fails("init", "--store", tmp_path / "letters")
    assert "is not a directory" in device.fails("init", "--store", tmp_path / "letters" / "letter")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["letter"]


def test_a_store_where_one_is(laptop: Device) -> None:
    before, keys = laptop.snapshot(), sorted(laptop.home.glob("keys/*"))
    assert "already is a store" in laptop.fails("init")
    assert (laptop.snapshot(), sorted(laptop.home.glob("keys/*"))) == (before, keys)


# Keys


def test_another_store_s_key(laptop: Device, stranger: Device) -> None:
    said = laptop.fails("status", "--key", stranger.key)
    assert "is not the key of the store" in said
    assert "--key" in said


def test_a_key_that_is_not_there(laptop: Device) -> None:
    laptop.key.unlink()
    assert "restore it from your backup" in laptop.fails("status")


def test_a_key_file_that_others_can_read(laptop: Device) -> None:
    laptop.key.chmod(0o644)
    assert f"chmod 600 {laptop.key}" in laptop.fails("status")
    laptop.key.chmod(0o600)
    laptop("status")


def test_a_key_file_that_holds_no_key(laptop: Device) -> None:
    laptop.key.write_bytes(b"short")
    assert "does not hold a key" in laptop.fails("status")


def test_an_admission_for_another_device(new: Devices, laptop: Device, tmp_path: Path) -> None:
    tablet, other = new("tablet"), new("other")
    laptop("admit", tablet.json("id")["device"], "--name", "tablet", "--output", tmp_path / "a")
    assert "whose key is not here" in other.fails("init", "--join", tmp_path / "a")
    key = Path(other.json("id")["key_file"])
    assert "for another device" in other.fails("init", "--join", tmp_path / "a", "--key", key)
    assert not other.store_path.exists()


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw + b"\0", lambda raw: b"{}"])
def test_a_damaged_admission(new: Devices, laptop: Device, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    tablet = new("tablet")
    laptop("admit", tablet.json("id")["device"], "--name", "tablet", "--output", tmp_path / "a")
    (tmp_path / "a").write_bytes(damage((tmp_path / "a").read_bytes()))
    tablet.fails("init", "--join", tmp_path / "a")
    assert not tablet.store_path.exists()


def test_every_flipped_byte_of_an_admission(new: Devices, laptop: Device, tmp_path: Path) -> None:
    tablet = new("tablet")
    laptop("admit", tablet.json("id")["device"], "--name", "tablet", "--output", tmp_path / "a")
    raw = (tmp_path / "a").read_bytes()
    choose = random.Random(3)
    for place in choose.sample(range(len(raw)), 25):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << choose.randrange(8)
        (tmp_path / "a").write_bytes(flipped)
        result = tablet.run("init", "--join", tmp_path / "a")
        # The device that is said to have admitted us is only shown; all else must hold.
        assert result.exit_code == 1 or "joined the family" in result.stdout
        if result.exit_code == 1:
            assert any(line.startswith("Error: ") for line in result.stderr.splitlines())
            assert not tablet.store_path.exists()
        else:
            shutil.rmtree(tablet.store_path)


# A damaged store


def test_a_store_of_a_newer_format(filled: Device) -> None:
    label = filled.store_path / "STORE"
    fields = json.loads(label.read_text())
    label.write_text(json.dumps({**fields, "format": 99}))
    data = (filled.store_path / "data.mdb").read_bytes()
    said = filled.fails("status")
    assert "format 99" in said
    assert "Upgrade" in said
    assert (filled.store_path / "data.mdb").read_bytes() == data


@pytest.mark.parametrize(("name", "length"), [("STORE", 60), ("data.mdb", 9000), ("data.mdb", 0), ("lives", 80)])
def test_a_truncated_store(filled: Device, name: str, length: int) -> None:
    path = filled.store_path / name
    path.write_bytes(path.read_bytes()[:length])
    files = {path.name: path.read_bytes() for path in filled.store_path.iterdir() if path.is_file()}
    for command in (["verify"], ["export"]):
        filled.fails(*command)
    opened = {"lock.mdb", "data.mdb"} if name == "lives" else {"lock.mdb"}  # opening counts a commit
    for other, content in files.items():
        if other not in opened:
            assert (filled.store_path / other).read_bytes() == content


def test_a_flipped_byte_in_a_live_record_is_found(filled: Device) -> None:
    family = bytes.fromhex(filled.json("status")["family"])
    path = filled.store_path / "data.mdb"
    raw = path.read_bytes()
    assert family in raw
    path.write_bytes(raw.replace(family, family[:7] + bytes([family[7] ^ 1]) + family[8:]))
    result = filled.run("verify", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["sound"] is False
    assert any("checksum" in problem["what"] for problem in report["problems"])
    assert "problems found" in error_of(result.stderr) or "problem found" in error_of(result.stderr)


# Bundles


@pytest.fixture
def bundle(filled: Device, tmp_path: Path) -> Path:
    filled("bundle", tmp_path / "b")
    return tmp_path / "b"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:-7], "cut short"),
        (lambda raw: raw[:50], "cut short"),
        (lambda raw: raw + b"x", "trailing"),
        (lambda raw: raw[:900] + bytes([raw[900] ^ 4]) + raw[901:], "damaged"),
        (lambda raw: raw[:16] + b"\0\x09" + raw[18:], "version 9"),
        (lambda raw: raw[:18] + bytes(16) + raw[34:], "is of family"),
        (lambda raw: b"", "not a bundle"),
        (lambda raw: b"\x89PNG" + raw, "not a bundle"),
    ],
)
def test_a_bad_bundle(bundle: Path, phone: Device, change: Callable[[bytes], bytes], said: str) -> None:
    bundle.write_bytes(change(bundle.read_bytes()))
    before = phone.snapshot()
    for command in ("merge", "diff"):
        assert said in phone.fails(command, phone.store_path, bundle)
    assert phone.snapshot() == before


def test_another_family_s_bundle(bundle: Path, stranger: Device) -> None:
    before = stranger.snapshot()
    assert "is of family" in stranger.fails("merge", stranger.store_path, bundle)
    assert stranger.snapshot() == before


def test_a_bundle_that_is_not_there(laptop: Device, tmp_path: Path) -> None:
    assert "There is no store" in laptop.fails("merge", laptop.store_path, tmp_path / "nowhere")


# Exports


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("PK\x03\x04 …", "a ZIP archive"),
        ("%PDF-1.7", "a PDF"),
        ("<html></html>", "a web page"),
        ("Dear diary", "plain text"),
        ('[{"chat_messages": []}]', "a Claude export"),
        ('{"format": "other/export"}\n', "an export of another program"),
        ('{"format": "aico-crdt/export", "version": 7, "records": 0}\n', "version 7"),
    ],
)
def test_a_file_of_another_format(laptop: Device, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "file").write_bytes(content.encode())
    before = laptop.snapshot()
    assert said in laptop.fails("import", tmp_path / "file")
    assert laptop.snapshot() == before


def test_an_export_cut_anywhere(laptop: Device, tmp_path: Path) -> None:
    raw = write_lines(tmp_path / "a", MONTH).read_bytes()
    before = laptop.snapshot()
    choose = random.Random(5)
    for end in sorted(
        {*choose.sample(range(len(raw) - 1), 12), *(place for place in range(len(raw) - 1) if raw[place] == 10)}
    ):
        (tmp_path / "a").write_bytes(raw[:end])
        laptop.fails("import", tmp_path / "a")
    assert laptop.snapshot() == before


def test_an_error_in_an_export_names_the_file_and_whether_it_is_cut_short(laptop: Device, tmp_path: Path) -> None:
    whole = json.dumps([{"title": "Tea", "mapping": {}, "conversation_id": "x", "current_node": "y", "create_time": 1}])
    for content, how in ((whole[:-3], "cut short"), (whole.replace("{}", "}{"), "damaged")):
        (tmp_path / "file.json").write_text(content)
        said = laptop.fails("import", tmp_path / "file.json")
        assert f"{tmp_path}/file.json: " in said
        assert how in said


@pytest.mark.parametrize(
    "words", ["import MISSING", "init --join MISSING", "sync --peers MISSING", "demo --input MISSING"]
)
def test_a_file_to_read_that_is_not_there(new: Devices, tmp_path: Path, words: str) -> None:
    device = new("device")
    missing = tmp_path / "missing"
    assert f"There is no file {missing}." in device.fails(*words.replace("MISSING", str(missing)).split())
    assert "is a directory" in device.fails(*words.replace("MISSING", str(tmp_path)).split())


@pytest.mark.parametrize("words", ["export", "bundle", f"admit {'01' * 32} --name tablet --output"])
def test_a_directory_to_write_into_that_is_not_there(laptop: Device, tmp_path: Path, words: str) -> None:
    before = laptop.snapshot()
    said = laptop.fails(*words.split(), tmp_path / "missing" / "file")
    missing = tmp_path / "missing"
    assert said == f"Error: There is no directory {missing} for file.\nMake it first: mkdir -p {missing}\n"
    assert laptop.snapshot() == before


def test_sides_of_a_merge_that_are_not_what_they_should_be(laptop: Device, phone: Device, tmp_path: Path) -> None:
    laptop("bundle", tmp_path / "b")
    for command in ("merge", "diff"):
        assert "--key-b" in laptop.fails(command, laptop.store_path, phone.store_path)
        assert "--key-a" in laptop.fails(command, phone.store_path, laptop.store_path)
        assert "named as A" in laptop.fails(command, tmp_path / "none", phone.store_path)
        said = laptop.fails(command, laptop.store_path, tmp_path / "none")
        assert "named as B" in said
        assert "init" not in said
        assert f"Name the store first: {laptop.store_path} {tmp_path}/b" in laptop.fails(
            command, tmp_path / "b", laptop.store_path
        )


def test_an_export_with_a_broken_line(laptop: Device, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a", MONTH)
    lines = path.read_bytes().splitlines()
    for number, broken in ((1, b"\xff\xfe"), (2, lines[2][:-3]), (3, b"[1, 2]")):
        path.write_bytes(b"\n".join([*lines[:number], broken, *lines[number + 1 :]]))
        assert f"ine {number + 1}" in laptop.fails("import", path)


# The machine


def test_a_full_disk_while_an_export_is_written(
    filled: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("aico_crdt.cli.opening.os.fsync", full)
        assert "No room left" in filled.fails("export", tmp_path / "out" / "file")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout(filled: Device) -> None:
    with open("/dev/full", "w") as full:
        process = filled.process("export", stdout=full)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "room" in error_of(said)


def test_a_full_disk_while_a_store_is_made(new: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    device = new("device")

    def full(descriptor: int, *more: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("aico_crdt.store.lives.os.pwrite", full)
        said = device.fails("init", "--name", "device")
    assert "room" in said
    assert not device.store_path.exists()
    assert not list(device.home.glob("keys/*"))
    device("init", "--name", "device")


def test_a_used_up_size_limit(laptop: Device, tmp_path: Path) -> None:
    laptop.environment["AICO_CRDT_MAP_SIZE_BYTES"] = str(18 << 20)
    fields = MONTH[2]["fields"]
    memories = [
        {**MONTH[2], "id": f"memory-{number:06}", "fields": {**fields, "content": os.urandom(8000).hex()}}
        for number in range(400)
    ]
    said = laptop.fails("import", write_lines(tmp_path / "a", memories))
    assert "size limit is used up" in said
    laptop("status")


def test_a_directory_that_cannot_be_written(filled: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected: modes do not stop root, as which tests may run."""
    real = os.open

    def denied(path: object, flags: int, *more: object, **named: object) -> int:
        if str(path).startswith(str(filled.store_path)) and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *more, **named)  # type: ignore[call-overload,no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        said = filled.fails("status")
    assert "cannot be" in said
    filled("status")


def test_a_log_file_that_cannot_be_written(laptop: Device, tmp_path: Path) -> None:
    assert "Name another with --log-file" in laptop.fails("status", "--log-file", tmp_path / "missing" / "log")


def test_settings_that_do_not_exist(laptop: Device, tmp_path: Path) -> None:
    laptop.environment["AICO_CRDT_MAP_SISE_BYTES"] = "1"
    assert "Did you mean `map_size_bytes`?" in laptop.fails("status")
    del laptop.environment["AICO_CRDT_MAP_SISE_BYTES"]
    (tmp_path / "config").write_text("port = 'x'\n")
    assert "port" in laptop.fails("status", "--config", tmp_path / "config")
    assert laptop.run("status", "--config", tmp_path / "nothing").exit_code == 2


def test_ids_that_are_none(laptop: Device) -> None:
    for words in (("status", "nothing-here"), ("why", "nothing-here"), ("inspect", "document", "nothing-here")):
        assert "There is no document" in laptop.fails(*words)
    for words in (
        ("feed", "own/memory"),
        ("feed", "own/memory/laptop/ff"),
        ("entry", "x"),
        ("entry", "own/memory/laptop/x"),
    ):
        laptop.fails("inspect", *words)
    assert "control characters" in laptop.fails("status", "a\x01bcdefg")
