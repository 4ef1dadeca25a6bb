"""The same targets led by coverage: ``python -m property_tests.fuzz.guided TARGET DIRECTORY``.

Atheris (libFuzzer) keeps every input that reaches new branches of `aico_crdt` in DIRECTORY and goes on from there the
next time. A finding ends the process: what escaped is left as ``DIRECTORY-finding-…``, what hung or crashed lies in
``DIRECTORY-trying`` (see :mod:`property_tests.fuzz.watch`). The last line on stderr that begins with ``#`` tells how
far it came.
"""

from __future__ import annotations

import argparse
import random
import sys
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aico_crdt"]):
    from property_tests.fuzz.mutate import MAX_BYTES, damaged
    from property_tests.fuzz.targets import TARGETS
    from property_tests.fuzz.watch import Watch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m property_tests.fuzz.guided", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seconds", type=int, default=0, help="end after so long (default: never)")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried (default: drawn)")
    options = parser.parse_args()
    directory: Path = options.directory
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        target = stack.enter_context(TARGETS[options.target]())
        watch = stack.enter_context(Watch(directory.with_name(directory.name + "-trying")))
        for seed in target.seeds:
            (directory / blake2b(seed, digest_size=20).hexdigest()).write_bytes(seed)

        def one(data: bytes) -> None:
            watch.begin(data)
            target.run(data)
            watch.rest()

        def mutated(data: bytes, max_size: int, seed: int) -> bytes:
            """Half the time libFuzzer's own change, which knows what the code compared with; else one of ours."""
            rng = random.Random(seed)
            if rng.random() < 0.5:
                return bytes(atheris.Mutate(data, max_size))
            return damaged(rng, [data, data, data, rng.choice(target.seeds)], values=target.values)[:max_size]

        arguments = [
            sys.argv[0], str(directory), f"-max_total_time={options.seconds}", f"-seed={options.seed}",
            f"-max_len={MAX_BYTES}", "-timeout=0", "-rss_limit_mb=4096", "-print_final_stats=0", "-verbosity=1",
            f"-artifact_prefix={directory}-finding-",
        ]  # fmt: skip
        atheris.Setup(arguments, one, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
