"""What `verify` must see: every live byte, every disagreement; and what damage must never do."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import lmdb
import pytest

from aico_crdt.errors import MachineError
from aico_crdt.feed import Entry, decode_entry, encode_entry
from aico_crdt.store import DocumentStore, StoreReplica, layout
from aico_crdt.store.directory import storage_keys
from aico_crdt.store.records import Records
from aico_crdt.store.verify import verify, verify_directory
from tests.store.conftest import CONFIG, Clock, Families, identity_of, plain_kinds, send, view

PAGE = 4096


def rich(family: Any) -> DocumentStore:
    """A store with every kind of record: conflicts, text, an owed and a finished forget, what waits, evidence,
    acknowledgements, stubs, and a base."""
    a, b, c = family(3)
    with a.transaction() as tx:
        for n in range(12):
            tx.create("memory", {"content": "x" * 40 * n, "t": n, "tag": f"tag{n % 3}"}, id=f"m{n}")
        tx.insert_text("memory", "m1", 0, "text")
    with b.transaction() as tx:
        tx.create("memory", {"content": "of b"}, id="b0")
        tx.create("fact", {"content": "derived"}, id="f0")
        tx.create("memory", {"content": "y" * 30_000}, id="long")
    a.create("fact", {"content": "derived too"}, id="f0")
    send(a, b)
    send(b, a)
    a.edit("memory", "m2", {"content": "A"})
    b.edit("memory", "m2", {"content": "B"})
    send(b, a)
    a.forget("memory", "m3")
    a.forget("memory", "m4", now=True)
    a.create("memory", {"content": "born again"}, id="m4")
    send(a, c)
    with a.transaction() as tx:
        tx.create("memory", {"content": "kept at home"}, id="local", space="local")
    c.create("memory", {"content": "first of c"}, id="c0")
    c.create("memory", {"content": "second of c"}, id="c1")
    _deliver_late(c, a)
    return a  # type: ignore[no-any-return]


def _deliver_late(giver: DocumentStore, taker: DocumentStore) -> None:
    """Only the second of two entries, and one that does not verify: the first is held, the other kept as evidence."""
    source, target = StoreReplica(giver), StoreReplica(taker)
    tag = giver.directory.find("own", "memory").tag  # type: ignore[union-attr]
    runs, _ = source.read_entries(tag, [(giver.device, giver.incarnation, 1)], 1 << 20)
    last = decode_entry(runs[-1][-1])
    assert last.header.seq > 1
    target.ingest(tag, [[runs[-1][-1]]], giver.device)
    target.ingest(tag, [[encode_entry(Entry(last.header, bytes(64), last.items))]], giver.device)


def test_a_sound_store_is_clean_and_every_kind_of_record_was_looked_at(family: Any) -> None:
    store = rich(family)
    before = (store.path / "data.mdb").read_bytes()
    report = verify(store, refold=True)
    assert report.problems == []
    assert (store.path / "data.mdb").read_bytes() == before
    assert report.counts["documents"] >= 16
    assert report.counts["refolded"] >= 15
    assert report.counts["held"] == 1
    assert report.counts["evidence"] >= 1
    assert report.counts["owed"] == 1
    store.close()
    closed = verify_directory(store.path, identity_of(0), family.kinds, config=CONFIG)
    assert closed.problems == []
    assert closed.counts["documents"] == report.counts["documents"]


# Damaged bytes


def dump(directory: Path) -> dict[bytes, bytes]:
    """Every record as LMDB gives it; only of files whose pages are known to be sound."""
    with (
        lmdb.open(str(directory), readonly=True, lock=False, map_size=CONFIG.map_size_bytes) as environment,
        environment.begin() as transaction,
    ):
        return dict(transaction.cursor())


def damage(source: Path, target: Path, changes: dict[int, int]) -> None:
    """A copy of a closed store with bytes of its data file changed by exclusive or."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir()
    for name in ("STORE", "lives"):
        shutil.copyfile(source / name, target / name)
    data = bytearray((source / "data.mdb").read_bytes())
    for place, mask in changes.items():
        data[place] ^= mask
    (target / "data.mdb").write_bytes(data)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such store, closed; tests work on copies of it."""
    families = Families(tmp_path_factory.mktemp("rich"), plain_kinds(), Clock())
    path = rich(families).path
    families.close()
    families.open(path, 0).close()  # so that nothing is left to write at the next opening
    return path


@pytest.fixture
def copy(closed: Path, tmp_path: Path) -> Path:
    damage(closed, tmp_path / "copy", {})
    return tmp_path / "copy"


def test_fault_09_a_flipped_bit_anywhere_is_told_or_changes_nothing(closed: Path, family: Any, tmp_path: Path) -> None:
    original = dump(closed)
    size = (closed / "data.mdb").stat().st_size
    pick = random.Random(9)
    told = 0
    for _ in range(300):
        place, bit = pick.randrange(size), 1 << pick.randrange(8)
        damage(closed, tmp_path / "copy", {place: bit})
        report = verify_directory(tmp_path / "copy", identity_of(0), family.kinds, config=CONFIG)
        if report.clean:
            assert dump(tmp_path / "copy") == original, f"byte {place}, bit {bit}: unnoticed"
        else:
            told += 1
    assert 30 < told < 300


def test_fault_09_every_kind_of_record_is_guarded_in_key_and_value(closed: Path, family: Any, tmp_path: Path) -> None:
    original = dump(closed)
    data = (closed / "data.mdb").read_bytes()
    letters = {key[:1] for key in original}
    assert letters >= {bytes([letter]) for letter in b"MKFGEIADSROTUXLHPV"}
    pick = random.Random(10)
    for letter in sorted(letters):
        keys = [key for key in original if key[:1] == letter and len(original[key]) < 1500]
        for key in pick.sample(keys, min(3, len(keys))):
            node = key + original[key]
            places = _places(data, node)
            assert places
            for offset in (pick.randrange(1, len(key)), pick.randrange(len(key), len(node))):
                damage(closed, tmp_path / "copy", {at + offset: 0x10 for at in places})
                report = verify_directory(tmp_path / "copy", identity_of(0), family.kinds, config=CONFIG)
                assert not report.clean, f"a record under {letter!r} changed unnoticed at {offset}"


def _places(data: bytes, wanted: bytes) -> list[int]:
    found, at = [], data.find(wanted)
    while at >= 0:
        found.append(at)
        at = data.find(wanted, at + 1)
    return found


def test_fault_09_an_open_store_never_gives_wrong_data(closed: Path, family: Any, tmp_path: Path) -> None:
    """Damage in a record, not in the tree: reading gives the right row or a typed error."""
    damage(closed, tmp_path / "copy", {})
    (tmp_path / "copy" / "wake").mkdir()
    original, data = dump(closed), (closed / "data.mdb").read_bytes()
    with family.open(tmp_path / "copy", 0, lease=False) as store:
        expected = view(store)
    pick = random.Random(11)
    errors = 0
    for letter in (b"D", b"S", b"R", b"F", b"M"):
        for key in pick.sample(sorted(key for key in original if key[:1] == letter and len(original[key]) < 1500), 3):
            node = key + original[key]
            damage(closed, tmp_path / "copy", {at + len(node) - 9: 1 for at in _places(data, node)})
            (tmp_path / "copy" / "wake").mkdir()
            try:
                with family.open(tmp_path / "copy", 0, lease=False) as opened:
                    assert view(opened) == expected
            except MachineError:
                errors += 1
    assert errors >= 6


@pytest.mark.parametrize("cut", [0, 100, 4096, 8192, 40_960])
def test_a_data_file_cut_short_is_told(closed: Path, family: Any, tmp_path: Path, cut: int) -> None:
    damage(closed, tmp_path / "copy", {})
    with open(tmp_path / "copy" / "data.mdb", "r+b") as file:
        file.truncate(cut)
    assert not verify_directory(tmp_path / "copy", identity_of(0), family.kinds, config=CONFIG).clean


def test_a_life_key_file_cut_or_changed_is_told(closed: Path, family: Any, tmp_path: Path) -> None:
    damage(closed, tmp_path / "copy", {})
    lives = tmp_path / "copy" / "lives"
    whole = lives.read_bytes()
    for broken in (whole[:100], whole[:16], b"", b"x" + whole[1:]):
        lives.write_bytes(broken)
        assert not verify_directory(tmp_path / "copy", identity_of(0), family.kinds, config=CONFIG).clean
    lives.write_bytes(whole[:-5])  # beyond the keys in use there may be the rest of a write that was cut off
    assert verify_directory(tmp_path / "copy", identity_of(0), family.kinds, config=CONFIG).clean
    living = bytearray(whole)
    living[16 + 32 : 16 + 64] = bytes(32)  # the first life's key
    lives.write_bytes(living)
    report = verify_directory(tmp_path / "copy", identity_of(0), family.kinds, config=CONFIG)
    assert {problem.kind for problem in report.problems} >= {"item", "document"}


# Records that are sound each by itself but do not agree


def put(directory: Path, change: Any) -> None:
    """Change records directly, with right checksums."""
    _, checksum, _ = storage_keys(identity_of(0))
    with (
        lmdb.open(str(directory), map_size=CONFIG.map_size_bytes, sync=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        change(Records(transaction, checksum))


def first(records: Records, letter: bytes, nth: int = 0) -> tuple[bytes, bytes]:
    return list(records.scan(letter))[nth]


def _living(records: Records) -> bytes:
    """Collection number and key of some living document."""
    return next(key for key, value in records.scan(b"D") if value[12] == layout.WHOLE)[1:]


def _drop(letter: bytes) -> Any:
    return lambda records: records.delete(first(records, letter)[0])


def _drop_living(letter: bytes) -> Any:
    return lambda records: records.delete(letter + (records.get(b"D" + _living(records)) or b"")[4:12])


def _drop_state(records: Records) -> None:
    assert records.delete(next(key for key, _ in records.scan(b"S")))


def _lower(counter: int) -> Any:
    def change(records: Records) -> None:
        key = layout.meta("counters")
        value = bytearray(records.get(key) or b"")
        value[8 * counter : 8 * counter + 8] = (1).to_bytes(8, "big")
        records.put(key, bytes(value))

    return change


def _swap_rows(records: Records) -> None:
    (a, one), (b, two) = list(records.scan(b"R"))[:2]
    records.put(a, two)
    records.put(b, one)


def _other_hash(records: Records) -> None:
    key, value = next((k, v) for k, v in records.scan(b"D") if v[12] == layout.WHOLE)
    records.put(key, value[:46] + bytes(32) + value[78:])


def _revive(records: Records) -> None:
    key, value = next((k, v) for k, v in records.scan(b"D") if v[12] == layout.HIDDEN)
    records.put(key, value[:12] + bytes([layout.WHOLE]) + value[13:])


def _extra_index(records: Records) -> None:
    key, value = first(records, b"X")
    records.put(key[:-1] + bytes([key[-1] ^ 1]), value)


def _head_hash(records: Records) -> None:
    key, value = first(records, b"F")
    records.put(key, value[:20] + bytes(32) + value[52:])


def _head_signature(records: Records) -> None:
    key, value = first(records, b"F")
    records.put(key, value[:-64] + b"s" * 64)


def _no_signature(records: Records) -> None:
    for key, value in list(records.scan(b"E")):
        records.put(key, value[:8] + bytes(64) + value[72:])


def _arrival_of_another(records: Records) -> None:
    (a, one), (b, two) = list(records.scan(b"A"))[:2]
    records.put(a, two)
    records.put(b, one)


def _grave_of_another(records: Records) -> None:
    key, value = next((k, v) for k, v in records.scan(b"I") if v[:8] == layout.GRAVE)
    records.put(key, value[:8] + bytes(16) + value[24:])


def _owe_a_living_key(records: Records) -> None:
    key, value = first(records, b"U")
    living = _living(records)
    slot = (records.get(b"D" + living) or b"")[4:12]
    records.delete(key)
    records.put(key[:9] + living + key[27:], slot + value[8:])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        pytest.param(_drop(b"A"), "entry", id="an arrival is missing"),
        pytest.param(_drop(b"E"), "family", id="a statement is missing"),
        pytest.param(lambda r: r.delete(list(r.scan(b"E"))[-2][0]), "feed", id="an entry is missing"),
        pytest.param(_drop(b"G"), "feed", id="a feed's name is missing"),
        pytest.param(_drop_state, "document", id="a state is missing"),
        pytest.param(_drop_living(b"R"), "document", id="a row is missing"),
        pytest.param(_drop(b"D"), "document", id="a document is missing"),
        pytest.param(_drop(b"X"), "index", id="an index entry is missing"),
        pytest.param(_drop(b"T"), "document", id="a tombstone is missing"),
        pytest.param(_drop(b"U"), "key", id="an owed erasure is missing"),
        pytest.param(_drop(b"O"), "item", id="an operation is missing"),
        pytest.param(lambda r: r.delete(list(r.scan(b"L"))[3][0]), "counter", id="a gap in the change log"),
        pytest.param(lambda r: r.delete(layout.meta("spaces")), "family", id="the keys of the spaces are missing"),
        pytest.param(lambda r: r.put(layout.meta("format"), bytes(8)), "record", id="another format inside"),
        pytest.param(_lower(2), "counter", id="the change counter is behind"),
        pytest.param(_lower(3), "key", id="the slot counter is behind"),
        pytest.param(_lower(6), "entry", id="the arrival counter is behind"),
        pytest.param(_swap_rows, "document", id="rows swapped"),
        pytest.param(_other_hash, "document", id="another state hash"),
        pytest.param(_revive, "document", id="a hidden life made visible"),
        pytest.param(_extra_index, "index", id="an index entry too many"),
        pytest.param(_head_hash, "feed", id="another head"),
        pytest.param(_head_signature, "feed", id="another signature of a head"),
        pytest.param(_no_signature, "feed", id="signatures gone"),
        pytest.param(_arrival_of_another, "entry", id="arrivals swapped"),
        pytest.param(_grave_of_another, "item", id="a grave of another document"),
        pytest.param(_owe_a_living_key, "key", id="a living key is to be destroyed"),
    ],
)
def test_records_that_contradict_each_other_are_told(copy: Path, family: Any, change: Any, kind: str) -> None:
    put(copy, change)
    report = verify_directory(copy, identity_of(0), family.kinds, config=CONFIG)
    assert kind in {problem.kind for problem in report.problems}, report.problems


def test_refold_sees_what_the_state_alone_cannot(family: Any) -> None:
    """State, row and hash agree with one another, but an entry they are made of was taken away whole."""
    [a] = family(1)
    a.create("memory", {"content": "one"}, id="m")
    a.edit("memory", "m", {"content": "two"})

    def change(records: Records) -> None:
        key, value = list(records.scan(b"O"))[-1]
        records.delete(b"I" + value)
        records.delete(key)

    a.close()
    put(a.path, change)
    options = {"config": CONFIG}
    assert verify_directory(a.path, identity_of(0), family.kinds, **options).clean
    report = verify_directory(a.path, identity_of(0), family.kinds, refold=True, **options)
    assert [problem.kind for problem in report.problems] == ["document"]


def test_verify_tells_steps(family: Any) -> None:
    seen: set[str] = set()
    [a] = family(1)
    a.create("memory", {"content": "one"})
    verify(a, progress=lambda what, done, total: seen.add(what))
    assert seen >= {"records", "entries", "documents"}
