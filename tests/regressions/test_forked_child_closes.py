"""A child of fork() that closes what it inherited leaves the parent as it was."""

from __future__ import annotations

import os
from typing import Any


def test_the_parent_still_hears_other_processes(family: Any) -> None:
    [a] = family(1)
    ear = a.bell.listen()
    child = os.fork()
    if not child:
        try:
            a.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    a.create("memory", {"content": "one"})
    assert ear.wait(2.0)
