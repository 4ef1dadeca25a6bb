"""The public fault harness: one workload under faults, on this store and on what users would pick instead.

===============  =====================================================================
`system`         what is put to the test: processes on machines, links between them
`ledger`         what was asked of a system, and which of it was acknowledged
`score`          what a system owes for that: lost, resurrected and divergent writes
`world`          carries out operations and faults, and records them in the ledger
`wire`, `post`   networks that fail on purpose: of connections, of messages
`child`          a process that is told what to do, and can be killed
`scenarios/`     the faults, one file each
`systems/`       the systems, one file each
===============  =====================================================================

How it is configured, and what a run found: docs/fault-harness.md.
"""
