"""`devices.yaml`: the devices one dials, as the owner wrote them down.

::

    - id: 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29   # the device id, 64 hex digits
      name: laptop
      endpoints: [tcp://192.168.1.20:5555]                                   # or one address without brackets
      capabilities: [memory, search]                                         # optional
      public_key: "..."                                                      # optional: its CURVE key, 40 characters

The id is the device's Ed25519 key, from which its CURVE key follows: an entry names whom to expect, and nobody else can
answer for it. A list gives no rights; only the family does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from aico_crdt.errors import InvalidValue, Malformed, NotFound, ReadOnly
from aico_crdt.ids import DEVICE_BYTES
from aico_crdt.trust.identity import curve_key

MAX_FILE_BYTES: Final = 1 << 20
MAX_PEERS: Final = 4096
MAX_LIST: Final = 32
MAX_TEXT_CHARS: Final = 256
MAX_DEPTH: Final = 8
SAMPLE: Final = """- id: 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
  name: laptop
  endpoints: [tcp://192.168.1.20:5555]"""
"""What an error shows: one device, its id as `aico-crdt id` prints it there."""
_FIELDS: Final = ("id", "name", "endpoints", "capabilities", "public_key")
_ENDPOINT: Final = re.compile(r"tcp://(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", re.ASCII)
_HEX: Final = re.compile(rf"[0-9a-fA-F]{{{2 * DEVICE_BYTES}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Peer:
    """One device to dial."""

    device: bytes
    name: str = ""
    endpoints: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


def load_peers(path: Path) -> tuple[Peer, ...]:
    """The peers in the file `path`.

    Raises:
        NotFound: there is no such file.
        ReadOnly: it cannot be read.
        InvalidValue: it is not what the module's text shows; the message names line and field.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no {path}.", _cure("Write one, or name another.")) from None
    except OSError as error:
        raise ReadOnly(f"{path} cannot be read: {error.strerror}.", "Check its mode and owner.") from error
    return parse_peers(raw, str(path))


def parse_peers(raw: bytes, source: str = "devices.yaml") -> tuple[Peer, ...]:
    """The peers in the YAML text `raw`; `source` names it in errors. Raises as :func:`load_peers`."""
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidValue(f"{source} is larger than {MAX_FILE_BYTES} bytes.")
    try:
        text = raw.decode()
        _check_shape(text, source)
        root = yaml.compose(text, Loader=yaml.SafeLoader)  # for the line numbers
        values = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise InvalidValue(f"{source} is not UTF-8 text.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidValue(f"{source}{_line_of(error, text)} is not YAML.", _cure("Mend that line.")) from error
    if root is None:
        return ()
    if not isinstance(values, list) or not isinstance(root, yaml.SequenceNode):
        raise InvalidValue(f"{source} is not a list.", _cure("Begin each device with `- id:`."))
    if len(values) > MAX_PEERS:
        raise InvalidValue(f"{source} lists {len(values)} devices; at most {MAX_PEERS}.")
    lines = [node.start_mark.line + 1 for node in root.value]
    peers = [_Entry(value, source, line).peer() for value, line in zip(values, lines, strict=True)]
    _check_unique(peers, source, lines)
    return tuple(peers)


def device_from_text(text: str) -> bytes:
    """The device id written as 64 hex digits.

    Raises:
        InvalidValue: it is not.
    """
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise InvalidValue(f"A device id is {2 * DEVICE_BYTES} hex digits.", "`aico-crdt id` prints a device's own.")
    return bytes.fromhex(text)


def check_endpoint(text: object) -> str:
    """`text` itself, if it is ``tcp://host:port``.

    Raises:
        InvalidValue: otherwise.
    """
    match = _ENDPOINT.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_TEXT_CHARS else None
    if match is None or not 0 < int(match[2]) < 65_536:
        raise InvalidValue("An endpoint is tcp://HOST:PORT, such as tcp://192.168.1.20:5555.")
    return match[0]


class _Entry:
    """One entry of the file, with where it stands."""

    def __init__(self, value: Any, source: str, line: int) -> None:
        self._source, self._line = source, line
        if not isinstance(value, dict):
            raise self._wrong("", "it is a list of fields, not a single value")
        for name in value:
            if name not in _FIELDS:
                raise self._wrong(str(name)[:32], f"there is no such field; there are {', '.join(_FIELDS)}")
        self._value = value

    def peer(self) -> Peer:
        device = self._device()
        return Peer(device, self._name(), self._endpoints(), self._words())

    def _device(self) -> bytes:
        try:
            device = device_from_text(self._value.get("id", ""))
            key = curve_key(device)
        except (InvalidValue, Malformed) as error:
            raise self._wrong("id", error.what) from None
        if self._value.get("public_key", key) != key:
            raise self._wrong("public_key", "it is not the key of that id")
        return device

    def _name(self) -> str:
        name = self._value.get("name", "")
        if not isinstance(name, str) or len(name) > MAX_TEXT_CHARS or not name.isprintable():
            raise self._wrong("name", f"it is text of at most {MAX_TEXT_CHARS} characters")
        return name

    def _endpoints(self) -> tuple[str, ...]:
        listed = self._list("endpoints", one=True)
        try:
            return tuple(check_endpoint(text) for text in listed)
        except InvalidValue as error:
            raise self._wrong("endpoints", error.what) from None

    def _words(self) -> tuple[str, ...]:
        words = self._list("capabilities")
        if not all(isinstance(word, str) and re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", word) for word in words):
            raise self._wrong("capabilities", "they are lower-case words")
        return tuple(words)

    def _list(self, name: str, *, one: bool = False) -> list[Any]:
        value = self._value.get(name, [])
        if one and isinstance(value, str):
            return [value]
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise self._wrong(name, f"it is a list of at most {MAX_LIST}")
        return value

    def _wrong(self, name: str, what: str) -> InvalidValue:
        place = f"{self._source}, the device at line {self._line}" + (f", field `{name}`" if name else "")
        return InvalidValue(f"{place}: {what[0].lower()}{what[1:].rstrip('.')}.", _cure("Mend it."))


def _cure(text: str) -> str:
    return f"{text} Such as:\n{SAMPLE}"


def _check_shape(text: str, source: str) -> None:
    """No aliases, which let a small file name a huge tree, and little depth, in which PyYAML is quadratic."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise InvalidValue(f"{source} uses a YAML alias.", "Write the value out.")
        if depth > MAX_DEPTH:
            raise InvalidValue(f"{source} is nested too deep.", "A list of devices, each with its fields, is enough.")


def _line_of(error: Exception, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}"
    if isinstance(error, yaml.reader.ReaderError):
        return f", line {text.count(chr(10), 0, error.position) + 1}"
    return ""


def _check_unique(peers: Iterable[Peer], source: str, lines: list[int]) -> None:
    seen: dict[bytes, int] = {}
    for peer, line in zip(peers, lines, strict=True):
        first = seen.setdefault(peer.device, line)
        if first != line:
            raise InvalidValue(f"{source}, lines {first} and {line}: the same device twice.", "Keep one of them.")
