"""Embed the store in a chat program: say something, and see the whole conversation, on whichever device it happened.

    python examples/chat_log.py "Good morning"
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import aico_crdt


def main() -> None:
    """Append one line to the program's only conversation and print it."""
    with aico_crdt.open_store(create=True) as store:
        heads = store.conversations.recent(limit=1)
        talk = heads[0].id if heads else store.conversations.start(title="Chat log")
        if len(sys.argv) > 1:
            store.conversations.say(talk, "user", " ".join(sys.argv[1:]))
        for message in store.conversations.messages(talk):
            when = datetime.fromtimestamp(message["timestamp"] / 1000, UTC).astimezone()
            print(f"{when:%d %b %H:%M}  {message['interaction_device']}: {message['text']}")


if __name__ == "__main__":
    main()
