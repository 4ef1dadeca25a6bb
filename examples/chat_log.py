"""Embed the store in a chat program: say something, and see the whole conversation, on whichever device it happened.

    python examples/chat_log.py "Good morning"
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import aico_crdt

TITLE = "Chat log"


def main() -> None:
    """Append one line to this program's own conversation and print it."""
    with aico_crdt.open_store(create=True) as store:
        own = next((head for head in store.conversations.recent(limit=1000) if head.get("title") == TITLE), None)
        talk = own.id if own is not None else store.conversations.start(title=TITLE)
        if len(sys.argv) > 1:
            store.conversations.say(talk, "user", " ".join(sys.argv[1:]))
        for message in store.conversations.messages(talk):
            when = datetime.fromtimestamp(message["timestamp"] / 1000, UTC).astimezone()
            print(f"{when:%d %b %H:%M}  {message.get('interaction_device', 'somewhere')}: {message['text']}")


if __name__ == "__main__":
    main()
