"""Run folders as the trainer leaves them, made of a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monai_ext.io import write_csv, write_json
from monai_ext.metrics import ClassificationResult, classification_intervals, classification_metrics, interval_entries

NAMES = ["LGG", "HGG"]


def make_result(labels: list[int], names: list[str], prefix: str, seed: int = 0) -> ClassificationResult:
    rng = np.random.default_rng(seed)
    truth = np.array(labels)
    scores = rng.dirichlet(np.ones(len(names)), len(truth)) + 0.6 * np.eye(len(names))[truth]
    cases = [f"{prefix}{number:03d}" for number in range(len(truth))]
    return classification_metrics(scores / scores.sum(axis=1, keepdims=True), truth, names, cases=cases)


def make_history(epochs: int) -> list[dict]:
    rng = np.random.default_rng(1)
    rows = []
    for epoch in range(1, epochs + 1):
        noise = rng.normal(0, 0.01, 3)
        rows.append(
            {
                "epoch": epoch,
                "train_loss": 1.6 * np.exp(-epoch / 8) + 0.1 + noise[0],
                "val_loss": 1.5 * np.exp(-epoch / 9) + 0.25 + noise[1],
                "lr": 1e-4 * (1 + np.cos(np.pi * epoch / (epochs + 1))) / 2,
                "auc": float(np.clip(1 - 0.5 * np.exp(-epoch / 5) + noise[2], 0, 1)),
                "accuracy": 1 - 0.6 * np.exp(-epoch / 6),
                "f1": 1 - 0.65 * np.exp(-epoch / 6),
            }
        )
    return rows


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes a run folder and returns it."""

    def make(
        name: str = "run_20260102_030405",
        labels: list[int] | None = None,
        class_names: list[str] | None = None,
        prefix: str = "Brats18_CBICA_",
        epochs: int = 20,
        parameters: dict | None = None,
    ) -> Path:
        run = tmp_path / name
        names = class_names or NAMES
        found = make_result([0] * 15 + [1] * 42 if labels is None else labels, names, prefix)
        history = make_history(epochs)
        write_json(
            run / "metrics/metrics.json",
            {
                "bundle": "brats_resnet50",
                "fold": 0,
                "epoch": epochs,
                "best_epoch": max(1, epochs - 4),
                **found.to_dict(),
                "metrics": {**found.metrics, "loss": 0.412345},
                "history": history,
                "loss_summary": {},
                **interval_entries(classification_intervals(found, n=50)),
            },
        )
        write_csv(run / "predictions/val_predictions.csv", found.rows())
        write_json(run / "config/config.json", {"lr": 1e-4, "network_def": {"_target_": "monai_ext.networks.X"}})
        write_json(
            run / "run.json",
            {
                "status": "finished",
                "started": "2026-01-02T03:04:05+00:00",
                "ended": "2026-01-02T04:10:25+00:00",
                "bundle": "brats_resnet50",
                "run_name": name,
                "mlflow_run_id": "0123456789abcdef",
                "parameters": parameters or {"lr": 1e-4, "batch_size": 4, "max_epochs": 50, "device": "cuda:0"},
                "versions": {"torch": "2.13.0", "monai": "1.6.1"},
                "commit": "8200d3a",
                "data": {
                    "fingerprint": "sha256:0f0f",
                    "counts": {"train": {names[0]: 60, names[-1]: 168}, "val": {names[0]: 15, names[-1]: 42}},
                },
                "memory": {"process_peak_mib": 5120.5, "gpu_peak_mib": 17203.0},
                "events": ["2 batches skipped: non-finite loss (cases Brats18_2013_1_1, Brats18_2013_2_1)"],
            },
        )
        return run

    return make


@pytest.fixture
def make_cross_validation(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes the folder of a cross-validation and returns it."""

    def make(folds: int = 5) -> Path:
        folder = tmp_path / "cv"
        together = make_result([0] * 25 + [1] * 70, NAMES, "case_")
        rows = [row | {"fold": number % folds} for number, row in enumerate(together.rows())]
        columns = ["case", "fold", "prob_LGG", "prob_HGG", "prediction", "label"]
        write_csv(folder / "out_of_fold.csv", rows, columns)
        each = [make_result([0] * 5 + [1] * 14, NAMES, "case_", seed).metrics for seed in range(folds)]
        write_json(
            folder / "cross_validation.json",
            {
                "bundle": "brats_resnet50",
                "folds": [
                    {"fold": fold, "run_dir": f"fold_{fold}/run_x", "metrics": metrics, "best_epoch": 10 + fold}
                    for fold, metrics in enumerate(each)
                ],
                "mean": {key: float(np.mean([found[key] for found in each])) for key in each[0]},
                "std": {key: float(np.std([found[key] for found in each])) for key in each[0]},
                "out_of_fold": {
                    **together.to_dict(),
                    **interval_entries(classification_intervals(together, n=50)),
                },
                "calibration": {"a": 0.91, "b": -0.2},
                "threshold": 0.47,
            },
        )
        return folder

    return make
