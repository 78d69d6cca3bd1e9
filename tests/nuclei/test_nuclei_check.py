from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from nuclei_files import SHAPE, damage, spoil, write_stack, write_table

from monai_ext import nuclei


def test_check_of_good_data_warns_of_small_classes_only(root: Path) -> None:
    problems = nuclei.check(root)
    assert [problem.severity for problem in problems] == ["warning"] * 3
    assert "class 1 'Round' has 2 samples, too few for five folds" in problems[0].message
    write_table(root, [(n, 1, "Round") for n in range(1, 9)])
    (problem,) = nuclei.check(root)
    assert (problem.severity, "one class only" in problem.message) == ("error", True)


def test_check_lists_every_problem_at_once(root: Path) -> None:
    for case, kind in (("0001", "truncated"), ("0002", "shape"), ("0003", "type"), ("0004", "mask slice")):
        damage(root, kind, case)
    spoil(root / "0006" / "raw" / "slice_004.tif")
    for file in (root / "0007" / "raw").iterdir():
        tifffile.imwrite(file, np.full(SHAPE[1:], np.nan, np.float32))
    (root / "0007" / "mask").rename(root / "0007" / "masks")
    for file in (root / "0008" / "mask").iterdir():
        file.write_bytes(b"")
    write_table(root, [(n, 1 + n % 2, "ab"[n % 2]) for n in range(1, 8)])
    write_stack(root / "9" / "raw")

    problems = [problem for problem in nuclei.check(root, workers=2) if "too few" not in problem.message]
    found = {f"{Path(p.path).relative_to(root)}: {p.message.split(';')[0].split(',')[0]}" for p in problems}
    expected = {
        "0001/raw/slice_003.tif: is truncated",
        "0002/raw/slice_003.tif: has shape (5",
        "0003/raw/slice_003.tif: has data type uint16",
        "0004/mask/slice_003.tif: is missing",
        "0006/raw/slice_004.tif: can't be read",
        "0007/mask: is missing",
        ".: 1 entry is not used (0007/masks): neither raw nor mask",
        "9: has no row in",
        "0008: has no row in",
    } | {f"0007/raw/slice_00{n}.tif: has pixels that are NaN or infinite" for n in range(1, 7)}
    assert all(any(line.startswith(text) for line in found) for text in expected), found
    assert len(found) == len(expected)


def test_check_goes_on_without_a_table(root: Path, tmp_path: Path) -> None:
    (root / "classes.csv").write_text("sample_id,class_id\n1,1\n", encoding="utf-8")
    (root / "0002" / "raw" / "slice_001.tif").write_bytes(b"")
    table, file = nuclei.check(root)
    assert "column 'class_name' is missing" in table.message
    assert "is empty" in file.message
    (problem,) = nuclei.check(tmp_path / "none")
    assert "demo-data nuclei_vgg3d" in problem.message
