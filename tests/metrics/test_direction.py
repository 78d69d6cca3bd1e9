import pytest

from monai_ext.metrics.direction import lower_is_better


@pytest.mark.parametrize(
    "name",
    [
        *("val_loss", "train_loss", "val_loss_sheet", "best_val_loss", "normals_angle", "depth_mae", "hamming"),
        *("false_positive_slices", "crops_loss", "-anything"),
    ],
)
def test_less_is_better(name):
    assert lower_is_better(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "auc",
            "auroc",
            "f1",
            "accuracy",
            "top2_accuracy",
            "sheet_dice",
            "patient_dice",
            "iou",
            "recall",
            "precision",
        ),
        *("best_f1", "exact_match", "average_precision_micro", "kappa", "mcc", "sensitivity", "triangles"),
    ],
)
def test_more_is_better(name):
    assert not lower_is_better(name)
