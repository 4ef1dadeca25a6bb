"""Opening without naming key and lease, and opening to look only."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import aico_crdt
from aico_crdt.cli.main import cli
from aico_crdt.errors import InvalidValue, NoStore, ReadOnly
from aico_crdt.home import Home


@pytest.fixture
def home(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("AICO_CRDT_HOME", str(fast_path))
    return Home.of({"AICO_CRDT_HOME": str(fast_path)})


def test_a_store_is_made_once_and_opened_again(home: Home) -> None:
    with pytest.raises(NoStore):
        aico_crdt.open_store()
    with aico_crdt.open_store(create=True, name="laptop") as store:
        device, memory = store.device, store.memories.add("one")
    with aico_crdt.open_store(create=True, name="another name") as store:
        assert store.device == device
        assert store.device_label == "laptop"
        assert store.memories.get(memory)["content"] == "one"


def test_a_key_that_waits_for_an_admission_is_not_passed_over(home: Home) -> None:
    assert CliRunner().invoke(cli, ["id"]).exit_code == 0
    with pytest.raises(InvalidValue, match="--join"):
        aico_crdt.open_store(create=True)
    assert not home.store.exists()


def test_looking_writes_nothing_and_draws_no_incarnation(home: Home, fast_path: Path) -> None:
    with aico_crdt.open_store(create=True, name="laptop") as store:
        store.memories.add("one")
        identity, lease = store.identity, home.lease_of(store.label.store)
    lease.unlink()  # as seen from another home: to write here would mean a new incarnation
    before = (home.store / "data.mdb").read_bytes()

    with aico_crdt.Store.open(home.store, identity, lease=lease, writable=False) as store:
        assert [row["content"] for row in store.memories.find()] == ["one"]
        with pytest.raises(ReadOnly, match="look"):
            store.memories.add("two")

    assert (home.store / "data.mdb").read_bytes() == before
    assert not lease.exists()
