"""As a program: a loader of two processes whose batches nobody takes, so that both wait to hand over more."""

import sys
import time
from pathlib import Path

from monai_ext.data import SeededLoader


class Long:
    """Items of a megabyte that aren't tensors, so that they go through a pipe, which is full after the first."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        (Path(sys.argv[1]) / f"{index}.loaded").touch()
        return {"text": "a" * 2**20}


if __name__ == "__main__":
    batches = iter(SeededLoader(Long(), batch_size=1, num_workers=2))
    next(batches)
    time.sleep(600)
