"""Device profiles: what each device of the family says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from aico_crdt.errors import InvalidValue
from aico_crdt.ids import device_name


def test_every_member_reads_every_profile(companions: Any, sync: Any) -> None:
    a, b, c = companions(3, trusts=("full", "limited"))
    for store, name in ((a, "Laptop"), (b, "Phone"), (c, "Tablet")):
        store.devices.describe(friendly_name=name, ai_capabilities=["chat"])
    sync(a, b, c)
    for store in (a, b, c):
        names = [store.devices.profile(each.device)["friendly_name"] for each in (a, b, c)]
        assert names == ["Laptop", "Phone", "Tablet"]


def test_describing_again_changes_only_what_is_named(store: Any) -> None:
    assert store.devices.profile(store.device) is None
    store.devices.describe(friendly_name="Laptop", location="desk", companion_role=None)
    store.devices.describe(location="kitchen", companion_role="primary")
    store.devices.describe(friendly_name=None)
    assert store.devices.profile(store.device).fields == {"location": "kitchen", "companion_role": "primary"}
    with pytest.raises(InvalidValue, match="Did you mean 'location'"):
        store.devices.describe(locaton="desk")
    with pytest.raises(InvalidValue, match="not one of"):
        store.devices.describe(device_type="fridge")


def test_members_and_their_names(companions: Any) -> None:
    a, b = companions(2)
    assert [(member.name, member.trust) for member in a.devices.members()] == [("laptop", "full"), ("phone", "full")]
    assert a.devices.name_of(device_name(b.device)) == "phone"
    assert a.devices.name_of(b.writer) == "phone"
    assert a.devices.name_of("unknown-name") == "unknown-name"
    assert a.device_label == "laptop"
