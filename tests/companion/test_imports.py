"""Exports, good and bad: whatever the bytes are, the answer is records or a typed error."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aico_crdt.companion.imports import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    REPORT,
    Record,
    detect,
    lines,
    read_chatgpt,
    read_jsonl,
)
from aico_crdt.errors import Malformed, TooLarge, UnknownVersion

CHATGPT = (Path(__file__).parents[1] / "samples/data/chatgpt_conversations.json").read_bytes()
HEADER: dict[str, Any] = {"format": "aico-crdt/export", "version": 1, "created_at": "2026-03-31T20:00:00Z"}
LINES: list[dict[str, Any]] = [
    {
        "kind": "conversation",
        "id": "01KJMRX0M0000000000000000A",
        "device": "laptop",
        "fields": {"title": "Tür"},
    },
    {
        "kind": "message",
        "id": "01KJMRX0M0000000000000000B",
        "device": "phone",
        "fields": {"text": "🐕", "mood": [1.5]},
    },
    {
        "kind": "emotion",
        "subject": "user",
        "device": "phone",
        "fields": {"valence": -0.25, "dominance": None},
    },
]
OURS = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [HEADER, *LINES]).encode()
CLAUDE = json.dumps(
    [{"uuid": "1", "name": "x", "chat_messages": [{"text": 'they wrote "mapping": no', "sender": "human"}]}]
).encode()


def ours(data: bytes) -> list[Record]:
    return list(read_jsonl(lines(io.BytesIO(data))))


def chatgpt(data: bytes) -> list[Record]:
    return list(read_chatgpt(io.BytesIO(data), 1 << 20))


def line(value: object) -> bytes:
    return json.dumps(HEADER).encode() + b"\n" + json.dumps(value).encode() + b"\n"


def test_our_format_comes_back_as_it_was_written() -> None:
    assert ours(OURS) == [
        Record("conversation", "01KJMRX0M0000000000000000A", "laptop", {"title": "Tür"}),
        Record("message", "01KJMRX0M0000000000000000B", "phone", {"text": "🐕", "mood": [1.5]}),
        Record("emotion", None, "phone", {"valence": -0.25, "dominance": None, "subject": "user"}),
    ]


def test_a_byte_order_mark_blank_lines_and_crlf_change_nothing() -> None:
    assert ours(b"\xef\xbb\xbf" + OURS.replace(b"\n", b"\r\n\r\n")) == ours(OURS)


def test_a_text_file_reads_as_bytes_do(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(OURS)
    with open(tmp_path / "x.jsonl", encoding="utf-8") as file:
        assert list(read_jsonl(file)) == ours(OURS)
    (tmp_path / "x.jsonl").write_bytes(OURS + b"\xff")
    with open(tmp_path / "x.jsonl", encoding="utf-8") as file, pytest.raises(Malformed, match="UTF-8"):
        list(read_jsonl(file))


def test_reading_is_lazy() -> None:
    def endless() -> Iterator[str]:
        yield json.dumps(HEADER)
        while True:
            yield json.dumps(LINES[0])

    assert next(read_jsonl(endless())).kind == "conversation"


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_refused_by_number(version: int) -> None:
    with pytest.raises(UnknownVersion, match=f"Line 1: version {version} "):
        ours(json.dumps(HEADER | {"version": version}).encode())


@pytest.mark.parametrize("version", [None, "1", True, 1.0, -1, [1]])
def test_a_header_without_a_version_is_malformed(version: object) -> None:
    with pytest.raises(Malformed, match="Line 1") as caught:
        ours(json.dumps(HEADER | {"version": version}).encode())
    assert not isinstance(caught.value, UnknownVersion)


def test_a_promised_count_notices_a_cut_between_two_lines() -> None:
    whole = OURS.replace(b'"version"', b'"records": 3, "version"', 1)
    assert ours(whole) == ours(OURS)
    for cut in (1, 2, 3):
        with pytest.raises(Malformed, match="promises 3 records"):
            ours(b"".join(whole.splitlines(keepends=True)[:cut]))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"[]", "Line 2 is not a JSON object"),
        (b"7", "Line 2 is not a JSON object"),
        (b"{}", "Line 2 states no kind"),
        (b'{"kind": "", "fields": {}}', "Line 2 states no kind"),
        (b'{"kind": "memory"}', "Line 2 has no fields"),
        (b'{"kind": "memory", "fields": []}', "Line 2 has no fields"),
        (b'{"kind": "memory", "fields": {}, "id": 5}', "Line 2: `id`"),
        (b'{"kind": "memory", "fields": {}, "id": ""}', "Line 2: `id`"),
        (b'{"kind": "memory", "fields": {}, "device": "a\\u0000"}', "Line 2: `device`"),
        (b'{"kind": "memory", "fields": {}, "text": "lost?"}', "Line 2 has keys beside"),
        (
            b'{"kind": "emotion", "subject": "user", "fields": {"subject": "dog"}}',
            "Line 2 names two subjects",
        ),
        (b'{"kind": "memory", "fields": {"x": NaN}}', "Line 2 holds NaN"),
        (b'{"kind": "memory", "fields": {"x": -Infinity}}', "Line 2 holds NaN"),
        (b'{"kind": "memory", "fields": {"x": 1e999}}', "Line 2 holds NaN"),
        (b'{"kind": "memory", "fields": {"x": ' + b"9" * 5000 + b"}}", "Line 2 holds NaN"),
        (b'{"kind": "memory", "kind": "message", "fields": {}}', "a key twice"),
        (b'{"kind": "memory", "fields": {"x": "\\ud83d"}}', "Line 2 holds half a character"),
        (b'{"kind": "memory", "fields": {"\\udc00": 1}}', "Line 2 holds half a character"),
        (b'{"kind": "memory", "fields": {"x": "\xff"}}', "Line 2 is not UTF-8"),
        (b'{"kind": "memory", "fie', "Line 2 is not JSON"),
    ],
)
def test_a_defect_names_its_line(bad: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        ours(json.dumps(HEADER).encode() + b"\n" + bad + b"\n" + OURS)


def test_errors_never_quote_content() -> None:
    for data in (
        line({"kind": "memory", "fields": {}, "secret": 1}),
        b"secret\n",
        line("secret"),
        b'{"a": "secret',
    ):
        with pytest.raises(Malformed) as caught:
            ours(data)
        assert "secret" not in str(caught.value)


def test_a_line_is_capped_and_the_cap_is_exact() -> None:
    def sized(size: int) -> bytes:
        frame = '{"kind": "memory", "fields": {"content": "%s"}}'
        filling = "é" * ((size - len(frame) + 2) // 2) + "e" * ((size - len(frame) + 2) % 2)
        return json.dumps(HEADER).encode() + b"\n" + (frame % filling).encode() + b"\n"

    assert len(ours(sized(MAX_LINE_BYTES))) == 1
    with pytest.raises(TooLarge, match="Line 2"):
        ours(sized(MAX_LINE_BYTES + 1))
    with pytest.raises(TooLarge, match="Line 2"):
        list(read_jsonl(iter(sized(MAX_LINE_BYTES + 1).decode().splitlines())))


def test_an_endless_line_is_not_swallowed() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.taken += len(buffer)
            assert self.taken < 4 * MAX_LINE_BYTES
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    with pytest.raises(TooLarge, match="Line 1"):
        next(lines(io.BufferedReader(Endless())))


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_nesting_is_capped_at_its_depth() -> None:
    # The record and its fields are two levels already.
    start, end = json.dumps(HEADER).encode() + b'\n{"kind": "memory", "fields": {"x": ', b"}}"
    assert len(ours(start + nested(MAX_DEPTH - 2) + end)) == 1
    for depth in (MAX_DEPTH, 500, 200_000):
        with pytest.raises(TooLarge, match="Line 2 is nested"):
            ours(start + nested(depth) + end)
    with pytest.raises(TooLarge, match="Line 1 is nested"):
        ours(nested(200_000))
    with pytest.raises(TooLarge, match="nested"):
        chatgpt(nested(200_000))
    with pytest.raises(Malformed):
        detect(nested(200_000))
    with pytest.raises(Malformed):
        detect(b'{"a":' * 100_000)


def test_deep_nesting_is_typed_even_near_the_end_of_the_stack() -> None:
    def descend(frames: int) -> None:
        if frames:
            return descend(frames - 1)
        with pytest.raises(TooLarge):
            ours(nested(5_000))
        return None

    descend(sys.getrecursionlimit() // 2)


def test_the_current_branch_is_what_was_last_seen() -> None:
    records = chatgpt(CHATGPT)
    assert [(r.kind, r.id and r.id[-4:]) for r in records] == [
        ("conversation", "9e10"),
        ("message", "1a02"),
        ("message", "1a04"),
        ("message", "1a06"),
        ("message", "1a07"),
        ("conversation", "7d21"),
        ("message", "3402"),
        ("message", "3405"),
        (REPORT, None),
    ]
    assert records[0].fields == {
        "title": "Planting a balcony in April",
        "created_at": 1772530200123,
        "updated_at": 1772531475500,
        "tags": ["chatgpt"],
    }
    assert records[3].fields == {
        "conversation_id": "69a6a958-3c1c-8001-b0aa-7d6a1c2f9e10",
        "role": "user",
        "type": "user_input",
        "text": "This is the box we have. Deep enough for chard?",
        "timestamp": 1772531400000,
        "source": "chatgpt",
        "reply_to": "5b1c6a52-0d5e-4f0b-9a61-3f6f0d2f1a04",
    }
    assert records[4].fields["model"] == "gpt-4o"
    # Without a time of its own, the answer takes its predecessor's.
    assert records[7].fields["timestamp"] == 1773000010000


def test_what_was_left_out_is_counted() -> None:
    assert chatgpt(CHATGPT)[-1].fields == {
        "conversations": 2,
        "messages": 6,
        "other_branches": 2,
        "hidden": 3,
        "without_text": 1,
        "parts": 1,
    }


def test_every_message_of_a_tree_is_imported_or_counted() -> None:
    nodes = sum(n["message"] is not None for c in json.loads(CHATGPT) for n in c["mapping"].values())
    report = chatgpt(CHATGPT)[-1].fields
    assert nodes == sum(report[k] for k in ("messages", "other_branches", "hidden", "without_text"))


def changed(**keys: Any) -> bytes:
    first = json.loads(CHATGPT)[0]
    return json.dumps([first | keys]).encode()


def node(message: object, parent: str | None = None) -> dict[str, Any]:
    return {"a": {"id": "a", "message": message, "parent": parent, "children": []}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"current_node": "nowhere"}, "a node that is not there"),
        ({"current_node": None}, "no current branch"),
        ({"current_node": 5}, "a node that is not there"),
        ({"mapping": node(None, "a"), "current_node": "a"}, "circle"),
        ({"mapping": node(None, "b"), "current_node": "a"}, "a node that is not there"),
        ({"mapping": {"a": 5}, "current_node": "a"}, "a node that is not there"),
        ({"mapping": node(5), "current_node": "a"}, "without author"),
        ({"mapping": node({"author": {"role": "user"}}), "current_node": "a"}, "without content"),
        (
            {"mapping": node({"author": {"role": "user"}, "content": {"parts": 5}}), "current_node": "a"},
            "no list",
        ),
        ({"mapping": 5}, "Conversation 1 has no mapping"),
        ({"create_time": "noon"}, "a time is not"),
        ({"create_time": -1}, "a time is not"),
        ({"create_time": 1e300}, "a time is not"),
        ({"conversation_id": None, "id": None}, "an id cannot"),
        ({"conversation_id": "x" * 129}, "an id cannot"),
        ({"mapping": {}, "current_node": None, "create_time": None}, "no time at all"),
    ],
)
def test_a_damaged_tree_names_its_conversation(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed, match=rf"Conversation 1\b.*{said}|{said}"):
        chatgpt(changed(**keys))


def test_half_an_emoji_in_a_foreign_export_is_replaced() -> None:
    assert (
        chatgpt(CHATGPT.replace("🌱".encode(), b"\\ud83c"))[2].fields["text"].endswith("everything. \ufffd")
    )


def test_an_empty_list_is_an_export_of_nothing() -> None:
    assert detect(b"[]") == "chatgpt"
    assert [r.kind for r in chatgpt(b"[ ]")] == [REPORT]


def test_the_size_cap_is_exact() -> None:
    assert len(list(read_chatgpt(io.BytesIO(CHATGPT), len(CHATGPT)))) == 9
    with pytest.raises(TooLarge):
        list(read_chatgpt(io.BytesIO(CHATGPT), len(CHATGPT) - 1))


def test_detect_tells_them_apart_by_their_first_bytes() -> None:
    for size in (400, 4096, len(CHATGPT)):
        assert detect(CHATGPT[:size]) == "chatgpt"
    assert detect(OURS) == detect(OURS.splitlines()[0]) == detect(b"\xef\xbb\xbf" + OURS) == "jsonl"
    assert detect(json.dumps(json.loads(CHATGPT)).encode()[:600]) == "chatgpt"


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (CLAUDE, "a Claude export"),
        (b'[{"role": "user", "content": "mapping"}]', "a bare list of chat messages"),
        (b'{"format": "someone-else/export", "version": 1}', "an export of another program"),
        (b'{"colour": "red"}', "JSON of another kind"),
        (b"[1, 2, 3]", "JSON of another kind"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
        (b"SQLite format 3\x00\x10", "an SQLite database"),
        (bytes(range(256)), "binary data"),
        (b"\x80\x81\x82\x83\x84", "binary data"),
        (b"<!doctype html>", "a web page"),
        (b"Dear diary,\n", "plain text"),
        (b"", "empty"),
        (b" \n\n", "empty"),
    ],
)
def test_foreign_files_are_refused_by_name(data: bytes, named: str) -> None:
    with pytest.raises(Malformed, match=named):
        detect(data)
    with pytest.raises(Malformed, match=f"{named}|not UTF-8"):
        ours(data)
    with pytest.raises(Malformed, match=f"{named}|is damaged|breaks off|not UTF-8"):
        chatgpt(data)


def test_a_head_cut_through_a_character_is_still_text() -> None:
    for cut in range(OURS.index(b"\n"), len(OURS)):
        assert detect(OURS[:cut]) == "jsonl"
    titled = json.dumps([{"title": "🥞" * 9, "mapping": {}}], ensure_ascii=False).encode()
    title_end = titled.index(b'", "mapping')
    for cut in range(title_end - 8, title_end):
        with pytest.raises(Malformed, match="JSON of another kind"):
            detect(titled[:cut])
    late = json.dumps([{"mapping": {}, "title": "🥞" * 9}], ensure_ascii=False).encode()
    for cut in range(late.index(b"title") + 10, late.index(b"title") + 30):
        assert detect(late[:cut]) == "chatgpt"


def test_each_reader_refuses_the_others_format() -> None:
    with pytest.raises(Malformed, match="a ChatGPT export"):
        ours(json.dumps(json.loads(CHATGPT)).encode())
    with pytest.raises(Malformed):
        chatgpt(OURS)


def test_truncated_anywhere_gives_a_prefix_or_a_typed_error() -> None:
    whole = ours(OURS)
    for cut in range(len(OURS)):
        try:
            got = ours(OURS[:cut])
        except Malformed:
            continue
        # Only where a line is complete.
        assert OURS[cut - 1 : cut] == b"\n" or OURS[cut : cut + 1] == b"\n"
        assert got == whole[: len(got)]
    for cut in range(0, len(CHATGPT.rstrip()), 13):
        with pytest.raises(Malformed):
            chatgpt(CHATGPT[:cut])


def test_flipped_bits_give_records_or_a_typed_error() -> None:
    random_ = random.Random(20260331)
    refused = 0
    for data, read, rounds in ((OURS, ours, 1500), (CHATGPT, chatgpt, 500)):
        for _ in range(rounds):
            damaged = bytearray(data)
            for _ in range(random_.randint(1, 4)):
                damaged[random_.randrange(len(damaged))] ^= 1 << random_.randrange(8)
            for attempt in (read, detect):
                try:
                    attempt(bytes(damaged))
                except Malformed:
                    refused += 1
    assert refused > 1000
