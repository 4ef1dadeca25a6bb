"""`aico-crdt demo`: a family of three devices, each a process of its own, parts, writes, meets again and agrees.

The laptop founds the family and admits the phone and the tablet, whose admissions travel as files. All three are
linked over CurveZMQ on loopback and load the bundled month (or an export), every record on the device that it names.
Then the links are cut, all three write, and the links come back. What is reported was asked of each device by itself.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from aico_crdt.cli import demo_report, output
from aico_crdt.cli.command import InputFile, as_json, command
from aico_crdt.cli.demo_process import DeviceProcess, processes
from aico_crdt.cli.demo_story import DEVICES, TYPES, Glimpse, Placing, Story, anyones, household
from aico_crdt.cli.opening import App
from aico_crdt.cli.transfer import Source, naming_file
from aico_crdt.companion.imports import Record
from aico_crdt.errors import InvalidValue
from aico_crdt.samples import household_file

BATCH: Final = 200
"""Records a commit."""
STALL_S: Final = 30.0
"""How long nothing may arrive anywhere before it counts as not converging."""
POLL_S: Final = 0.01


@command("demo", short_help="Let three devices part, write and agree.")
@click.option(
    "--input", "file", type=InputFile(), metavar="FILE",
    help="Load this export instead: JSON lines of `aico-crdt export`, or ChatGPT's conversations.json.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Keep the three devices there. AICO_CRDT_HOME=DIR/laptop then makes every command look at the laptop.",
)  # fmt: skip
@as_json
def demo(app: App, file: Path | None, keep: Path | None, in_json: bool) -> None:
    """Let three devices part, write, meet again and agree, and report what became of it.

    Everything happens in a temporary directory and on loopback; your own store is neither read nor written.
    Exit code 1 if anything did not converge.
    """
    app.kept = "The three devices and what they held are gone."
    with _directory(keep, app) as root, household_file() as bundled:
        report = _Run(root, file or bundled, household if file is None else anyones).run()
    if in_json:
        output.dump("demo", report)
    else:
        demo_report.show(report, keep)
    if report["failures"]:
        raise click.exceptions.Exit(1)


@contextmanager
def _directory(keep: Path | None, app: App) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="aico-demo-") as directory:
            yield Path(directory)
        return
    root = keep.absolute()
    if root.exists() and any(root.iterdir()):
        raise InvalidValue(f"{root} is not empty.", "Name a directory that is not there yet.")
    before = root.exists()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield root
    except BaseException:
        for name in DEVICES:
            shutil.rmtree(root / name, ignore_errors=True)
        if not before:
            shutil.rmtree(root, ignore_errors=True)
        raise


class _Run:
    """One run of the demo, act by act. `self._report` is what it returns; see docs/commands.md."""

    def __init__(self, root: Path, file: Path, tell: Callable[[Glimpse, int], Story]) -> None:
        self._root = root
        self._file = file
        self._tell = tell
        self._report: dict[str, Any] = {}
        self._failures: list[str] = []
        self._total = 0

    def run(self) -> dict[str, Any]:
        with naming_file(self._file), output.progress("Checking") as bar:
            source = Source(self._file, lambda document_id: False)
            total = self._total = source.check(bar)
        began = time.monotonic()
        with processes(self._root, DEVICES) as devices, output.progress("A family of three", total, phases=True) as bar:
            self._devices = devices
            self._found()
            self._link()
            bar.step("Loading", 0, total)
            glimpse = self._load(source, bar)
            story = self._tell(glimpse, int(time.time() * 1000))
            self._devices["laptop"].ask("write", writes=story.before)
            self._converge("loading")
            self._report["load"] |= {"ms": _ms(began), "received_bytes": self._each("received_bytes")}
            bar.step("Apart", 0)
            self._part(story)
            bar.step("Healing", 0)
            self._heal(story)
            bar.step("Looking", 0)
            self._look(story)
        return {
            "records": total,
            "input": None if self._tell is household else str(self._file),
            **self._report,
            "total_ms": _ms(began),
            "failures": self._failures,
        }

    # Acts

    def _found(self) -> None:
        """A family: founded by the laptop; the others' admissions are carried to them as files."""
        began = time.monotonic()
        laptop = self._devices["laptop"]
        members = {"laptop": laptop.ask("identity")}
        family = laptop.ask("found", name="laptop", device_type=TYPES["laptop"])
        for name in DEVICES[1:]:
            device = self._devices[name].ask("identity")
            file = str(self._root / f"{name}.admission")
            laptop.ask("admit", device=device, name=name, device_type=TYPES[name], file=file)
            joined = self._devices[name].ask("join", file=file)
            Path(file).unlink()
            if joined != family:
                self._failures.append(f"The {name} joined another family.")
            members[name] = device
        self._members = members
        pids = {name: device.pid for name, device in self._devices.items()}
        self._report["family"] = {"id": family, "members": members, "processes": pids, "ms": _ms(began)}

    def _link(self) -> None:
        """Every pair is linked: each device dials those that listen already."""
        listening: list[dict[str, Any]] = []
        for name in DEVICES:
            endpoint = self._devices[name].ask("link", peers=listening)
            listening.append({"id": self._members[name], "name": name, "endpoints": [endpoint]})
        for device in self._devices.values():
            device.begin("linked", count=len(DEVICES) - 1)
        self._results()

    def _load(self, source: Source, bar: output.Bar) -> Glimpse:
        """Conversations first, on all three: whoever adds a message to one must have it."""
        placing, glimpse = Placing(), Glimpse()
        began = time.monotonic()
        written = dict.fromkeys(DEVICES, 0)
        for heads in (True, False):
            waiting: dict[str, list[Record]] = {name: [] for name in DEVICES}
            for batch in source.batches():
                for record in batch:
                    if (record.kind == "conversation") != heads:
                        continue
                    name = placing.device(record)
                    glimpse.see(record)
                    waiting[name].append(record)
                    written[name] += 1
                    if len(waiting[name]) == BATCH:
                        self._write_records(name, waiting)
                        bar(sum(written.values()), self._total)
            for name in DEVICES:
                self._write_records(name, waiting)
            self._results()
            self._converge("loading")
        self._report["load"] = {"written": written, "load_ms": _ms(began)}
        return glimpse

    def _write_records(self, name: str, waiting: dict[str, list[Record]]) -> None:
        if waiting[name]:
            records = [[one.kind, one.id, one.device, one.fields] for one in waiting[name]]
            self._devices[name].begin("load", records=records)
            waiting[name] = []

    def _part(self, story: Story) -> None:
        """No links; all three write at once."""
        for device in self._devices.values():
            device.begin("cut")
        self._results()
        for name, device in self._devices.items():
            device.begin("write", writes=story.meanwhile[name])
        took = self._results()
        hashes = {name: found["content_hash"] for name, found in self._each("count").items()}
        if len(set(hashes.values())) != len(DEVICES):
            self._failures.append("The devices heard each other although their links were cut.")
        self._report["apart"] = {
            "writes": {name: [verb for verb, _ in writes] for name, writes in story.meanwhile.items()},
            "commit_us": took,
            "content_hashes": hashes,
        }

    def _heal(self, story: Story) -> None:
        """The links are back; the forgotten memory is erased everywhere, and everybody says so."""
        began = time.monotonic()
        self._link()
        linked_ms = _ms(began)
        self._converge("healing")
        converged_ms, received = _ms(began), self._each("received_bytes")
        self._each("erase")
        phone, laptop = self._devices["phone"], self._devices["laptop"]
        forgotten = self._receipt(phone, "memory", story.forgotten, lambda found: not found["owing"])
        said = self._receipt(laptop, "conversation", story.said, lambda found: found["everywhere"])
        self._report["heal"] = {
            "linked_ms": linked_ms,
            "converged_ms": converged_ms,
            "receipts_ms": _ms(began),
            "received_bytes": received,
        }
        self._report["receipts"] = {"forgotten": forgotten, "said": said}

    def _look(self, story: Story) -> None:
        """What each device says by itself, and whether they agree."""
        counts, problems = self._each("count"), self._each("verify")
        feelings = self._each("feeling", subject=story.subject, as_of_ms=story.as_of_ms)
        conflicts = self._each("conflicts")
        self._report["devices"] = {name: {**counts[name], "problems": problems[name]} for name in DEVICES}
        self._report["feeling"] = feelings["laptop"]
        self._report["conflicts"] = conflicts["laptop"]
        self._report["edited"] = story.edited
        for what, found in (
            ("content", {name: (one["content_hash"], one["shared"]) for name, one in counts.items()}),
            ("blended emotion", feelings),
            ("open conflicts", conflicts),
        ):
            if any(found[name] != found["laptop"] for name in DEVICES):
                self._failures.append(f"The {what} differs between the devices.")
        for name in DEVICES:
            if counts[name]["waiting"] or counts[name]["rejected"]:
                self._failures.append(f"The {name} could not apply everything.")
            if problems[name]:
                self._failures.append(f"The store of the {name} is not sound.")
        open_versions = [len(one["versions"]) for one in conflicts["laptop"] if one["id"] == story.edited]
        if open_versions != [2]:
            self._failures.append("The two edits of one memory are not an open conflict.")
        if feelings["laptop"]["contributing_devices"] != sorted(DEVICES):
            self._failures.append("Not every device contributes to the blended emotion.")
        self._report["equal"] = len({one["content_hash"] for one in counts.values()}) == 1

    # Waiting

    def _converge(self, act: str) -> None:
        """Wait until all have come equally far."""
        self._until(lambda: self._each("heads"), lambda heads: len(set(heads.values())) == 1, act)

    def _receipt(
        self, device: DeviceProcess, kind: str, id: str, complete: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        found: dict[str, Any] = self._until(
            lambda: device.ask("receipt", kind=kind, id=id), complete, "waiting for a receipt"
        )
        return found

    def _until(self, look: Callable[[], Any], reached: Callable[[Any], bool], act: str) -> Any:
        """What was seen last; a failure is noted when nothing has moved for STALL_S."""
        before, moved = None, time.monotonic()
        while not reached(found := look()):
            if found != before:
                before, moved = found, time.monotonic()
            elif time.monotonic() - moved > STALL_S:
                self._failures.append(f"Nothing moved for {STALL_S:g} s while {act}.")
                return found
            time.sleep(POLL_S)
        return found

    def _each(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Ask all at once."""
        for device in self._devices.values():
            device.begin(verb, **arguments)
        return self._results()

    def _results(self) -> dict[str, Any]:
        return {name: device.result() for name, device in self._devices.items() if device.busy}


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


COMMANDS: Final = {"demo": demo}
