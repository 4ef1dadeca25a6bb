"""What `aico-crdt demo` tells people: act by act, in figures that were asked of each device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aico_crdt.cli import output
from aico_crdt.cli.demo_story import DEVICES

HASH_CHARS: Final = 8
"""Of a content hash where it is compared by eye; the result shows all of it."""
SHOWN: Final = 5
"""Open conflicts told one by one."""
_DID: Final = {
    "edit": "edited the memory below",
    "say": "added a message",
    "feel": "recorded an emotion",
    "forget": "forgot a memory",
}


def show(report: Mapping[str, Any], kept: Path | None) -> None:
    """The whole report on stdout."""
    _family(report)
    _load(report)
    _apart(report)
    _healed(report)
    _feeling(report)
    _conflicts(report)
    _receipts(report)
    _verdict(report, kept)


def _family(report: Mapping[str, Any]) -> None:
    family = report["family"]
    output.title(f"A family of three devices ({family['ms']:,} ms)")
    output.say("The laptop founded it; phone and tablet were admitted. Each is a process with its own key and store.")
    rows = [(name, family["members"][name][:16], family["processes"][name]) for name in DEVICES]
    output.table(("device", "id", "#process"), rows)
    output.say()


def _load(report: Mapping[str, Any]) -> None:
    load = report["load"]
    bundled = report["input"] is None
    what = "A household's month" if bundled else report["input"]
    output.title(f"{what}: {output.plural(report['records'], 'record')}, everywhere after {load['load_ms']:,} ms")
    where = "Every record was written on the device that it names" if bundled else "Records were spread over the three"
    output.say(f"{where}; links of CurveZMQ carried what is shared to the others.")
    rows = [(name, load["written"][name], output.size(load["received_bytes"][name])) for name in DEVICES]
    output.table(("device", "#wrote", "#received"), rows)
    output.say()


def _apart(report: Mapping[str, Any]) -> None:
    apart = report["apart"]
    output.title("The links are cut, and all three write")
    rows = [
        (
            name,
            ", ".join(_DID[verb] for verb in apart["writes"][name]),
            f"{sum(apart['commit_us'][name]) / len(apart['commit_us'][name]) / 1000:.1f} ms",
            apart["content_hashes"][name][:HASH_CHARS],
        )
        for name in DEVICES
    ]
    output.table(("device", "what it did alone", "#a commit", "content"), rows)
    output.say()


def _healed(report: Mapping[str, Any]) -> None:
    heal, devices = report["heal"], report["devices"]
    output.title(f"The links are back: the same everywhere {heal['converged_ms']:,} ms later")
    output.say(f"The links themselves took {heal['linked_ms']:,} ms of it.")
    kinds = sorted({kind for one in devices.values() for kind in one["shared"]})
    rows = [
        (
            name,
            *(f"{devices[name]['shared'].get(kind, 0):,}" for kind in kinds),
            sum(devices[name]["local"].values()),
            output.size(heal["received_bytes"][name]),
            devices[name]["content_hash"][:HASH_CHARS],
        )
        for name in DEVICES
    ]
    columns = ("device", *(f"#{output.plural_of(kind)}" for kind in kinds), "#private", "#received", "content")
    output.table(columns, rows)
    if any(devices[name]["local"] for name in DEVICES):
        output.say("What is private never left the device it was written on.")
    output.say()


def _feeling(report: Mapping[str, Any]) -> None:
    felt = report["feeling"]
    output.title(f"How the {felt['subject']} feels, blended from {_and(felt['contributing_devices'])}")
    output.facts(
        [
            ("primary", felt["primary"]),
            ("valence", f"{felt['valence']:+.6f}"),
            ("arousal", f"{felt['arousal']:.6f}"),
            ("agreement", f"{felt['agreement']:.6f}"),
        ]
    )
    output.say()


def _conflicts(report: Mapping[str, Any]) -> None:
    found = report["conflicts"]
    output.title(f"Open: {output.plural(len(found), 'conflict')}, nothing was lost silently")
    for one in found[:SHOWN]:
        output.say(f"The {one['field']} of {one['kind']} {one['id']} was edited on two devices; * is what readers see.")
        rows = [
            (
                "*" if version["value"] == one["seen"] else "",
                version["device"],
                output.when(version["time_ms"]),
                output.brief(version["value"]),
            )
            for version in one["versions"]
        ]
        output.table(("", "device", "when", "what"), rows)
    if len(found) > SHOWN:
        output.say(f"… and {len(found) - SHOWN:,} more")
    output.say()


def _receipts(report: Mapping[str, Any]) -> None:
    forgotten, said = report["receipts"]["forgotten"], report["receipts"]["said"]
    output.title(f"Receipts (complete after {report['heal']['receipts_ms']:,} ms)")
    on = ["laptop", *said["on"]]
    output.facts(
        [
            (f"message {said['id']}", f"on disk on {_and(on)}{_still(said['missing'])}"),
            (
                f"memory {forgotten['id']}",
                f"forgotten; its key is destroyed on {_and(forgotten['erased_on'])}{_still(forgotten['owing'])}",
            ),
        ]
    )
    output.say()


def _verdict(report: Mapping[str, Any], kept: Path | None) -> None:
    output.title("Result")
    for name in DEVICES:
        one = report["devices"][name]
        sound = "every byte and signature verified" if not one["problems"] else f"{len(one['problems'])} problems"
        output.say(f"{name:8}{one['content_hash']}  {sound}")
        for problem in one["problems"][:SHOWN]:
            output.say(f"        {problem}")
    output.say()
    if report["failures"]:
        for failure in report["failures"]:
            output.say(f"FAILED: {failure}")
    else:
        output.say(f"All three hold the same, byte for byte. {report['total_ms'] / 1000:.1f} s in all.")
    if kept is not None:
        output.say(f"Kept in {kept}. Look at one: AICO_CRDT_HOME={kept / 'laptop'} aico-crdt status")


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "no device"


def _still(names: Sequence[str]) -> str:
    return f"; not yet on {_and(names)}" if names else ""
