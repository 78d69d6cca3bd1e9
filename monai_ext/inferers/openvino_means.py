"""Means over space and group norms of an OpenVINO model, as its CPU plugin computes them fast and exactly."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

_F = np.float32


def rewrite_means(model: Any) -> None:
    """Take means over all of space axis by axis, and group norms by such means, in place.

    As they come, a mean over a large feature map adds up its voxels one after the other in float32: seen were errors of
    3e-4 of the largest output at 64x192x192. And a group norm becomes a normalisation of reshaped features, for which
    they are brought from channels-last into another order, and back: a third of the time of ``SurfaceUNet``.

    Args:
        model: ``openvino.Model`` with features (B, C, [Z,] Y, X); of any size, and with any number of outputs.
    """
    ops = importlib.import_module("openvino.opset13")
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "GroupNormalization" and _rank(node) > 2:
            node.output(0).replace(_group_norm(ops, node).output(0))
        elif kind == "ReduceMean" and _is_over_space(node):
            mean = _mean(ops, node.input_value(0), _rank(node))
            if not node.get_attributes()["keep_dims"]:
                mean = ops.squeeze(mean, node.input_value(1))
            node.output(0).replace(mean.output(0))
    model.validate_nodes_and_infer_types()


def _is_over_space(node: Any) -> bool:
    rank, axes = _rank(node), node.input_value(1).get_node()
    if rank < 4 or axes.get_type_name() != "Constant":
        return False
    return sorted(int(axis) % rank for axis in axes.data.ravel()) == list(range(2, rank))


def _rank(node: Any) -> int:
    """Axes of a node's first input; 0 where they aren't known."""
    rank = node.get_input_partial_shape(0).rank
    return rank.get_length() if rank.is_static else 0


def _mean(ops: Any, x: Any, rank: int) -> Any:
    """Mean over space, (B, C, 1, 1[, 1])."""
    *others, last = range(2, rank)
    rows = ops.reduce_mean(x, np.array([last]), keep_dims=True)
    # Means that follow each other directly would become one again. Powers of two change no digit.
    return ops.multiply(ops.reduce_mean(ops.multiply(rows, _F(2)), np.array(others), keep_dims=True), _F(0.5))


def _group_norm(ops: Any, node: Any) -> Any:
    """Group normalisation, https://arxiv.org/abs/1803.08494, with the variance of what is left of the mean."""
    x, scale, bias = (node.input_value(index) for index in range(3))
    given, rank = node.get_attributes(), _rank(node)
    groups, channels, ones = given["num_groups"], scale.get_shape()[0], [1] * (rank - 2)

    def of_groups(means: Any) -> Any:
        within = ops.reshape(means, np.array([0, groups, channels // groups]), special_zero=True)
        mean = ops.tile(ops.reduce_mean(within, np.array([2]), keep_dims=True), np.array([1, 1, channels // groups]))
        return ops.reshape(mean, np.array([0, channels, *ones]), special_zero=True)

    def of_channels(values: Any) -> Any:
        return ops.reshape(values, np.array([1, channels, *ones]), special_zero=False)

    centred = ops.subtract(x, of_groups(_mean(ops, x, rank)))
    variance = of_groups(_mean(ops, ops.multiply(centred, centred), rank))
    factor = ops.power(ops.add(variance, _F(given["epsilon"])), _F(-0.5))
    return ops.add(ops.multiply(centred, ops.multiply(factor, of_channels(scale))), of_channels(bias))
