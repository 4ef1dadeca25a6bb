"""One of several processes that write to one store: ``python -m bench.writer STORE CONVERSATION TASKS``.

Says that it is ready, waits for a line, writes, and prints when it began and ended (monotonic seconds).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from bench import data, stores
from bench.writes import tasks_at_once


def main() -> None:
    path, conversation, tasks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    data.messages(tasks)
    with stores.open_store(path) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        begin = time.monotonic()
        asyncio.run(tasks_at_once(store, conversation, 1, tasks))
        print(json.dumps([begin, time.monotonic()]), flush=True)


if __name__ == "__main__":
    main()
