"""Synthetic data with one fault each: `check` finds it, and finds nothing in clean data.

The faults are in `planted_brats`, `planted_nuclei` and `planted_ct_rate`; docs/checking.md has the table of them.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import planted_brats
import planted_ct_rate
import planted_nuclei
import pytest
from planted import Fault, linked
from typer.testing import CliRunner

from monai_ext.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "checking.md"
ROOMS = {"brats_resnet50": "brats", "nuclei_vgg3d": "nuclei", "ct_rate_multilabel": "ct_rate"}
WORDS = {
    "brats_resnet50": ("--image_size", 32, "--num_folds", 3),
    "nuclei_vgg3d": ("--crop_size", 40, "--margin", 4, "--num_folds", 3, "--test_fraction", 0),
    "ct_rate_multilabel": ("--num_slices", 4, "--slice_size", 64, "--num_folds", 3),
}
# At least ten cases of each class, as `shortcut` needs.
COUNTS = {"brats_resnet50": (12, 12), "nuclei_vgg3d": (12, 12, 0, 0, 0), "ct_rate_multilabel": (24, 2)}
FAULTS: dict[str, dict[str, Fault]] = {
    "brats_resnet50": planted_brats.FAULTS,
    "nuclei_vgg3d": planted_nuclei.FAULTS,
    "ct_rate_multilabel": planted_ct_rate.FAULTS,
}
PAIRS = [(bundle, name) for bundle, faults in FAULTS.items() for name in faults]
IDS = [f"{ROOMS[bundle]}-{name}" for bundle, name in PAIRS]
OPTIONAL = ("--metadata", "optional")


def found(bundle: str, folder: Path, *words: Any) -> list[dict[str, Any]]:
    """What the command finds."""
    output = folder.with_name("found.json")
    if bundle == "ct_rate_multilabel" and "--metadata" not in words:
        words = (*words, *OPTIONAL)
    line = ("check", bundle, "--dataset_dir", folder, "--output", output, *WORDS[bundle], *words)
    CliRunner().invoke(app, [str(word) for word in line], catch_exceptions=False)
    problems: list[dict[str, Any]] = json.loads(output.read_text())["problems"]
    return problems


def is_named(path: Path, problem: dict[str, Any]) -> bool:
    """Whether a finding has a path, or its folder and its name."""
    text = " ".join([problem["path"], problem["message"], *problem["files"]])
    return str(path) in text or (str(path.parent) in text and path.name in text)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Data of each bundle, made when first asked for, and still as they were after all faults."""
    made: dict[str, tuple[Path, dict[str, int]]] = {}

    def times(folder: Path) -> dict[str, int]:
        return {str(path): os.stat(path).st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    def make(bundle: str) -> Path:
        if bundle not in made:
            folder = tmp_path_factory.mktemp(bundle) / "data"
            importlib.import_module(f"monai_ext.{ROOMS[bundle]}.demo").make_demo(folder, counts=COUNTS[bundle])
            if bundle == "ct_rate_multilabel":
                planted_ct_rate.all_labels_occur(folder)
            made[bundle] = folder, times(folder)
        return made[bundle][0]

    yield make
    for folder, before in made.values():
        assert times(folder) == before, "a fault has changed the clean data, which all faults share"


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--sample", 0)], ids=["prepared", "read"])
@pytest.mark.parametrize("bundle", FAULTS)
def test_clean_data_have_no_finding(bundle: str, words: tuple[Any, ...], clean: Callable[[str], Path]) -> None:
    assert [problem for problem in found(bundle, clean(bundle), *words) if problem["severity"] != "note"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "name"), PAIRS, ids=IDS)
def test_a_planted_fault_is_found(bundle: str, name: str, clean: Callable[[str], Path], tmp_path: Path) -> None:
    fault = FAULTS[bundle][name]
    folder = linked(clean(bundle), tmp_path / "data")
    path = fault.plant(folder)
    problems = found(bundle, folder, *fault.words, *(() if fault.prepared else ("--sample", 0)))
    of_code = [one for one in problems if one["code"] == fault.code]
    known = [(one["code"], one["severity"], one["path"], one["message"][:150]) for one in problems]
    assert [one for one in of_code if path is None or is_named(path, one)], known


@pytest.mark.parametrize("bundle", FAULTS)
def test_each_bundle_has_25_kinds_of_faults(bundle: str) -> None:
    assert len(FAULTS[bundle]) >= 25


def table() -> str:
    """The rows of the page: the code that tells a fault, in each bundle where it can strike."""
    lines = ["| fault | brats | nuclei | ct_rate | nnU-Net's check |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(name for faults in FAULTS.values() for name in faults):
        known = [faults.get(name) for faults in FAULTS.values()]
        codes = [f"`{fault.code}`" if fault else "" for fault in known]
        seen = "would see it" if any(fault.nnunet for fault in known if fault) else "–"
        lines.append(f"| {name} | {' | '.join(codes)} | {seen} |")
    found = [f"{len(faults)} of {len(faults)}" for faults in FAULTS.values()]
    lines.append(f"| **found** | {' | '.join(found)} | not run |")
    lines.append("| **clean data: errors and warnings** | 0 | 0 | 0 | not run |")
    return "\n".join(lines)


def test_the_page_has_a_row_for_each_fault() -> None:
    listed = PAGE.read_text(encoding="utf-8").partition("planted faults -->\n")[2].partition("\n\n")[0]
    assert listed == table(), f"put this below the mark on {PAGE.name}:\n{table()}"
