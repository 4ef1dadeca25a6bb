"""A promise that was not kept."""

from __future__ import annotations


class Finding(Exception):
    """What a run found wrong. `check` names the promise, in few words that stay the same from run to run."""

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}: {detail}" if detail else check)
        self.check = check
        self.detail = detail


class Crash(BaseException):
    """The process of a device dies here. Not an error: nothing may catch it but the world."""
