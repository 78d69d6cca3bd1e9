"""``python -m slow_prediction VOLUME OUTPUT SECONDS``: slow enough to be killed; tells how often the network ran."""

import sys
import time

from zarr_helpers import TwoHeads, predictor


class Slow(TwoHeads):
    def forward(self, x):
        time.sleep(float(sys.argv[3]))
        return super().forward(x)


if __name__ == "__main__":
    network = Slow()
    network.__class__.__name__ = "TwoHeads"
    print("begins", flush=True)
    done = predictor(network, pyramid_levels=1)(sys.argv[1], sys.argv[2])
    print(network.calls, done.complete, flush=True)
