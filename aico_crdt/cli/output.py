"""What commands print: tables and lines for people, JSON for programs, progress on a terminal's stderr.

Text that comes from documents or other devices passes through :func:`clean`, so that it cannot steer the terminal.
JSON documents carry ``"type"`` and ``"version"``; within a version fields are added, never changed or removed. Bytes
are hexadecimal, stamps are their 13 characters, times are Unix milliseconds. Drawn in docs/commands.md.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aico_crdt import clock

JSON_VERSION: Final = 1
PIPE_WIDTH: Final = 10_000
"""Columns where nobody looks: nothing is folded or cut in a pipe."""
_STEERING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(*, stderr: bool = False) -> Console:
    plain = bool(os.environ.get("NO_COLOR"))
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return _Console(
        stderr=stderr, width=width, highlight=False, markup=False, emoji=False, no_color=plain,
        color_system=None if plain else "auto",
    )  # fmt: skip


def clean(text: object, limit: int = 0) -> str:
    """`text` on one line, without anything that steers a terminal; cut to `limit` characters, if given."""
    line = _STEERING.sub(lambda match: " " if match[0] in "\t\n\r" else "\N{REPLACEMENT CHARACTER}", str(text))
    return line if not limit or len(line) <= limit else line[: limit - 1] + "…"


def say(text: str = "") -> None:
    """One line for people on stdout; folded by the terminal, never by us."""
    _console().print(Text(text), soft_wrap=True)


def title(text: str) -> None:
    """A line above what follows; bold on a terminal."""
    _console().print(Text(clean(text), style="bold"), soft_wrap=True)


def note(text: str) -> None:
    """One line on stderr: what is done beside the result."""
    _console(stderr=True).print(Text(text), soft_wrap=True)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, the values aligned."""
    found = [(name, clean(value)) for name, value in pairs]
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        say(f"{name:{width}}  {value}".rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """A table; a column whose name begins with ``#`` holds numbers. `empty` is said instead of a table without rows."""
    made = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        if name.startswith("#"):
            made.add_column(name[1:], justify="right", no_wrap=True)
        else:
            made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if value is None else clean(value)) for value in row))
    if not made.row_count and empty:
        say(empty)
        return
    console = _console()
    if console.is_terminal:
        console.print(made)
        return
    with console.capture() as captured:
        console.print(made)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def dump(type: str, fields: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    text = json.dumps({"type": type, "version": JSON_VERSION, **_plain(fields)}, ensure_ascii=False, indent=2)
    sys.stdout.write(text + "\n")


def dump_line(fields: Mapping[str, Any]) -> None:
    """One JSON document on one line, at once: for what goes on."""
    sys.stdout.write(json.dumps(_plain(fields), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class Bar:
    """What a long task tells how far it has come."""

    def __init__(self, bar: Progress, task: TaskID, *, phases: bool = False) -> None:
        self._bar = bar
        self._task = task
        self._phases = phases

    def __call__(self, done: int, total: int | None = None) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def step(self, what: str, done: int, total: int = 0) -> None:
        """As a call, with a name for what is being done."""
        if self._phases:
            note(f"{clean(what)} …")
        self._bar.update(self._task, description=clean(what, 40), completed=done, total=total or None)


@contextmanager
def progress(what: str, total: int | None = None, *, phases: bool = False) -> Iterator[Bar]:
    """A bar on stderr while the block runs, only on a terminal; elsewhere a line for every phase, if `phases`."""
    phases = phases and not sys.stderr.isatty()
    if phases:
        note(f"{clean(what)} …")
    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        yield Bar(bar, bar.add_task(what, total=total), phases=phases)


# Forms


def when(ms: int) -> str:
    """Unix milliseconds as a UTC time, empty for 0."""
    if not ms:
        return ""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError):
        return f"{ms} ms"  # years beyond 9999 exist in stamps


def stamp(hlc: int) -> str:
    return when(clock.milliseconds(hlc))


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def counts(found: Mapping[str, int]) -> str:
    """How many of each kind of record: ``2 conversations, 1 memory``."""
    return ", ".join(plural(count, kind, plural_of(kind)) for kind, count in sorted(found.items()))


def plural_of(kind: str) -> str:
    return "memories" if kind == "memory" else f"{kind}s"


def brief(value: Any, limit: int = 100) -> str:
    """A field's value on one line."""
    text = value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
    return clean(unicodedata.normalize("NFC", text), limit)
