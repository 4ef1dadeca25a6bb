"""A deterministic simulator: a family of real stores under every fault, checked against what they promised.

Real stores on a scratch directory, the real session, real crypto. Only time, chance, the network and the moment of
death are made up, all from one number: a seed replays. See ``docs/simulation.md``; ``python -m simulation --help``.

=============  =====================================================================================
``world``      the devices, the network and the clock; the steps of one seed, one after another
``faults``     what befalls devices and links
``workload``   what is written
``device``     one device: its store, its processes, its death and return, what it holds durably
``shell``      drives the sessions of a device, as the node of the mesh does
``network``    frames under way
``ledger``     what was acknowledged to somebody, and what supersedes it; knows nothing of entries
``oracle``     every entry as the executable model reads it
``healing``    all faults end; how long until everybody agrees
``verdict``    what must hold then
``run``        seeds, traces, counters, shrinking
=============  =====================================================================================
"""
