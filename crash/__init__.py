"""Crashes, power losses and failing disks, made on purpose and judged from outside. See ``docs/crash.md``.

``shim``    faults between a process and its files (a small C library in LD_PRELOAD)
``zygote``  a warm process that forks the ones that are to die
``ledger``  what was acknowledged, and what a store must hold by it
``work``    what the processes of one device do meanwhile
``kills``   kill -9 at random instants while several processes write
``power``   a log of writes, and the disks a power loss may leave of it
``sweeps``  fail, or die at, the k-th step of a piece of work, for all k
"""
