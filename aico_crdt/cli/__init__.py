"""The command `aico-crdt`: its only entry point is :func:`aico_crdt.cli.main.main`.

==============  ====================================================================
`main`          the group: which commands there are, how errors and signals end them
`command`       what all commands share: global options, typed errors, exit codes
`opening`       where store, key and lease are, and opening them
`output`        tables, JSON, progress
`naming`        devices, documents and entries as people name them
`reading`       facts read out of a store, as values; `relatives` those about devices
`init`          init, id
`members`       admit, revoke, devices
`inspect`       status, inspect, log
`why`           why
`merge`         merge, diff, bundle
`upkeep`        verify, repair, compact, vacuum, backup, restore
`transfer`      export, import
`serving`       serve, sync
`demo`          demo; `demo_story` what is written, `demo_process` and `demo_device` the
                two ends of a device's process, `demo_report` what is printed
==============  ====================================================================
"""
