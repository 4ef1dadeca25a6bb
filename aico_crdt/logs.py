"""Logging that never holds content.

The rule: a log call has a literal message and passes ids and numbers as its arguments, never a value that a
person or a model wrote::

    log = logger(__name__)
    log.info("applied %d entries of feed %s", count, ids.writer(device, incarnation))

`make lint` refuses messages that are built before the call. What slips through is stopped when a line is
written: an argument that is neither a number, nor an id, nor an error of ours appears as its type and size;
an exception appears as its type and where it was raised, without its text unless it is ours.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
import re
import stat
import sys
import time
import traceback
from io import TextIOWrapper
from pathlib import Path, PurePath
from types import TracebackType
from typing import Final, TypeAlias

from aico_crdt.errors import AicoError, DiskFull, ReadOnly

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)

_ROOT: Final = "aico_crdt"
_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
_FORM: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
_ID: Final = re.compile(r"[\w.:/+=@\[\]-]{1,128}", re.ASCII)
"""Ids, device names, endpoints, machine words: no blanks, so no sentences."""

logging.getLogger(_ROOT).addHandler(logging.NullHandler())


def logger(name: str) -> logging.Logger:
    """The logger of a module: pass ``__name__``."""
    return logging.getLogger(name)


def configure(verbosity: int = 0, log_file: Path | None = None) -> None:
    """Send this library's log to stderr and, if named, to a file. For commands; the library never calls it.

    Calling it again replaces what it set up before.

    Args:
        verbosity: 0 warnings, 1 information, 2 or more everything.
        log_file: appended to, made with mode 0600; an existing one is narrowed to it.

    Raises:
        ReadOnly: the file cannot be opened.
        DiskFull: there is no room to make it.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file is not None:
        handlers.append(_private_file(log_file))
    root = logging.getLogger(_ROOT)
    for old in [h for h in root.handlers if isinstance(h.formatter, ContentFree)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(ContentFree(_FORM, "%Y-%m-%dT%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(_LEVELS[max(0, min(verbosity, len(_LEVELS) - 1))])


class ContentFree(logging.Formatter):
    """Reduces every argument and exception of a record to what cannot be content. Times are UTC."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        safe = copy.copy(record)  # other handlers of the same record are not ours to change
        safe.exc_text = None
        if not isinstance(safe.msg, str):
            safe.msg, safe.args = _reduced(safe.msg), ()
        elif isinstance(safe.args, tuple):
            safe.args = tuple(_reduced(argument) for argument in safe.args)
        elif safe.args:
            safe.args = {name: _reduced(argument) for name, argument in safe.args.items()}
        return super().format(safe)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the name is the standard library's
        _, error, trace = ei
        frames = traceback.extract_tb(trace)
        lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        return "\n".join([*lines, f"  {_reduced(error)}"])


def _reduced(argument: object) -> object:
    """`argument`, if it is a number, an id, a path or an error of ours; else its type and size."""
    if argument is None or isinstance(argument, int | float | PurePath | AicoError):
        return argument
    if isinstance(argument, str):
        return argument if _ID.fullmatch(argument) else f"<{len(argument)} characters>"
    if isinstance(argument, bytes | bytearray | memoryview):
        return f"<{len(argument)} bytes>"
    return f"<{type(argument).__name__}>"


class _PrivateFile(logging.FileHandler):
    """Appends to a file that only its owner can read."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


def _private_file(path: Path) -> logging.Handler:
    try:
        return _PrivateFile(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"There is no room for the log file {path}.") from error
        raise ReadOnly(
            f"The log file {path} cannot be written: {error.strerror}.", "Name another with --log-file."
        ) from error
