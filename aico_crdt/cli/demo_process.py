"""The demo's side of a device's process: asking it, waiting for it, ending it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from aico_crdt.errors import AicoError, MachineError

ANSWER_TIMEOUT_S: Final = 120.0
"""A device that says nothing for so long has failed; writing 200 records takes it under a second."""
END_TIMEOUT_S: Final = 5.0


class DeviceProcess:
    """A device of the demo in an operating-system process of its own. See :mod:`aico_crdt.cli.demo_device`.

    Attributes:
        busy: it was asked for something whose result has not been taken yet.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home
        self.busy = False
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603  # our own module, by this interpreter
            [sys.executable, "-m", "aico_crdt.cli.demo_device", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the demo's to handle; it ends its devices itself
        )
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, verb: str, **arguments: Any) -> None:
        """Ask for something, and do not wait; what was asked before has to be done first."""
        if self.busy:
            self.result()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([verb, arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        self.busy = True

    def result(self) -> Any:
        """What became of what was asked.

        Raises:
            AicoError: what the device raised. MachineError: it does not answer any more.
        """
        try:
            line = self._answers.get(timeout=ANSWER_TIMEOUT_S)
        except queue.Empty:
            raise MachineError(f"The {self.name} did not answer for {ANSWER_TIMEOUT_S:g} s.") from None
        if not line:
            raise self._gone()
        self.busy = False
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            what, cure = answer["error"]
            raise AicoError(f"On the {self.name}: {what}", cure)
        return answer["done"]

    def ask(self, verb: str, **arguments: Any) -> Any:
        """:meth:`begin` and :meth:`result`."""
        self.begin(verb, **arguments)
        return self.result()

    def end(self) -> None:
        """The process is gone when this returns, by itself or not."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.wait()

    def _listen(self, stdout: Any) -> None:
        for line in stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _gone(self) -> MachineError:
        return MachineError(
            f"The process of the {self.name} ended (exit code {self._process.wait()}).", "See what it wrote to stderr."
        )


@contextmanager
def processes(root: Path, names: tuple[str, ...]) -> Iterator[dict[str, DeviceProcess]]:
    """One process each, in a directory each under `root`; none is left when the block ends, however it ends."""
    started: dict[str, DeviceProcess] = {}
    try:
        for name in names:
            started[name] = DeviceProcess(name, root / name)
        yield started
        for process in started.values():
            process.end()
    except BaseException:
        for process in started.values():
            process.kill()
        raise
