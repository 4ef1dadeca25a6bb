"""Reading exports: our own JSON lines, and ChatGPT's ``conversations.json``.

Pure: both readers take a stream and yield :class:`Record`; what a kind's fields may hold is checked where the
kind is defined. Everything here came from elsewhere, so every defect is a
:class:`~aico_crdt.errors.Malformed` (or one of its two subclasses) that names the line or the conversation,
never what stands there.

Both yield as they read, so an error may come after good records: whoever wants all or nothing reads to the
end first.

Our own format is one JSON object a line. The first is the header
``{"format": "aico-crdt/export", "version": 1}``, which may carry ``created_at``, ``note`` and ``records``
(how many follow; a file cut between two lines is then noticed). Each further line is ``{"kind", "fields"}``
with ``id``, ``device`` and ``subject`` where the kind has them; ``subject`` becomes a field.

ChatGPT's is undocumented; as observed in exports of 2023 to 2025 it is a list of conversations, each a tree
of nodes (``mapping``) of which ``current_node`` names the leaf last seen. Times are seconds as floats, or
null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final, Literal

from aico_crdt.errors import InvalidValue, Malformed, TooLarge, UnknownVersion
from aico_crdt.ids import check_public_id

FORMAT: Final = "aico-crdt/export"
VERSION: Final = 1
MAX_LINE_BYTES: Final = 1 << 20
"""One line of our own format (bytes, without its newline): a record is a message or a memory, not a book."""
MAX_DEPTH: Final = 64
"""Nesting of one line's values: the depth a document may have."""
MAX_KIND_CHARS: Final = 64
REPORT: Final = "report"
"""The kind of the record that :func:`read_chatgpt` yields last; it is about the import, never stored."""

_KEYS: Final = frozenset({"kind", "id", "device", "subject", "fields"})
_MAX_MS: Final = (1 << 48) - 1
_TYPES: Final = {"user": "user_input", "assistant": "system_response", "system": "system"}
_EXPORT_AGAIN: Final = "Export it again, or fetch the file anew."
_WHAT_WE_READ: Final = "Pass an export of aico-crdt (JSON lines) or ChatGPT's conversations.json."
_SIGNATURES: Final = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstandard data"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_HALLMARK: Final = re.compile(r'"(mapping|chat_messages|role|format)"\s*:')
_HALLMARKS: Final = {
    "mapping": "a ChatGPT export",
    "chat_messages": "a Claude export",
    "role": "a bare list of chat messages",
    "format": "an export of another program",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One thing read from an export: its kind, its id and device where stated, its fields as they were."""

    kind: str
    id: str | None
    device: str | None
    fields: dict[str, Any]


def detect(head: bytes) -> Literal["jsonl", "chatgpt"]:
    """Which reader a file wants, from its first bytes (some KiB; the first line suffices for our own format).

    Raises:
        Malformed: neither; the error names what it looks like instead.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{") and _is_ours(start.split(b"\n", 1)[0]):
        return "jsonl"
    if start.startswith(b"[") and _resemblance(start) in ("a ChatGPT export", "an empty JSON list"):
        return "chatgpt"
    raise Malformed(f"This is {_resemblance(head)}, not an export that can be read here.", _WHAT_WE_READ)


def lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of `stream` for :func:`read_jsonl`, never holding more than `MAX_LINE_BYTES` of one.

    Raises:
        TooLarge: a line beyond that cap.
        Malformed: a line that is not UTF-8.
    """
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 2):
        number += 1
        if len(raw.rstrip(b"\r\n")) > MAX_LINE_BYTES:
            raise _line_too_long(number)
        try:
            yield raw.decode()
        except UnicodeDecodeError:
            what = f", it is {_resemblance(raw)}" if number == 1 else ""
            raise Malformed(f"Line {number} is not UTF-8 text{what}.", _EXPORT_AGAIN) from None


def read_jsonl(stream: Iterable[str]) -> Iterator[Record]:
    """The records of our own format, in file order; unknown keys inside ``fields`` are kept.

    Args:
        stream: one line each, as :func:`lines` gives them or a text file opened as UTF-8. Blanks are skipped.

    Raises:
        UnknownVersion: the header names a version that this release does not speak.
        TooLarge: a line beyond `MAX_LINE_BYTES`, or nested deeper than `MAX_DEPTH`.
        Malformed: any other defect; the message starts with its line.
    """
    numbered = _numbered(stream)
    number, first = next(numbered, (0, ""))
    if not number:
        raise Malformed("The export is empty.", _EXPORT_AGAIN)
    promised = _header(first)
    count = 0
    for number, line in numbered:
        yield _record(number, _parse_line(number, line))
        count += 1
    if promised is not None and promised != count:
        raise Malformed(
            f"Line {number} is the last, but the header promises {promised} records and {count} are there.",
            _EXPORT_AGAIN,
        )


def read_chatgpt(stream: BinaryIO, max_bytes: int) -> Iterator[Record]:
    """The conversations of a ChatGPT ``conversations.json``, each followed by its current branch's messages.

    Left out, and counted in the :data:`REPORT` record that comes last: ``other_branches`` (messages of
    regenerated or edited turns not on the current branch), ``hidden`` (system set-up, tool calls and their
    results), ``without_text`` (only an image, or nothing), ``parts`` (images and files beside text that was
    kept). Its other two fields are ``conversations`` and ``messages``. A message without a time takes its
    predecessor's.

    Raises:
        TooLarge: more than `max_bytes`, or nested too deeply to parse.
        Malformed: not that format, cut short or damaged; names the conversation by its place in the list.
    """
    raw = stream.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise TooLarge(
            f"The export is larger than {max_bytes} bytes.", "Raise the limit if you trust the file."
        )
    conversations = _parse("The export", _utf8(raw))
    if not isinstance(conversations, list):
        raise Malformed(f"This is {_resemblance(raw)}, not a ChatGPT export.", _WHAT_WE_READ)
    tally = _Tally()
    for place, conversation in enumerate(conversations, 1):
        if not isinstance(conversation, dict) or not isinstance(conversation.get("mapping"), dict):
            raise Malformed(
                f"Conversation {place} has no mapping: this is {_resemblance(raw)}, or a damaged export.",
                _WHAT_WE_READ,
            )
        yield from _conversation(f"Conversation {place}", conversation, tally)
    yield Record(REPORT, None, None, asdict(tally))


# Our own format


def _numbered(stream: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    number = 0
    source = iter(stream)
    while True:
        try:
            line = next(source, None)
        except UnicodeDecodeError:
            raise Malformed(
                f"After line {number} comes something that is not UTF-8 text.", _EXPORT_AGAIN
            ) from None
        if line is None:
            return
        number += 1
        if number == 1:
            line = line.removeprefix("\ufeff")
        line = line.strip()
        if len(line) > MAX_LINE_BYTES or len(line.encode("utf-8", "surrogatepass")) > MAX_LINE_BYTES:
            raise _line_too_long(number)
        if line:
            yield number, line


def _line_too_long(number: int) -> TooLarge:
    return TooLarge(f"Line {number} is longer than {MAX_LINE_BYTES} bytes.", _WHAT_WE_READ)


def _is_ours(line: bytes) -> bool:
    try:
        header = _parse("", line.decode())
    except (Malformed, UnicodeDecodeError):
        return False
    return isinstance(header, dict) and header.get("format") == FORMAT


def _header(line: str) -> int | None:
    """The number of records the header promises, if it does."""
    try:
        header = _parse("Line 1", line)
    except TooLarge:
        raise
    except Malformed:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        what = _resemblance(line.encode("utf-8", "replace"))
        raise Malformed(f"Line 1 is no header of an aico-crdt export; it looks like {what}.", _WHAT_WE_READ)
    version = header.get("version")
    if not _is_count(version):
        raise Malformed("Line 1: the header states no version.", _EXPORT_AGAIN)
    if version != VERSION:
        raise UnknownVersion(f"Line 1: version {version} of the export format; this release reads {VERSION}.")
    promised = header.get("records")
    if promised is not None and not _is_count(promised):
        raise Malformed("Line 1: `records` is not a count.", _EXPORT_AGAIN)
    return promised


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _parse_line(number: int, line: str) -> Any:
    where = f"Line {number}"
    value = _parse(where, line)
    _check_values(where, value)
    return value


def _record(number: int, value: Any) -> Record:
    if not isinstance(value, dict):
        raise Malformed(f"Line {number} is not a JSON object.", _EXPORT_AGAIN)
    kind, fields = value.get("kind"), value.get("fields")
    if not isinstance(kind, str) or not 0 < len(kind) <= MAX_KIND_CHARS:
        raise Malformed(f"Line {number} states no kind.", _EXPORT_AGAIN)
    if not isinstance(fields, dict):
        raise Malformed(f"Line {number} has no fields.", _EXPORT_AGAIN)
    if not value.keys() <= _KEYS:
        raise Malformed(
            f"Line {number} has keys beside kind, id, device, subject and fields.", "Move them into `fields`."
        )
    subject = _name(number, value, "subject")
    if subject is not None:
        if fields.get("subject", subject) != subject:
            raise Malformed(f"Line {number} names two subjects.", "Keep one of them.")
        fields["subject"] = subject
    return Record(kind, _name(number, value, "id"), _name(number, value, "device"), fields)


def _name(number: int, value: dict[str, Any], key: str) -> str | None:
    name = value.get(key)
    if name is None:
        return None
    try:
        return check_public_id(name)
    except InvalidValue as error:
        raise Malformed(f"Line {number}: `{key}` cannot name anything. {error.what}", _EXPORT_AGAIN) from None


# ChatGPT


@dataclass
class _Tally:
    conversations: int = 0
    messages: int = 0
    other_branches: int = 0
    hidden: int = 0
    without_text: int = 0
    parts: int = 0


@dataclass(slots=True)
class _Turn:
    """One message of the current branch that is kept."""

    id: str
    role: str
    text: str
    time_ms: int | None
    model: str | None


def _conversation(where: str, conversation: dict[str, Any], tally: _Tally) -> Iterator[Record]:
    mapping: dict[str, Any] = conversation["mapping"]
    conversation_id = _public_id(where, conversation.get("conversation_id") or conversation.get("id"))
    branch = _branch(where, mapping, conversation.get("current_node"))
    turns = [turn for name in branch if (turn := _turn(where, name, mapping[name], tally)) is not None]
    on_branch = set(branch)
    tally.other_branches += sum(
        isinstance(node, dict) and isinstance(node.get("message"), dict)
        for name, node in mapping.items()
        if name not in on_branch
    )
    known = [turn.time_ms for turn in turns if turn.time_ms is not None]
    created = _time_ms(where, conversation.get("create_time"))
    if created is None:
        if not known:
            raise Malformed(f"{where} has no time at all.", _EXPORT_AGAIN)
        created = known[0]
    updated = _time_ms(where, conversation.get("update_time"))
    title = conversation.get("title")
    tally.conversations += 1
    yield Record(
        "conversation",
        conversation_id,
        None,
        {
            "title": _whole(title) if isinstance(title, str) else "",
            "created_at": created,
            "updated_at": max([created, *known]) if updated is None else updated,
            "tags": ["chatgpt"],
        },
    )
    time_ms, previous = created, None
    for turn in turns:
        time_ms = time_ms if turn.time_ms is None else turn.time_ms
        fields: dict[str, Any] = {
            "conversation_id": conversation_id,
            "role": turn.role,
            "type": _TYPES[turn.role],
            "text": turn.text,
            "timestamp": time_ms,
            "source": "chatgpt",
        }
        if turn.model is not None:
            fields["model"] = turn.model
        if previous is not None:
            fields["reply_to"] = previous
        previous = turn.id
        tally.messages += 1
        yield Record("message", turn.id, None, fields)


def _branch(where: str, mapping: dict[str, Any], leaf: Any) -> list[str]:
    """Names of the nodes from the root to `leaf`."""
    if leaf is None and not mapping:
        return []
    branch: list[str] = []
    seen: set[str] = set()
    name = leaf
    while name is not None:
        if not isinstance(name, str) or not isinstance(mapping.get(name), dict):
            raise Malformed(f"{where}: its current branch leads to a node that is not there.", _EXPORT_AGAIN)
        if name in seen:
            raise Malformed(f"{where}: its current branch is a circle.", _EXPORT_AGAIN)
        seen.add(name)
        branch.append(name)
        name = mapping[name].get("parent")
    if not branch:
        raise Malformed(f"{where} names no current branch.", _EXPORT_AGAIN)
    return branch[::-1]


def _turn(where: str, name: str, node: dict[str, Any], tally: _Tally) -> _Turn | None:
    message = node.get("message")
    if message is None:
        return None
    author, content = _object(where, message, "author"), _object(where, message, "content")
    metadata = message.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    role = author.get("role")
    hidden = metadata.get("is_visually_hidden_from_conversation") is True
    addressed_to_tool = message.get("recipient", "all") not in ("all", None)
    if not isinstance(role, str) or role not in _TYPES or hidden or addressed_to_tool:
        tally.hidden += 1
        return None
    text, left_out = _text(where, content)
    if not text.strip():
        if role == "system":
            tally.hidden += 1
        else:
            tally.without_text += 1
        return None
    tally.parts += left_out
    model = metadata.get("model_slug")
    return _Turn(
        _public_id(where, message.get("id") or name),
        role,
        text,
        _time_ms(where, message.get("create_time")),
        _whole(model) if isinstance(model, str) else None,
    )


def _object(where: str, holder: Any, key: str) -> dict[str, Any]:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, dict):
        raise Malformed(f"{where} has a message without {key}.", _EXPORT_AGAIN)
    return value


def _text(where: str, content: dict[str, Any]) -> tuple[str, int]:
    """The text of a message, and how many of its parts hold none."""
    parts = content.get("parts")
    if parts is None:
        text = content.get("text")
        return (_whole(text), 0) if isinstance(text, str) else ("", 0)
    if not isinstance(parts, list):
        raise Malformed(f"{where} has a message whose parts are no list.", _EXPORT_AGAIN)
    texts: list[str] = []
    left_out = 0
    for part in parts:
        # A spoken turn is a part of its own, with its transcription as text.
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
        else:
            left_out += 1
    return _whole("\n".join(texts)), left_out


def _public_id(where: str, value: Any) -> str:
    try:
        return check_public_id(value)
    except InvalidValue as error:
        raise Malformed(f"{where}: an id cannot name anything. {error.what}", _EXPORT_AGAIN) from None


def _time_ms(where: str, seconds: Any) -> int | None:
    if seconds is None:
        return None
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 <= seconds * 1000 <= _MAX_MS
    ):
        raise Malformed(f"{where}: a time is not in seconds since 1970.", _EXPORT_AGAIN)
    return round(seconds * 1000)


def _whole(text: str) -> str:
    """`text` with each half of a character replaced: exports cut emoji in two."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# JSON


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed(f"The export is not UTF-8 text; it is {_resemblance(raw)}.", _WHAT_WE_READ) from None


def _parse(where: str, text: str) -> Any:
    """`json.loads`, strict: no NaN, no infinity, no key twice; and every failure typed."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_distinct)
    except RecursionError:
        raise TooLarge(f"{where} is nested too deeply.", _EXPORT_AGAIN) from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        how = "it is cut short and breaks off" if cut else "it is damaged"
        raise Malformed(f"{where} is not JSON: {how} at character {error.pos}.", _EXPORT_AGAIN) from None
    except ValueError:
        raise Malformed(
            f"{where} holds NaN, an infinity, an endless number or a key twice.", _EXPORT_AGAIN
        ) from None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key twice")
    return value


def _check_values(where: str, value: Any) -> None:
    """No value nested deeper than `MAX_DEPTH`, no string that UTF-8 cannot hold."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if not item.isascii() and any(0xD800 <= ord(c) < 0xE000 for c in item):
                    raise Malformed(f"{where} holds half a character (a lone surrogate).", _EXPORT_AGAIN)
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise TooLarge(f"{where} is nested deeper than {MAX_DEPTH}.", _EXPORT_AGAIN)


def _resemblance(head: bytes) -> str:
    """What bytes look like, for an error: never a quotation."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if not head.strip():
        return "empty"
    raw = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if error.start < len(raw) - 3:  # the cut at the end may go through a character
            return "binary data"
        text = raw[: error.start].decode()
    if "\0" in text or not text:
        return "binary data"
    if text[0] == "<":
        return "a web page or XML"
    if text[0] not in "[{":
        return "plain text"
    found = _HALLMARK.search(text)
    if found:
        return _HALLMARKS[found[1]]
    if re.fullmatch(r"\[\s*\]\s*", text):
        return "an empty JSON list"
    return "JSON of another kind"
