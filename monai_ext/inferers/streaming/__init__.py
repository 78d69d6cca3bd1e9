"""Sliding-window inference from Zarr to Zarr, for volumes of any size, by any number of processes.

`sliding_window` is the interface. It cuts a volume into blocks (`geometry`, `selection`), of which each process
computes its `shard`. Their windows are read ahead (`reading`, `steps`), predicted (`predictor`), blended (`blending`)
and written (`targets`, `output`, `pyramid`); finished blocks are recorded in the `manifest`. `job` runs all of
this, in one process or on a Dask cluster (`dask`); `verification` checks the output; `inferer` is for a bundle's
evaluator.
"""
