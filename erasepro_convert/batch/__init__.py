"""Converting many checkpoints, with a record of what became of each.

``inputs`` and ``jobs`` list what is to be done; ``scheduler`` gives the jobs that ``readiness``
prepares to an executor (``process_pool`` or ``dask_cluster``); ``worker`` does one job; ``ledger``
records its result.
"""
