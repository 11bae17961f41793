"""`kerasdiffusion bench`: how fast this library is, and others beside it.

`command` is the subcommand; it runs `worker` once for each library, in a process of its
own; the worker drives a `Library`, of which there is one in `ours`, `peer_diffusers`
and `peer_keras_cv`; `report` makes the table.
"""
