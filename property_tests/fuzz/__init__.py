"""Fuzzers: every decoder that reads what others wrote, on input that nobody meant to write.

``python -m property_tests.fuzz TARGET SEED COUNT`` tries COUNT inputs of a seed, ``… TARGET --input FILE`` one;
``python -m property_tests.fuzz.guided TARGET DIRECTORY`` goes on for ever, led by coverage, from the inputs kept in
DIRECTORY. `property_tests/test_fuzz.py` runs the first in processes of their own, `make soak` the second.

An input ends well when the target takes it, or refuses it with an error of :mod:`aico_crdt.errors`, and, where there
is a store, nothing changed by a refusal. All else is a finding: another exception (a Rust panic is none of
`Exception`), a second of CPU time, a crash.
"""
