"""The name of a run: its bundle, what was set, and its fold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_ext.io import read_json
from monai_ext.settings.recipe import FREE, PATHS
from monai_ext.settings.schema import is_computed

# Settings in a name; of more only the number.
SHOWN = 6
# What says how long and with how much: it comes last, as MLflow's lists show the beginning of a name.
_LAST = ("num_folds", "max_epochs", "batch_size", "max_train_batches", "max_val_batches", "val_interval", "image_size")


def run_title(bundle: str | Path, config: Mapping[str, Any]) -> str:
    """Bundle and changed settings, such as ``brats t1ce lr=5e-4``: texts first, without the setting's name.

    Args:
        bundle: folder of the bundle, whose ``train.json`` has the defaults.
        config: merged config of the training, not parsed.
    """
    changed = list(_changed(Path(bundle), config))
    changed.sort(key=lambda one: (one[0] in _LAST, not isinstance(one[1], str)))
    more = [f"+{len(changed) - SHOWN}"] if len(changed) > SHOWN else []
    return " ".join([_short(Path(bundle).name), *(_word(*one) for one in changed[:SHOWN]), *more])


def _changed(bundle: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    file = bundle / "configs" / "train.json"
    shipped = read_json(file) if file.is_file() else {}
    for name, default in shipped.items():
        value = config.get(name, default)
        told = name in FREE or name in PATHS or name in ("fold", "distributed")
        if value != default and not told and not is_computed(value):
            yield name, value


def _word(name: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{name}={Path(value).name}" if "/" in value else value
    if isinstance(value, float):
        mantissa, exponent = f"{value:.6e}".split("e")
        short = f"{float(mantissa):g}e{int(exponent)}"
        return f"{name}={min(f'{value:g}', short, key=len)}"
    if isinstance(value, (bool, int)) or value is None:
        return f"{name}={str(value).lower().replace('none', 'null')}"
    return f"{name}=…"


def _short(bundle: str) -> str:
    """First word of a bundle's name; the first two where the first is an abbreviation of two letters, such as "ct"."""
    found = re.match(r"[^_]{1,2}_[^_]+|[^_]+", bundle)
    return found[0] if found else bundle
