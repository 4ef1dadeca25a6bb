"""The bell: every commit rings once for each process that listens, over datagram sockets in the store's directory.

A ring carries nothing: whoever hears it reads the change log. A lost ring is made up by the next one, and by the
listener's own time-out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Final

MAX_LISTENERS: Final = 256
"""Sockets rung at most; more than any device has processes."""


class Bell:
    """Rings for all processes of a device, and lets this one listen. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sender: socket.socket | None = None
        self._process = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._ears: list[Ear] = []

    def ring(self) -> None:
        """Wake every listener; sockets whose process died are removed."""
        try:
            names = os.listdir(self._directory)[:MAX_LISTENERS]
        except FileNotFoundError:
            return
        if not names:
            return
        with self._lock:
            if self._sender is None or self._process != os.getpid():
                self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sender.setblocking(False)
                self._process = os.getpid()
            for name in names:
                path = self._directory / name
                try:
                    self._sender.sendto(b"\1", _address(path))
                except (ConnectionRefusedError, FileNotFoundError):
                    with contextlib.suppress(FileNotFoundError):
                        path.unlink()
                except OSError:
                    continue  # a full buffer: it has rings waiting already

    def listen(self) -> Ear:
        """A new ear, to be closed by the caller."""
        ear = Ear(self._directory)
        with self._lock:
            self._ears.append(ear)
        return ear

    def close(self) -> None:
        self._closed = True
        with self._lock:
            if self._sender is not None:
                self._sender.close()
                self._sender = None
            for ear in self._ears:
                ear.close()
            self._ears.clear()


class Ear:
    """Hears rings. One thread waits at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._path = directory / f"{os.getpid()}.{secrets.token_hex(4)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_address(self._path))
        os.chmod(self._path, 0o600)
        self._open = True
        self._process = os.getpid()

    def fileno(self) -> int:
        """For ``select`` and event loops: readable when rung."""
        return self._socket.fileno()

    def wait(self, timeout_s: float | None) -> bool:
        """True when rung (rings that piled up count as one), False after `timeout_s` or when closed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._open:
            left = 0.5 if deadline is None else min(0.5, deadline - time.monotonic())
            if left < 0:
                return False
            try:
                self._socket.settimeout(left)
                self._socket.recv(16)
            except TimeoutError:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                continue
            except OSError:
                return False
            self.drain()
            return True
        return False

    def drain(self) -> None:
        """Forget rings that have piled up."""
        with contextlib.suppress(OSError):
            self._socket.setblocking(False)
            while self._socket.recv(16):
                pass

    def close(self) -> None:
        if self._open:
            self._open = False
            self._socket.close()
            if self._process == os.getpid():  # a forked child leaves the parent's name in place
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()


def _address(path: Path) -> str:
    """The socket's address; a long path (over 107 bytes) is reached through its open directory."""
    text = str(path)
    if len(os.fsencode(text)) < 104:
        return text
    descriptor = _directories.get(path.parent)
    if descriptor is None:
        descriptor = _directories[path.parent] = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}/{path.name}"


_directories: Final[dict[Path, int]] = {}
