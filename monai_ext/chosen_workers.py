"""``--workers`` and ``--dask``: where the commands compute their cases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from monai_ext.errors import ConfigError
from monai_ext.places import Dask, Place

DASK = typer.Option("--dask", help="Work on a Dask cluster: the address of its scheduler, tcp://...")


@contextmanager
def chosen_workers(workers: int | None, dask: str | None) -> Iterator[int | Place | None]:
    """The number of local workers (None: the default), or the cluster, connected meanwhile.

    Raises:
        ConfigError: when both are given, or the cluster isn't there.
    """
    if dask is None:
        yield workers
    elif workers is not None:
        raise ConfigError("give --workers for this machine or --dask for a cluster, not both")
    else:
        with Dask(dask) as cluster:
            yield cluster
