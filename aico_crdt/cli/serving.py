"""The mesh from the command line: serving until stopped, or meeting one's peers once.

Whom to dial stands in ``devices.yaml`` (see :mod:`aico_crdt.mesh.peers`), beside the configuration unless --peers
names another. A list gives no rights: only members of the family are linked, whoever dials.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from aico_crdt.cli import naming, output, reading, relatives
from aico_crdt.cli.command import InputFile, as_json, command
from aico_crdt.cli.merge import Side, counting, show_conflicts
from aico_crdt.cli.opening import App
from aico_crdt.companion.store import Store
from aico_crdt.config import Config
from aico_crdt.errors import InvalidValue, NotFound, Unreachable
from aico_crdt.mesh import Node, Peer, load_peers

UPKEEP_S: Final = 60.0
"""How often a serving process destroys the keys of what was forgotten and is past its undo window."""
POLL_S: Final = 0.05
_BIND: Final = re.compile(r"(?:tcp://)?(\[[0-9A-Fa-f:.%a-z]+\]|[\w.*-]+):([0-9]{1,5})", re.ASCII)


@command("serve", short_help="Link with the family's devices until stopped.")
@click.option("--bind", metavar="tcp://HOST:PORT", help="Where to listen.  [default: the settings host and port]")
@click.option(
    "--peers", "file", type=InputFile(), metavar="FILE",
    help="The devices to dial.  [default: devices.yaml beside the configuration, if there is one]",
)  # fmt: skip
def serve(app: App, bind: str | None, file: Path | None) -> None:
    """Link this device with the family's others until interrupted.

    Listens on loopback only, unless --bind or the settings say otherwise.
    """
    app.kept = "Every link was closed; everything acknowledged is kept."
    with app.open() as store:
        settings = _bound(store.config, bind)
        asyncio.run(_serve(store, settings, _peers(app, file)))


def _bound(settings: Config, bind: str | None) -> Config:
    if bind is None:
        return settings
    match = _BIND.fullmatch(bind)
    if match is None or int(match[2]) > 65_535:
        raise InvalidValue("An address to bind is tcp://HOST:PORT.", "Such as tcp://0.0.0.0:5555.")
    return replace(settings, host="0.0.0.0" if match[1] == "*" else match[1], port=int(match[2]))  # noqa: S104


def _peers(app: App, file: Path | None) -> tuple[Peer, ...]:
    path = file or app.home.peers
    return load_peers(path) if file is not None or path.exists() else ()


async def _serve(store: Store, settings: Config, peers: Sequence[Peer]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)

    def told(device: bytes, reason: str | None) -> None:
        if not stopped.is_set():
            output.say(f"{naming.name_of(store, device)} {'connected' if reason is None else f'left: {reason}'}.")

    async with Node(store, settings, peers, on_link=told) as node:
        dialing = output.plural(len(peers), "peer")
        output.say(f"Listening on {node.endpoint} as {store.device_label}; dialing {dialing}. Ctrl-C ends it.")
        while not stopped.is_set():
            await asyncio.to_thread(store.erase_due)
            try:
                await asyncio.wait_for(stopped.wait(), UPKEEP_S)
            except TimeoutError:
                continue
    output.say("Stopped.")


@command("sync", short_help="Meet the peers of devices.yaml once.")
@click.option("--peer", "names", multiple=True, help="Only this peer: its name or id; may be repeated.")
@click.option(
    "--peers", "file", type=InputFile(), metavar="FILE",
    help="The devices to dial.  [default: devices.yaml beside the configuration]",
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0.1, 86_400), default=30.0, show_default=True, help="Seconds in all.")
@as_json
def sync(app: App, names: tuple[str, ...], file: Path | None, timeout: float, in_json: bool) -> None:
    """Meet the peers of devices.yaml once: connect, bring both sides to the same, report, end.

    Exit code 1 if a peer did not answer or the time ran out.
    """
    app.kept = "What had arrived is kept; sync again for the rest."
    with app.open() as store:
        peers = _chosen(store, _peers(app, file), names)
        if not peers:
            raise NotFound(
                "There is no peer to dial.", f"List the family's devices in {app.home.peers}, or name a --peers file."
            )
        store.erase_due()
        with counting(store) as side:
            started = time.monotonic()
            met, quiet = asyncio.run(_meet(store, peers, timeout))
            took_ms = round((time.monotonic() - started) * 1000)
        _report(store, side, met, quiet, took_ms, in_json)
        revoked = _revoked(store)
        missed = [peer["name"] or peer["device"][:12] for peer in met if not peer["reached"]]
    if missed:
        raise Unreachable(
            f"No link with {', '.join(missed)} within {timeout:g} s.",
            f"{revoked}Check that it is serving, and its endpoint in devices.yaml. "
            "A device that was revoked gets no link: look at `aico-crdt devices` there.",
        )
    if not quiet:
        raise Unreachable(f"Not everything had passed after {timeout:g} s.", "Sync again, or allow a longer --timeout.")


def _revoked(store: Store) -> str:
    """What is to be said first if this device knows that it is no member any more."""
    if store.directory.family.trust_of(store.device) is not None:
        return ""
    return "This device was revoked; it can come back only with a new key, in a new store. "


def _chosen(store: Store, peers: Sequence[Peer], names: Sequence[str]) -> list[Peer]:
    if not names:
        return list(peers)
    by_name = {peer.name: peer for peer in peers}
    by_device = {peer.device: peer for peer in peers}
    chosen = []
    for name in names:
        peer = by_name.get(name) or by_device.get(naming.device(store, name).device)
        if peer is None:
            raise NotFound(f"{name!r} is not among the devices to dial.", "Add it to devices.yaml with its endpoint.")
        chosen.append(peer)
    return chosen


async def _meet(store: Store, peers: Sequence[Peer], timeout_s: float) -> tuple[list[dict[str, Any]], bool]:
    """What became of every peer, and whether nothing was left to pass."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    # It listens as well, on any free port of loopback: a serving process of this device keeps its own.
    async with Node(store, replace(store.config, host="127.0.0.1", port=0), peers) as node:
        wanted = {peer.device.hex() for peer in peers}
        while loop.time() < deadline:
            state = {peer["device"]: peer for peer in node.status()["peers"]}
            if all(state.get(device, {}).get("session") == "open" for device in wanted):
                break
            await asyncio.sleep(POLL_S)
        quiet = await node.quiet(max(0.1, deadline - loop.time()))
        state = {peer["device"]: peer for peer in node.status()["peers"]}
    met = []
    for peer in peers:
        found = state.get(peer.device.hex(), {})
        met.append(
            {
                "device": peer.device.hex(),
                "name": naming.name_of(store, peer.device),
                "reached": found.get("session") == "open",
                "bytes_in": found.get("bytes_in", 0),
                "bytes_out": found.get("bytes_out", 0),
                "reason": found.get("last_reason") or None,
            }
        )
    return met, quiet


def _report(store: Store, side: Side, met: Sequence[dict[str, Any]], quiet: bool, took_ms: int, in_json: bool) -> None:
    behind = {one.member.device.hex(): one.unacknowledged for one in relatives.devices(store)}
    for peer in met:
        peer["unacknowledged"] = behind.get(peer["device"], 0)
    rows = reading.conflicts(store)
    if in_json:
        fields = {"peers": list(met), "quiet": quiet, "took_ms": took_ms, "received": side.came_json()}
        output.dump("sync", {**fields, "content_hash": store.content_hash(), "conflicts": len(rows)})
        return
    output.table(
        ("peer", "state", "#received", "#sent", "#not acknowledged"),
        [
            (peer["name"], "met" if peer["reached"] else f"no link {peer['reason'] or ''}".strip(),
             output.size(peer["bytes_in"]), output.size(peer["bytes_out"]), peer["unacknowledged"])
            for peer in met
        ],
    )  # fmt: skip
    output.say(f"Received {output.plural(side.came.total(), 'entry', 'entries')} in {took_ms:,} ms.")
    output.facts([("content", store.content_hash().hex())])
    show_conflicts(store, rows)


COMMANDS: Final[dict[str, click.Command]] = {"serve": serve, "sync": sync}
