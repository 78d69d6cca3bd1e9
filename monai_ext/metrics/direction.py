"""Which way a metric is better, by its name: the one table for monitors and comparisons."""

from __future__ import annotations

# Words in the names of metrics of which less is better: `val_loss_sheet`, `normals_angle`, `depth_mae`.
LOW = frozenset(
    (
        *("loss", "mae", "mse", "rmse", "angle", "error", "hamming", "brier", "ece", "hausdorff", "hd95", "distance"),
        *("false", "seconds", "memory"),
    )
)


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better.

    Args:
        metric: its name, as in ``metrics.json`` or with ``best_`` in front; a ``-`` in front says so itself.
    """
    return metric.startswith("-") or not LOW.isdisjoint(metric.lower().split("_"))
