"""Sliding-window inference from Zarr to Zarr, for volumes of any size, by any number of processes.

`sliding_window` is what callers see. It cuts a volume into blocks (`geometry`, `selection`), of which each process
computes its `shard`. Their windows are read ahead (`reading`, `steps`), predicted (`predictor`), blended (`blending`)
and written (`targets`, `output`, `pyramid`); finished blocks stand in the `manifest`. `job` runs all that, in one
process or on a Dask cluster (`dask`); `verification` reads what came out; `inferer` is for a bundle's evaluator.
"""
