"""Repair: after damage anywhere, a store is whole again, or says what it asks for, or says that it cannot be mended."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import pytest

from aico_crdt.errors import Damaged, StoreInUse, WrongFamily, WrongKey
from aico_crdt.store import DocumentStore, StoreReplica, layout, membership, prune
from aico_crdt.store.records import DocumentRecord
from aico_crdt.store.repair import ASIDE_FILE, Repaired, repair
from aico_crdt.store.verify import verify, verify_directory
from aico_crdt.sync import Acknowledge, Ingest, IngestBodies, IngestManifest, IngestReport
from aico_crdt.sync.local import converge
from tests.store.conftest import CONFIG, Clock, Families, exchange, identity_of, plain_kinds, view
from tests.store.test_verify import PAGE, damage, dump

KINDS = plain_kinds()
Rows = dict[Any, Any]


def rows_of(store: DocumentStore) -> Rows:
    return {(kind, name): row for kind in ("memory", "fact") for name, row in view(store, kind).items()}


class Household:
    """Two devices that hold the same, closed: copies of the first are damaged, copies of the second help."""

    def __init__(self, root: Path) -> None:
        self.root = root
        families = Families(root, KINDS, Clock(), random.Random(1).randbytes)
        a, b = families(2)
        for n in range(40):
            a.create("memory", {"content": "x" * (n * 9), "t": n, "tag": f"t{n % 3}"}, id=f"m{n}")
            if n % 3 == 0:
                b.create("memory", {"content": "y" * n}, id=f"b{n}")
            if n % 8 == 0:
                exchange(a, b)
                a.edit("memory", f"m{n}", {"content": f"edited {n}"})
                b.edit("memory", f"m{n}", {"content": f"otherwise {n}"})
            if n % 7 == 3:
                a.forget("memory", f"m{n - 1}", now=n % 2 == 0)
            if n == 20:
                exchange(a, b)
                prune.compact(a)
                for name in ("m7", "m11", "b6"):  # so that their bases are records of their own
                    a.edit("memory", name, {"content": "edited later"})
        a.create("memory", {"content": "z" * 20_000}, id="long")
        a.create("memory", {"content": "typed"}, id="typed")
        for typed in ("long ago " * 4_000, "!", "!", "!"):
            with a.transaction() as transaction:
                transaction.insert_text("memory", "typed", 0, typed)
        a.create("directory", {"content": "profile"}, id="profile", space="directory")
        for store in (a, b):
            store.create("fact", {"content": f"of {store.writer}"}, id="f0")
        exchange(a, b)
        a.create("memory", {"content": "born again"}, id="m2")
        exchange(a, b)
        self.rows = rows_of(a)
        assert self.rows == rows_of(b)
        self.path, self.peer = a.path, b.path
        self.admission = membership.admission(b, a.device)
        families.close()
        families.open(self.path, 0).close()
        self.size = (self.path / "data.mdb").stat().st_size

    def damaged(self, changes: dict[int, int], name: str = "copy") -> Path:
        copy = self.root / name
        damage(self.path, copy, changes)
        (copy / "wake").mkdir()
        return copy

    def without(self, *keys: bytes) -> Path:
        """A copy in which records were lost: their values do not match their checksums any more."""
        copy = self.damaged({})
        with (
            lmdb.open(str(copy), map_size=CONFIG.map_size_bytes) as environment,
            environment.begin(write=True) as transaction,
        ):
            for key in keys:
                value = transaction.get(key)
                assert value is not None, key
                transaction.put(key, value[:-1] + bytes([value[-1] ^ 1]))
        (copy / "lock.mdb").unlink(missing_ok=True)
        return copy

    def records(self) -> dict[bytes, bytes]:
        return {key: value[: -layout.CHECK_BYTES] for key, value in dump(self.path).items()}


@pytest.fixture(scope="module")
def household(tmp_path_factory: pytest.TempPathFactory) -> Household:
    return Household(tmp_path_factory.mktemp("household"))


def mend(path: Path, **options: Any) -> Repaired:
    return repair(path, identity_of(0), KINDS, config=CONFIG, **options)


def open_store(path: Path, index: int = 0) -> DocumentStore:
    return DocumentStore.open(path, identity_of(index), KINDS, config=CONFIG)


def meet(household: Household, path: Path) -> tuple[Rows, Rows]:
    """What both devices hold once the repaired one has met a copy of the other, over real sessions."""
    other = household.root / "other"
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(household.peer, other, ignore=shutil.ignore_patterns("wake"))
    (other / "wake").mkdir()
    with open_store(path) as a, open_store(other, 1) as b:
        one, two = StoreReplica(a), StoreReplica(b)
        report = converge(one, two, carried_out(one, b.device), carried_out(two, a.device), a.now_ms())
        assert report.different == ()
        assert report.dropped == ""
        for store in (a, b):
            assert verify(store, refold=True).problems == []
        return rows_of(a), rows_of(b)


def differences(household: Household, found: tuple[Rows, Rows]) -> dict[Any, Any]:
    """What one of two devices holds otherwise than both did before: document → what each holds."""
    names = household.rows.keys() | found[0].keys() | found[1].keys()
    each = {name: (household.rows.get(name), found[0].get(name), found[1].get(name)) for name in names}
    return {name: values for name, values in each.items() if len({repr(value) for value in values}) > 1}


def carried_out(replica: StoreReplica, source: bytes) -> Callable[[Any], IngestReport | None]:
    def carry_out(effect: Ingest | IngestManifest | IngestBodies | Acknowledge) -> IngestReport | None:
        if isinstance(effect, Ingest):
            return replica.ingest(effect.tag, effect.runs, source)
        if isinstance(effect, IngestManifest):
            return replica.ingest_manifest(effect.tag, effect.raw, source)
        if isinstance(effect, IngestBodies):
            return replica.ingest_bodies(effect.tag, effect.bodies, source)
        replica.acknowledged(source, effect.tag, effect.heads, effect.erased)
        return None

    return carry_out


def tried(household: Household, changes: Sequence[dict[int, int]]) -> Counter[str]:
    """What becomes of each damage: harmless, whole at once, fetched from the peer, or mended with an admission."""
    found: Counter[str] = Counter()
    for number, change in enumerate(changes):
        path = household.damaged(change)
        where = f"damage {number} at {min(change)}"
        if verify_directory(path, identity_of(0), KINDS, config=CONFIG).clean:
            found["harmless"] += 1
            continue
        before = (path / "data.mdb").read_bytes()
        try:
            mend(path)
            by = ""
        except Damaged:
            assert (path / "data.mdb").read_bytes() == before, where
            mend(path, admission=household.admission)
            by = " by admission"
        assert verify_directory(path, identity_of(0), KINDS, config=CONFIG, refold=True).problems == [], where
        with open_store(path) as store:
            rows = rows_of(store)
        shown = {name: row for name, row in rows.items() if row[1]}
        assert shown.items() <= household.rows.items(), where  # nothing wrong, nothing forgotten
        if rows == household.rows:
            found[f"whole{by}"] += 1
        else:
            assert differences(household, meet(household, path)) == {}, where
            found[f"fetched{by}"] += 1
    return found


@pytest.mark.slow
def test_fault_09_a_byte_flipped_anywhere_is_mended_and_fetched_anew(household: Household) -> None:
    pick = random.Random(9)
    places = [pick.randrange(household.size) for _ in range(100)]
    found = tried(household, [{place: 1 << pick.randrange(8)} for place in places])
    assert found["whole"] > 15
    assert sum(found.values()) == 100


@pytest.mark.slow
def test_fault_09_a_page_that_is_lost_is_mended_and_fetched_anew(household: Household) -> None:
    pick = random.Random(10)
    pages = [pick.randrange(household.size // PAGE) for _ in range(40)]
    found = tried(household, [{page * PAGE + n: pick.randrange(1, 256) for n in range(PAGE)} for page in pages[:50]])
    assert found["whole"] > 5
    assert found["fetched"] > 1


@pytest.mark.slow
def test_fault_09_damage_in_many_places_at_once(household: Household) -> None:
    pick = random.Random(11)
    many = [{pick.randrange(2 * PAGE, household.size): 1 << pick.randrange(8) for _ in range(20)} for _ in range(12)]
    assert tried(household, many)["fetched"] > 0


# One kind of record after another


@pytest.mark.parametrize("letter", list("DRXATBOLPYC"))
def test_a_lost_record_is_made_anew_from_the_rest(household: Household, letter: str) -> None:
    """Any single record. Only the row of a document whose entries were pruned says which document it is."""
    records = household.records()
    of_entries = {records[b"D" + key[1:19]][4:12] for key in records if key[:1] == b"O"}
    keys = [key for key in records if key[:1] == letter.encode() and (letter != "R" or key[1:] in of_entries)]
    assert keys or letter == "Y"
    for key in keys[:: max(1, len(keys) // 3)]:
        path = household.without(key)
        assert mend(path).places == 1
        with open_store(path) as store:
            assert rows_of(store) == household.rows, key


@pytest.mark.parametrize("letter", list("FGK"))
def test_a_feed_or_a_collection_is_named_anew(household: Household, letter: str) -> None:
    keys = [key for key in household.records() if key[:1] == letter.encode()]
    for key in keys:
        path = household.without(key)
        mend(path)
        with open_store(path) as store:
            assert rows_of(store) == household.rows, key
        assert differences(household, meet(household, path)) == {}, key


@pytest.mark.parametrize("letter", ["S", "R"])
def test_a_document_that_cannot_be_made_anew_is_a_stub_until_a_peer_is_met(household: Household, letter: str) -> None:
    records = household.records()
    slot = next(
        DocumentRecord.unpack(value).slot
        for key, value in records.items()
        if key[:1] == b"D"
        and layout.life(b"S", DocumentRecord.unpack(value).slot) in records
        and DocumentRecord.unpack(value).state != layout.HIDDEN
        and not any(other[:1] == b"O" and other[1:19] == key[1:] for other in records)
    )
    path = household.without(layout.life(letter.encode(), slot))
    assert mend(path).counts["documents asked for again"] == 1
    with open_store(path) as store:
        assert sum(row.stub for row in store.rows("memory")) == 1
    assert differences(household, meet(household, path)) == {}


def test_an_item_of_the_directory_is_a_gap_that_a_peer_fills(household: Household) -> None:
    """A profile. The directory's entries are everybody's for ever, so its items can always be had again."""
    records = household.records()
    items = [
        key
        for key, value in records.items()
        if key[:5] == b"I" + bytes(3) + b"\1" and value[:8] not in (bytes(8), layout.GRAVE)
    ]
    path = household.without(items[0])
    assert mend(path).counts["items asked for again"] == 1
    with open_store(path) as store:
        tag = store.directory.directory.tag
        assert len(StoreReplica(store).gaps(tag)) == 1
    assert differences(household, meet(household, path)) == {}
    with open_store(path) as store:
        assert StoreReplica(store).gaps(tag) == []


def test_an_entry_that_lost_an_item_is_given_up(household: Household) -> None:
    records = household.records()
    items = [
        key
        for key, value in records.items()
        if key[:1] == b"I" and key[:5] != b"I" + bytes(3) + b"\1" and value[:8] not in (bytes(8), layout.GRAVE)
    ]
    path = household.without(items[len(items) // 2])
    assert mend(path).counts["entries given up"] > 0
    with open_store(path) as store:
        assert rows_of(store) == household.rows
    assert differences(household, meet(household, path)) == {}


def test_an_entry_that_is_lost_is_given_up_and_its_documents_stay(household: Household) -> None:
    number = max(int.from_bytes(key[1:5], "big") for key in household.records() if key[:1] == b"E")
    entries = [key for key in household.records() if key[:5] == b"E" + number.to_bytes(4, "big")]
    path = household.without(entries[len(entries) // 2])
    assert mend(path).counts["entries given up"] > 0
    with open_store(path) as store:
        assert rows_of(store) == household.rows
        store.create("memory", {"content": "goes on"}, id="new")
    a, b = meet(household, path)
    assert a == b
    assert a.keys() - household.rows.keys() == {("memory", "new")}


def test_what_was_forgotten_stays_forgotten_when_its_tombstone_is_lost(household: Household) -> None:
    """The tombstone, and everything else that tells of it: the next manifest brings it back."""
    records = household.records()
    dead = [key for key in records if key[:1] == b"T"]
    for grave in dead:
        rest = [key for key in (b"D" + grave[1:],) if key in records]
        path = household.without(grave, *rest)
        mend(path)
        with open_store(path) as store:
            shown = {name for name, row in rows_of(store).items() if row[1]}
            assert shown <= household.rows.keys()
            wanted = [tag for tag in store.directory.collections if StoreReplica(store).wants_manifest(tag)]
            assert wanted
        assert differences(household, meet(household, path)) == {}
        with open_store(path) as store:
            assert not any(StoreReplica(store).wants_manifest(tag) for tag in store.directory.collections)
            with store.reading() as (_, again):
                assert again.get(grave) is not None


# What is refused, and what is kept


def test_a_lost_statement_of_the_family_is_not_guessed(household: Household) -> None:
    statement = next(key for key in household.records() if key[:1] == b"E")
    path = household.without(statement)
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(Damaged, match="statement"):
        mend(path)
    assert (path / "data.mdb").read_bytes() == before
    assert sorted(file.name for file in path.iterdir() if not file.name.startswith("lock")) == [
        "STORE", "data.mdb", "lives", "wake",
    ]  # fmt: skip
    mend(path, admission=household.admission)
    with open_store(path) as store:
        assert rows_of(store) == household.rows
        assert len(store.directory.family.members) == 2
    assert differences(household, meet(household, path)) == {}


def test_keys_of_spaces_come_with_an_admission(household: Household, family: Any) -> None:
    path = household.without(layout.meta("spaces"))
    with pytest.raises(Damaged, match="keys"):
        mend(path)
    mend(path, admission=household.admission)
    with open_store(path) as store:
        assert rows_of(store) == household.rows
    path = household.without(layout.meta("spaces"))
    stranger, joined = family(2)
    with pytest.raises(WrongKey):
        mend(path, admission=membership.admission(stranger, joined.device))
    with pytest.raises(WrongFamily):  # the same device, in another family
        mend(path, admission=membership.admission(stranger, identity_of(0).device))
    assert (path / "data.mdb").exists()


def test_the_damaged_file_is_kept_and_a_sound_store_is_left_alone(household: Household) -> None:
    path = household.damaged({})
    before = (path / "data.mdb").read_bytes()
    assert not mend(path).changed
    assert (path / "data.mdb").read_bytes() == before
    path = household.without(next(key for key in household.records() if key[:1] == b"R"))
    before = (path / "data.mdb").read_bytes()
    assert mend(path).changed
    assert (path / ASIDE_FILE).read_bytes() == before
    assert (path / ASIDE_FILE).stat().st_mode & 0o777 == 0o600


def test_a_repaired_store_writes_as_a_new_incarnation(household: Household) -> None:
    with open_store(household.damaged({})) as store:
        before = store.incarnation
    path = household.without(next(key for key in household.records() if key[:1] == b"R"))
    mend(path)
    with open_store(path) as store:
        assert store.incarnation != before


def test_a_store_in_use_or_of_another_is_not_touched(household: Household) -> None:
    path = household.without(next(key for key in household.records() if key[:1] == b"R"))
    with open_store(path), pytest.raises(StoreInUse):
        mend(path)
    with pytest.raises(WrongKey):
        repair(path, identity_of(1), KINDS, config=CONFIG)


def test_both_meta_pages_gone_is_beyond_repair(household: Household) -> None:
    path = household.damaged({page * PAGE + n: 0xFF for page in (0, 1) for n in range(64)})
    with pytest.raises(Damaged, match="meta"):
        mend(path)


def test_one_meta_page_gone_is_mended(household: Household) -> None:
    for page in (0, 1):
        path = household.damaged({page * PAGE + n: 0x5A for n in range(PAGE)})
        mend(path)
        with open_store(path) as store:
            assert rows_of(store) == household.rows


def test_life_keys_that_do_not_open_what_lies_under_them(household: Household) -> None:
    """Damage in the other file: documents whose key changed are asked for again."""
    slots = [
        DocumentRecord.unpack(value).slot
        for key, value in household.records().items()
        if key[:1] == b"D" and DocumentRecord.unpack(value).state != layout.HIDDEN
    ]
    path = household.damaged({})
    raw = bytearray((path / "lives").read_bytes())
    raw[16 + 32 * slots[3]] ^= 1
    (path / "lives").unlink()
    (path / "lives").write_bytes(raw)
    mend(path)
    assert differences(household, meet(household, path)) == {}
