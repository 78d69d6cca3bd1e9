"""Check of a dataset of nuclei: all problems at once, before a run fails at the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from monai_ext.data.checks import run_checks
from monai_ext.data.left_out import not_used
from monai_ext.data.masks import mask_fault, mask_values
from monai_ext.data.numbering import numbering_problems
from monai_ext.data.problems import Problem
from monai_ext.data.tiff_slices import SliceHeader, check_mask_header, decode_slice, disagreements, list_slices
from monai_ext.errors import DataError
from monai_ext.nuclei.classes import UNCLASSIFIED, is_excluded
from monai_ext.nuclei.samples import SampleFolder, find_samples, find_table, is_table
from monai_ext.nuclei.scan import check_finite, compare_names, strays, why_stray
from monai_ext.places import Place

# five folds and a test set
ENOUGH = 6


def check(
    dataset_dir: str | Path, workers: int | Place | None = None, class_csv: str | Path | None = None
) -> list[Problem]:
    """Decode every slice and list all problems; an empty list means that none was found.

    Masks are checked where there are any. A sample without a mask among others with one is a warning, and so is a class
    with too few samples for five folds and a test set.

    Args:
        dataset_dir: see `monai_ext.nuclei.index`.
        workers: threads, or a place such as `monai_ext.places.Dask`; default one per CPU, at most 8.
        class_csv: see `monai_ext.nuclei.index`.

    Returns:
        The problems: "error" where a run would fail or learn nonsense, else "warning".
    """
    problems = []
    try:
        table = find_table(dataset_dir, class_csv)
    except DataError as error:
        problems.append(Problem.of(error, dataset_dir))
        table = None
    if not Path(dataset_dir).is_dir():
        return problems
    try:
        samples, found = find_samples(dataset_dir, table, labels_required=table is not None)
    except DataError as error:
        return [*problems, Problem.of(error, dataset_dir)]
    masks = any((sample.folder / "mask").is_dir() for sample in samples)
    reported = {problem.path for problem in problems}
    problems += [problem for problem in found if not reported & set(problem.files)]
    stray = [path for one in samples for path in strays(one.folder) if not is_table(path, table)]
    problems += not_used(stray, why_stray, dataset_dir)
    problems += run_checks(_check_sample, [{"sample": sample, "masks": masks} for sample in samples], workers)
    return problems + _check_classes(dataset_dir, samples)


def _check_sample(sample: SampleFolder, masks: bool) -> list[Problem]:
    raw, mask = sample.folder / "raw", sample.folder / "mask"
    problems, shape = _check_stack(raw)
    if not mask.is_dir():
        missing = Problem(str(mask), "is missing, but other samples have a mask", "warning")
        return [*problems, missing] if masks else problems
    more, mask_shape = _check_stack(mask, is_mask=True)
    problems += more
    try:
        compare_names(sample.folder, list_slices(raw), list_slices(mask))
    except DataError as error:
        errors = {problem.path for problem in problems if problem.severity == "error"}
        if not errors & {str(raw), str(mask)}:  # an empty folder has been reported
            problems.append(Problem.of(error))
        return problems
    if shape is not None and mask_shape is not None and shape != mask_shape:
        problems.append(Problem(str(mask), f"has slices of shape {mask_shape}, but raw has {shape}"))
    return problems


def _check_stack(folder: Path, is_mask: bool = False) -> tuple[list[Problem], tuple[int, int] | None]:
    """Problems of all slices, and the shape of the first one that is like most."""
    try:
        files = list_slices(folder)
    except DataError as error:
        return [Problem.of(error, folder)], None
    problems = [] if is_mask else numbering_problems(folder, [file.name for file in files])
    values: set[float] = set()
    headers: dict[str, SliceHeader] = {}
    for file in files:
        path = folder / file.name
        try:
            header, pixels = decode_slice(path)
            check_finite(pixels, path)
            if is_mask:
                check_mask_header(header, path)
                values |= mask_values(pixels)
            headers[file.name] = header
        except DataError as error:
            problems.append(Problem.of(error, path))
    odd = disagreements(headers)
    problems += [Problem(str(folder / name), difference) for name, difference in odd.items()]
    if values == {0.0}:
        problems.append(Problem(str(folder), "holds nothing but zeros; it marks no nucleus", "warning", "empty-mask"))
    if fault := mask_fault(values):
        problems.append(Problem(str(folder), fault, "warning", "mask-values"))
    return problems, next((header.shape for name, header in headers.items() if name not in odd), None)


def _check_classes(dataset_dir: str | Path, samples: Sequence[SampleFolder]) -> list[Problem]:
    members: dict[tuple[int, str | None], list[SampleFolder]] = defaultdict(list)
    for sample in samples:
        if sample.class_id is not None and not is_excluded(sample.class_id, sample.class_name, UNCLASSIFIED):
            members[sample.class_id, sample.class_name].append(sample)
    problems = []
    for (number, name), found in sorted(members.items()):
        patients = len({sample.patient or sample.case for sample in found})
        if patients < ENOUGH:
            of = "" if patients == len(found) else f" of {patients} patients"
            message = f"class {number} {name!r} has {len(found)} samples{of}, too few for five folds and a test set"
            problems.append(Problem(str(dataset_dir), message, "warning", "few-cases"))
    if len(members) == 1:
        message = "has samples of one class only; a classifier needs at least two"
        problems.append(Problem(str(dataset_dir), message, code="few-cases"))
    named = len({sample.patient for sample in samples if sample.patient is not None})
    if named:
        message = f"{len(samples)} samples of {named} patients: those of one patient stay on one side of every split"
        problems.append(Problem(str(dataset_dir), message, "note", "patients"))
    return problems
