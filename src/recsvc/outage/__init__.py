"""What happens when the session store is away, and what makes sure that nothing is lost by it.

`guarded` stands around the store: it counts its faults (`breaker`), stops asking and probes
(`outages`), and notes what the store acknowledged (`journal`). `standby` answers meanwhile, from
what `memory` knows of the sessions, and puts events into the `outbox`. `recovery` brings the store
up to date. A `record` is one call as these keep it, in files of `spool` and `mapped`.
"""
