"""A warm process that forks the ones that are to die, so that each costs milliseconds and not an interpreter's start.

It has imported everything and opened nothing. A worker is a function of an importable module, called with a JSON
value; what it tells goes through a pipe to the one who asked for it, who therefore knows what was told before it died.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
WARM = ("aico_crdt.store", "aico_crdt.store.backup", "aico_crdt.store.bundle", "aico_crdt.store.prune", "crash.work")

_told = -1


def tell(*what: Any) -> None:
    """From a worker: one line, whole or not at all (a pipe takes up to 4,096 bytes as one)."""
    line = json.dumps(what).encode() + b"\n"
    assert len(line) <= select.PIPE_BUF
    os.write(_told, line)


class Worker:
    """A process the zygote forked. What it tells is kept in `lines` when :meth:`hear` is called."""

    def __init__(self, zygote: Zygote, pid: int, pipe: int) -> None:
        self.pid = pid
        self.lines: list[list[Any]] = []
        self._zygote = zygote
        self._pipe = pipe
        self._rest = b""
        self._ended = False

    def hear(self, timeout_s: float = 0.0) -> bool:
        """Take what it told so far; False when nothing came within `timeout_s`, or nothing ever will."""
        if self._ended or not select.select([self._pipe], [], [], timeout_s)[0]:
            return False
        while True:
            raw = os.read(self._pipe, 1 << 16)
            if not raw:
                self._ended = True
                return False
            *whole, self._rest = (self._rest + raw).split(b"\n")
            self.lines += [json.loads(line) for line in whole]
            if not select.select([self._pipe], [], [], 0)[0]:
                return True

    def hear_out(self, timeout_s: float = 60.0) -> list[list[Any]]:
        """All it tells until it ends."""
        ends = time.monotonic() + timeout_s
        while not self._ended:
            if not self.hear(max(0.0, ends - time.monotonic())) and not self._ended:
                raise TimeoutError(f"a worker of the crash harness did not end; last told: {self.lines[-1:]}")
        return self.lines

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def reap(self) -> int:
        """Its exit code, negative for the signal that killed it. To be called once, after its end or kill."""
        code = self._zygote.ask({"reap": self.pid})
        os.close(self._pipe)
        return int(code)

    def end(self) -> int:
        """Kill it, hear what it still told, reap it."""
        self.signal(signal.SIGKILL)
        self.hear_out()
        return self.reap()


class Zygote:
    """Start with :meth:`start`; forks workers until closed, and takes them along when it ends."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self._process = process
        self._line = line

    @classmethod
    def start(cls, environment: Mapping[str, str] | None = None) -> Self:
        ours, its = socket.socketpair()
        with its:
            process = subprocess.Popen(
                [sys.executable, "-m", "crash.zygote", str(its.fileno())],
                pass_fds=[its.fileno()],
                cwd=ROOT,
                env=environment,
            )
        return cls(process, ours)

    def fork(self, function: str, value: Any) -> Worker:
        """A process that calls ``function`` ("module:name") with `value` and ends."""
        reading, writing = os.pipe()
        try:
            pid = self.ask({"call": function, "value": value}, [writing])
        finally:
            os.close(writing)
        return Worker(self, pid, reading)

    def run(self, function: str, value: Any, timeout_s: float = 60.0) -> tuple[list[list[Any]], int]:
        """What such a process told, and its exit code."""
        worker = self.fork(function, value)
        told = worker.hear_out(timeout_s)
        return told, worker.reap()

    def ask(self, request: dict[str, Any], files: list[int] | None = None) -> Any:
        socket.send_fds(self._line, [json.dumps(request).encode()], files or [])
        answer = self._line.recv(1 << 16)
        if not answer:
            raise RuntimeError("the zygote of the crash harness died")
        return json.loads(answer)

    def close(self) -> None:
        self._line.close()
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(line: socket.socket) -> None:
    """Answer requests until the other side is gone, then kill what still runs."""
    running: set[int] = set()
    while True:
        raw, files, _, _ = socket.recv_fds(line, 1 << 16, 4)
        if not raw:
            break
        request = json.loads(raw)
        if "reap" in request:
            pid = request["reap"]
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            running.discard(pid)
        else:
            answer = os.fork()
            if not answer:
                line.close()
                _be(request, files[0])
            running.add(answer)
            os.close(files[0])
        line.sendall(json.dumps(answer).encode())
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be(request: dict[str, Any], pipe: int) -> None:
    """In the child: call the function and end, whatever happens."""
    global _told
    _told = pipe
    code = 1
    try:
        module, name = request["call"].split(":")
        getattr(importlib.import_module(module), name)(request["value"])
        code = 0
    except BaseException:  # noqa: BLE001  # the process ends here, and says why
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # `python -m` runs this file as __main__; workers tell through the module of its proper name.
    import crash.zygote as itself

    for warm in WARM:
        importlib.import_module(warm)
    itself._serve(socket.socket(fileno=int(sys.argv[1])))
