"""Formats: a newer one is left alone, an older one is backed up and brought along, every released one still opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.errors import Damaged, NewerFormat
from aico_crdt.store import DocumentStore, layout, migrate
from aico_crdt.store.backup import read_backup, restore
from aico_crdt.store.directory import storage_keys
from aico_crdt.store.records import Records
from aico_crdt.store.verify import verify
from tests.store.conftest import CONFIG, identity_of, view
from tools import make_fixture

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "stores"


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_fault_47_a_newer_store_is_refused_and_untouched(family: Any) -> None:
    [a] = family(1)
    a.create("memory", {"content": "one"})
    a.close()
    label = json.loads((a.path / "STORE").read_text()) | {"format": layout.FORMAT + 1}
    (a.path / "STORE").write_text(json.dumps(label))
    before = everything(a.path)
    assert {"STORE", "data.mdb", "lock.mdb", "lives"} <= set(before)
    with pytest.raises(NewerFormat) as caught:
        family.open(a.path, 0)
    assert "Upgrade" in caught.value.cure
    assert everything(a.path) == before


def test_fault_47_a_newer_data_file_under_an_older_label_is_refused(family: Any) -> None:
    [a] = family(1)
    _set_inner_format(a, layout.FORMAT + 1)
    a.close()
    before = (a.path / "data.mdb").read_bytes()
    with pytest.raises(NewerFormat):
        family.open(a.path, 0)
    assert (a.path / "data.mdb").read_bytes() == before


def _set_inner_format(store: DocumentStore, number: int) -> None:
    with store.environment.write() as transaction:
        records = Records(transaction, storage_keys(store.identity)[1])
        records.put(layout.meta("format"), layout.U64.pack(number))


def _rename_tag(records: Records, identity: Any) -> None:
    records.put(layout.meta("migrated"), identity.device)


@pytest.fixture
def next_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program speaks one format more."""
    monkeypatch.setattr(layout, "FORMAT", 2)
    monkeypatch.setitem(migrate.MIGRATIONS, 1, _rename_tag)


def old_store(family: Any) -> Path:
    [a] = family(1)
    a.create("memory", {"content": "one"}, id="m")
    a.close()
    return a.path  # type: ignore[no-any-return]


def test_an_older_store_is_backed_up_and_then_migrated(family: Any, request: Any, monkeypatch: Any) -> None:
    path = old_store(family)
    request.getfixturevalue("next_format")
    a = family.open(path, 0)
    kept = path.with_name(path.name + ".before-format-2")
    assert view(a)["m"][1] == {"content": "one"}
    with a.reading() as (_, records):
        assert records.get(layout.meta("migrated")) == a.device
        assert records.get(layout.meta("format")) == layout.U64.pack(2)
    assert verify(a, refold=True).problems == []
    assert json.loads((path / "STORE").read_text())["format"] == 2
    assert read_backup(kept).format == 1
    a.close()
    assert family.open(path, 0).label.format == 2
    assert [p.name for p in path.parent.iterdir() if "before" in p.name] == [kept.name]
    monkeypatch.undo()
    with pytest.raises(NewerFormat):
        DocumentStore.open(path, identity_of(0), family.kinds, config=CONFIG)
    restore(kept, path.with_name("again"), identity_of(0), family.kinds, config=CONFIG)
    assert view(family.open(path.with_name("again"), 0))["m"][1] == {"content": "one"}


def test_a_crash_during_migration_is_made_good(family: Any, request: Any, monkeypatch: Any) -> None:
    path = old_store(family)
    request.getfixturevalue("next_format")

    def dies(records: Records, identity: Any) -> None:
        records.put(layout.meta("half"), b"done")
        raise KeyboardInterrupt

    monkeypatch.setitem(migrate.MIGRATIONS, 1, dies)
    with pytest.raises(KeyboardInterrupt):
        family.open(path, 0)
    monkeypatch.setitem(migrate.MIGRATIONS, 1, _rename_tag)
    a = family.open(path, 0)
    with a.reading() as (_, records):
        assert records.get(layout.meta("half")) is None
        assert records.get(layout.meta("migrated")) == a.device
    assert read_backup(path.with_name(path.name + ".before-format-2")).format == 1


def test_where_no_migration_leads_nothing_changes(family: Any, monkeypatch: Any) -> None:
    path = old_store(family)
    monkeypatch.setattr(layout, "FORMAT", 3)
    before = (path / "data.mdb").read_bytes(), (path / "STORE").read_bytes()
    with pytest.raises(Damaged, match="No migration"):
        family.open(path, 0)
    assert ((path / "data.mdb").read_bytes(), (path / "STORE").read_bytes()) == before


def test_without_room_for_the_backup_nothing_is_migrated(family: Any, request: Any, monkeypatch: Any) -> None:
    path = old_store(family)
    request.getfixturevalue("next_format")
    before = (path / "data.mdb").read_bytes(), (path / "STORE").read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    from aico_crdt.errors import DiskFull

    with pytest.raises(DiskFull):
        family.open(path, 0)
    assert ((path / "data.mdb").read_bytes(), (path / "STORE").read_bytes()) == before
    assert not [p for p in path.parent.iterdir() if "before" in p.name]


@pytest.mark.parametrize("fixture", sorted(FIXTURES.iterdir()), ids=lambda path: path.name)
def test_a_store_of_every_released_format_opens_reads_and_writes(fixture: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(fixture, path)
    expected = json.loads((path / "expected.json").read_text())
    (path / "expected.json").unlink()
    with DocumentStore.open(path, make_fixture.identity(0), make_fixture.kinds(), config=CONFIG) as store:
        assert make_fixture.rows(store) == expected["rows"]
        assert store.content_hash().hex() == expected["content"]
        assert all(store.read("memory", name) is None for name in expected["forgotten"])
        assert verify(store, refold=True).problems == []
        store.edit("memory", "m2", {"content": "settled"})
        store.create("memory", {"content": "new"}, id="new")
        store.forget("memory", "m0", now=True)
        assert store.get("memory", "m2").conflicts == {}
        assert verify(store, refold=True).problems == []


def test_there_is_a_fixture_of_the_present_format() -> None:
    assert (FIXTURES / f"format-{layout.FORMAT}" / "data.mdb").is_file()


def test_the_script_that_writes_fixtures_still_writes_one_like_them(tmp_path: Path) -> None:
    make_fixture.write(tmp_path / "format")
    made = json.loads((tmp_path / "format" / "expected.json").read_text())
    released = json.loads((FIXTURES / f"format-{layout.FORMAT}" / "expected.json").read_text())
    assert made["rows"].keys() == released["rows"].keys()
    assert {k: v[2] for k, v in made["rows"].items()} == {k: v[2] for k, v in released["rows"].items()}
