"""Many checkpoints: what is to be done, by whom, what became of each.

The way of the data: ``inputs`` and ``jobs`` (what) → ``run`` (in which order, by any
``concurrent.futures.Executor``) → ``work`` (one file, in a worker) → ``ledger`` (what became of
it).  ``local`` and ``cluster`` are executors.
"""
