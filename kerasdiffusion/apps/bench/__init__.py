"""`kerasdiffusion bench`: how fast this library is, and others beside it.

`command` is the subcommand; it runs `worker` once for each library, in a process of its
own; the worker drives a `Library`, of which there is one in `ours` and in each
`peer_...`; `report` makes the table.
"""
