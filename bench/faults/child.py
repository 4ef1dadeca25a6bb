"""A process that is told what to do by lines of JSON, and can be killed at any time.

``{"do": verb, …}`` is answered by ``{"ok": result}`` or ``{"error": text}``. Lines with an ``event`` may come at any
time, and are handed to whoever listens.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.faults.system import Gone, Refused

TIMEOUT_S = 60.0
"""A call that takes longer is treated as one that will never be answered."""
ROOT = Path(__file__).resolve().parents[2]
Event = Mapping[str, Any]


class Child:
    """Calls queue behind one another; thread-safe."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(env or {})},
                cwd=ROOT,
                text=True,
                bufsize=1,
            )
        self._on_event = on_event
        self._lock = threading.Lock()
        self._answers: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._gone = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The answer to one call. Raises Refused, Gone."""
        answer = self.exchange({"do": verb, **arguments})
        if "error" in answer:
            raise Refused(str(answer["error"]))
        return answer.get("ok")

    def exchange(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sends a line, and waits for the next one that is no event. Raises Gone."""
        with self._lock:
            self.tell(message)
            try:
                answer = self._answers.get(timeout=TIMEOUT_S)
            except queue.Empty:
                self.kill()
                raise Gone(f"no answer within {TIMEOUT_S:.0f} s") from None
            if answer is None:
                self._gone = True
                raise Gone("the process ended")
            return answer

    def tell(self, message: Mapping[str, Any]) -> None:
        """Sends a line. Raises Gone."""
        assert self._process.stdin is not None
        if self._gone:
            raise Gone("the process had ended")
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # broken, or closed by ourselves
            self._gone = True
            raise Gone("the process ended") from None

    def kill(self) -> None:
        """By SIGKILL, at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join(TIMEOUT_S)

    def close(self) -> None:
        """Its input ends; then it has time to end by itself."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._reader.join(TIMEOUT_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library that prints
            if "event" in message:
                self._on_event(message)
            else:
                self._answers.put(message)
        self._answers.put(None)
