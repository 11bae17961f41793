"""`kerasdiffusion bench`: how fast this library is, and others beside it.

`command` is the subcommand; `measuring` starts a `worker` for each library, in a
process of its own, and has them make their calls in turn; a worker drives a `Library`,
of which there is one in `ours` and in each `peer_...`; `report` makes the table.
"""
