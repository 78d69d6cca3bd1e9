"""Pretrained weights: loaded with a report of the tensors that fitted, and never silently in part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from monai_ext.errors import WeightsError
from monai_ext.networks.checkpoints import first_names, read_checkpoint, shape_note, state_dict_of, unwrap

logger = logging.getLogger(__name__)


@dataclass
class LoadReport:
    """Report of a loading: the fate of each tensor.

    Attributes:
        matched: the network's keys that got their values from the file.
        missing: the network's keys that keep their initial values.
        unexpected: the file's keys that the network doesn't know.
        ignored: the file's keys that were left out on purpose.
        reshaped: for each missing key that the file has in another shape, both shapes.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for the log."""
        parts = [f"{len(self.matched)} of {len(self.matched) + len(self.missing)} tensors loaded"]
        if self.missing:
            parts.append(f"starting fresh: {first_names(self.missing)}")
        if self.reshaped:
            parts.append(f"of another shape: {first_names(self.reshaped)}")
        if self.unexpected:
            parts.append(f"unexpected in the file: {first_names(self.unexpected)}")
        if self.ignored:
            parts.append(f"{len(self.ignored)} ignored")
        return "; ".join(parts)


def load_pretrained(
    network: nn.Module, path: str | Path, *, ignore: Iterable[str] = (), strict_backbone: bool = True
) -> LoadReport:
    """Load weights from elsewhere into a network; only its head may start fresh.

    A network can declare three things by class attributes and a method, all optional: ``head_prefixes`` (keys that may
    be missing), ``ignored_prefixes`` (dead parts of the reference's files), and ``adapt_state_dict(state) -> state``
    (the reference's names and shapes to its own; names that it doesn't know stay).

    Args:
        network: receives the weights; wrappers (DataParallel, ``torch.compile``) are unwrapped.
        path: path of a file by ``torch.save``; see `state_dict_of` for what is unwrapped.
        ignore: prefixes of further keys to leave alone: the file's aren't loaded, the network's may be missing.
        strict_backbone: False turns the error about missing or differently shaped backbone tensors into a warning.

    Returns:
        The report, which is logged as well. A layer of the head of which any tensor is absent or of another shape
        counts as missing.

    Raises:
        WeightsError: when the file can't be read safely, nothing in it fits, or the backbone isn't matched
            completely; the network is then unchanged.
    """
    network = unwrap(network)
    name = type(network).__name__
    ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    dead = (*getattr(network, "ignored_prefixes", ()), *ignore)
    fresh = (*getattr(network, "head_prefixes", ()), *ignore)

    state = state_dict_of(read_checkpoint(path), path)
    own = network.state_dict()
    report = LoadReport(ignored=[key for key in state if key.startswith(dead)])
    state = {key: value for key, value in state.items() if not key.startswith(dead)}
    adapt: Callable[..., dict[str, torch.Tensor]] | None = getattr(network, "adapt_state_dict", None)
    if adapt is not None:
        state = adapt(state)

    report.unexpected = [key for key in state if key not in own]
    for key, value in own.items():
        if key in state and state[key].shape == value.shape:
            report.matched.append(key)
            continue
        report.missing.append(key)
        if key in state:
            report.reshaped.append(shape_note(key, state, own))

    # A bias is useless without its weight: a layer of the head comes from the file as a whole, or starts fresh.
    torn = {key.rpartition(".")[0] for key in report.missing if key.startswith(fresh)}
    report.missing += [key for key in report.matched if key.rpartition(".")[0] in torn]
    report.matched = [key for key in report.matched if key.rpartition(".")[0] not in torn]

    backbone = [key for key in own if not key.startswith(fresh)]
    unmatched = [key for key in report.missing if not key.startswith(fresh)]
    if len(unmatched) == len(backbone):
        raise WeightsError(f"{path}: nothing in it fits {name}; it has {first_names(list(state))}")
    if unmatched and strict_backbone:
        reshaped = [note for note in report.reshaped if not note.startswith(fresh)]
        shapes = f"; of another shape: {first_names(reshaped)}" if reshaped else ""
        raise WeightsError(
            f"{path}: does not fit {name}: {len(unmatched)} of {len(backbone)} backbone tensors are not matched: "
            f"{first_names(unmatched)}{shapes}. Give weights of this architecture, or pass strict_backbone=False to "
            "start these from random values"
        )
    network.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    level = logging.WARNING if unmatched or report.unexpected else logging.INFO
    logger.log(level, "%s: %s: %s", path, name, report.summary())
    return report
