"""Sliding-window inference from Zarr to Zarr, for volumes of any size, by any number of processes.

`sliding_window` is what callers see. It cuts a volume into blocks (`geometry`, `selection`), whose windows are read
ahead (`reading`, `steps`, `ahead`), predicted (`predictor`), blended (`blending`) and written (`targets`, `output`,
`metadata`, `pyramid`); finished blocks stand in the `ledger`. `job` runs all that, in one process or on a cluster
(`launcher`, `dask`), `verification` looks at what came out. `checkpoint` and `inferer` make it from a trained network,
for the command line and for a bundle's evaluator.
"""
