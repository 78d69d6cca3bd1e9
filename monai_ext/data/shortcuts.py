"""Whether what is no image tells the label: file size, voxel grid, scanner, header text, parts of the name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.prepared_inputs import image_files, plain_label
from monai_ext.data.problems import Problem

FOLDS = 5
# Cases of the rarer class: with fewer, five folds say nothing.
ENOUGH = 10
# The lower end of the interval of the area under the ROC curve from which a property counts as a shortcut.
CLEARLY = 0.6


def shortcuts(data: Mapping[str, Sequence[Mapping[str, Any]]], class_names: Sequence[str] = ()) -> list[Problem]:
    """Properties of the files that alone tell the label, by a decision tree that is cross-validated over patients.

    Only where the lower end of the 95 % interval of the area under the ROC curve is clearly above one half. File sizes
    count although compressed images of more content are larger: whether that is the disease or the export only a person
    can say.

    Args:
        data: section → items; the first item of each case counts.
        class_names: names of the labels.
    """
    cases: dict[str, Mapping[str, Any]] = {}
    for items in data.values():
        for number, item in enumerate(items):
            if plain_label(item.get("label")) is not None:
                cases.setdefault(str(item.get("case", number)), item)
    if len(cases) < 2 * ENOUGH:
        return []
    targets = _targets([plain_label(item["label"]) for item in cases.values()], class_names)
    patients = np.unique([str(item.get("patient", case)) for case, item in cases.items()], return_inverse=True)[1]
    columns = _columns([properties(case, item) for case, item in cases.items()])
    problems = []
    for name, values in columns.items():
        found = {label: _separation(values, truth, patients) for label, truth in targets.items()}
        clear = {label: ends for label, ends in found.items() if ends is not None}
        if clear:
            label = max(clear, key=lambda label: clear[label][1])
            auc, low, high = clear[label]
            further = f", and {len(clear) - 1} more labels" if len(clear) > 1 else ""
            message = (
                f"{name} alone tells {label}{further}: cross-validated AUC {auc:.2f} (95 % interval {low:.2f} to "
                f"{high:.2f}, {len(cases)} cases); a network may learn that instead of the image"
            )
            problems.append(Problem("all cases", message, "warning", "shortcut"))
    return problems


def properties(case: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a case without its voxels: numbers, tuples of numbers, and words.

    Args:
        case: its name.
        item: with ``image``, and perhaps ``spacing``, ``manufacturer`` and ``scanner``, which count more than what the
            header says.
    """
    files = list(image_files(item.get("image")))
    found: dict[str, Any] = {"the size of the files": float(sum(_size(Path(file)) for file in files))}
    grid, voxels = (getattr(item.get("image"), name, None) for name in ("shape", "dtype"))
    if voxels is not None:
        found["the type of the voxels"] = str(voxels)
    if grid is not None:
        found["the number of voxels along the axes"] = tuple(map(float, grid))
    if files and files[0].lower().endswith((".nii", ".nii.gz")):
        found |= _header(files[0])
    if item.get("spacing") is not None:
        found["the voxel spacing"] = tuple(map(float, np.ravel(item["spacing"])))
    for name, said in (("manufacturer", "the manufacturer of the scanner"), ("scanner", "the model of the scanner")):
        if item.get(name) is not None:
            found[said] = str(item[name])
    stem = re.sub(r"(\.nii)?(\.gz)?$", "", case.rpartition("/")[2])
    for number, word in enumerate(re.split(r"[\W_]+", stem), 1):
        found[f"part {number} of the name"] = word
    return found


def _header(file: str) -> dict[str, Any]:
    import nibabel

    try:
        header = nibabel.load(file).header
        described = bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1")
        return {
            "the number of voxels along the axes": tuple(map(float, header.get_data_shape()[:3])),
            "the voxel spacing": tuple(round(float(edge), 4) for edge in header.get_zooms()[:3]),
            "the description in the header": described,
            "the type of the voxels": str(header.get_data_dtype()),
        }
    except Exception:  # a file that can't be read is another finding
        return {}


def _size(path: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(path)) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _targets(labels: Sequence[Any], class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Label → whether each case has it; of two classes the last one only."""
    matrix = np.array(labels)
    if matrix.ndim == 1:
        classes = sorted(set(labels))
        matrix = (matrix[:, None] == np.array(classes[1:] if len(classes) == 2 else classes)).astype(int)
        numbers = classes[1:] if len(classes) == 2 else classes
    else:
        numbers = list(range(matrix.shape[1]))
    names = [str(class_names[number]) if number < len(class_names) else f"label {number}" for number in numbers]
    return {
        name: column
        for name, column in zip(names, matrix.T, strict=True)
        if min(int(column.sum()), int((1 - column).sum())) >= ENOUGH
    }


def _columns(found: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Property → (cases, features), of those that all cases have and that aren't the same for all."""
    columns = {}
    for name in found[0]:
        values: list[Any] = [one.get(name) for one in found]
        if None in values or len(set(values)) < 2:
            continue
        if isinstance(values[0], str):
            frequent = [word for word, count in Counter(values).items() if count >= FOLDS]
            if frequent:  # else names that are different for each case
                columns[name] = np.array([[float(value == word) for word in frequent] for value in values])
        elif len({np.size(value) for value in values}) == 1:
            columns[name] = np.array([np.ravel(value) for value in values], np.float64)
    return columns


def _separation(values: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, float, float] | None:
    """Area under the curve with its interval, where it is clearly above one half."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, random_state=0)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    try:
        scores = cross_val_predict(tree, values, truth, groups=patients, cv=folds, method="predict_proba")[:, 1]
    except (ValueError, IndexError):  # too few patients of a class for the folds
        return None
    auc = float(roc_auc_score(truth, scores))
    if auc <= CLEARLY:
        return None
    low, high = np.percentile(resampled_aucs(scores, truth), (2.5, 97.5))
    return (auc, float(low), float(high)) if low > CLEARLY else None


def resampled_aucs(scores: np.ndarray, truth: np.ndarray, repeats: int = 500) -> np.ndarray:
    """Areas under the ROC curves of cases that are drawn with replacement within each class.

    Args:
        scores: of each case; a tree gives few different ones, so those of a draw are counted.
        truth: 0 or 1 of each case.
        repeats: number of areas.
    """
    rng = np.random.default_rng(0)
    known, levels = np.unique(scores, return_inverse=True)
    sides = levels[truth == 1], levels[truth == 0]
    drawn = [[np.bincount(rng.choice(side, len(side)), minlength=len(known)) for side in sides] for _ in range(repeats)]
    positive, negative = np.array(drawn).transpose(1, 0, 2)
    # Pairs in which the positive case has the higher score; those with equal scores count half.
    pairs = positive * (negative.cumsum(1) - negative / 2)
    return pairs.sum(1) / (len(sides[0]) * len(sides[1]))
