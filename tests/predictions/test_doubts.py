"""A network that has learnt nothing is not presented without a word."""

import numpy as np
import pytest

from monai_ext.metrics import SegmentationResult, SliceRecord, classification_metrics, multi_label_metrics
from monai_ext.predictions.doubts import doubts


def classes(predicted, labels):
    return classification_metrics(np.eye(2)[predicted], labels, ["LGG", "HGG"])


def slices(overlap):
    return SegmentationResult([SliceRecord(0, "a", "p", 0.5, overlap, 4.0, 4.0)])


def labels(scores):
    return multi_label_metrics(np.array(scores), np.array([[1, 0], [0, 1]]), ["a", "b"], thresholds=[0.5, 0.5])


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (classes([1, 1, 1], [0, 1, 1]), ["the network predicts HGG for all 3 cases"]),
        (classes([1, 0, 1], [0, 1, 1]), []),
        (classes([1, 1, 1], [1, 1, 1]), []),
        (slices(0.0), ["the network finds nothing: dice is 0 in its best epoch"]),
        (slices(2.0), []),
        (labels([[0.1, 0.2], [0.3, 0.4]]), ["the network predicts no label for any of 2 cases"]),
        (labels([[0.9, 0.2], [0.3, 0.4]]), []),
        (None, []),
    ],
)
def test_what_a_network_has_not_learnt_is_said(result, found):
    said = doubts(result)
    assert [sentence for sentence in said if "_dice" not in sentence] == found
