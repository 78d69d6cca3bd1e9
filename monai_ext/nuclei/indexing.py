"""The crops of a dataset of nuclei: found from file headers, kept in a CSV until the data or the settings change."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_ext.blocks import run_in_order
from monai_ext.data.crop_grid import triple
from monai_ext.data.decoding import undecodable
from monai_ext.data.left_out import not_used, refuse_or_leave_out
from monai_ext.data.numbering import numbering_problems
from monai_ext.data.problems import Problem, warn_once
from monai_ext.errors import ConfigError, DataError
from monai_ext.nuclei.index_file import read_index, write_index
from monai_ext.nuclei.samples import find_samples, find_table, is_table
from monai_ext.nuclei.scan import Nucleus, decode_sample, digest, list_sample, scan_sample, why_stray
from monai_ext.places import Threads
from monai_ext.workflow import default_workers

logger = logging.getLogger(__name__)

FORMAT = 2  # of the index file; a new one makes old files be ignored


@dataclass(frozen=True)
class NucleiIndex:
    """The usable samples of a dataset, and the problems of the others.

    Args:
        samples: usable samples in natural order of their ids, each with its crops.
        problems: of the samples that are left out, one or more each, and notes on files that aren't used.
    """

    samples: list[Nucleus]
    problems: list[Problem]


def index(
    dataset_dir: str | Path,
    crop_size: int | Sequence[int] = 80,
    index_dir: str | Path | None = None,
    class_csv: str | Path | None = None,
    labels: str = "required",
    use_mask: bool = False,
    min_nucleus: float = 0.0,
    on_bad_sample: str = "error",
) -> NucleiIndex:
    """Find samples, classes, dimensions and crops.

    No voxel is read, but the masks' for ``min_nucleus``, and all when bad samples are to be left out.

    Args:
        dataset_dir: ``<sample id>/{raw,mask}/*.tif`` and a class CSV, or one sample.
        crop_size: voxels, one number for all axes or (Z, Y, X); see `crop_grid`.
        index_dir: folder of ``nuclei_<dataset hash>.csv``, which keeps the index, one row per crop; None keeps nothing.
            The hash covers names, sizes and times of all files, classes and settings.
        class_csv: ``sample_id,class_id,class_name``; default: the one such CSV in ``dataset_dir``.
        labels: "required", or "optional" for inference.
        use_mask: add each crop's mask to its item.
        min_nucleus: least fraction (0 to 1) of a crop's voxels that lie in the nucleus (mask not zero).
        on_bad_sample: "error", or "skip" to decode everything once (remembered in ``index_dir``) and leave out and
            report samples with a problem.

    Raises:
        ConfigError: for a setting out of its range or choices.
        DataError: when the class CSV is missing or wrong; for the first problem, with the number of others; when no
            sample is left.
        WriteError: when the index can't be written.
    """
    if labels not in ("required", "optional"):
        raise ConfigError(f"index: labels must be one of ['required', 'optional'], got {labels!r}")
    if not 0 <= min_nucleus <= 1:
        raise ConfigError(f"index: min_nucleus must be a fraction from 0 to 1, got {min_nucleus}")
    size = triple("crop_size", crop_size)
    table = find_table(dataset_dir, class_csv, required=labels == "required")
    found, problems = find_samples(dataset_dir, table, labels == "required")
    with_masks, measure = use_mask or min_nucleus > 0, min_nucleus > 0
    threads = Threads(default_workers())
    listed, bad = _split_results(
        run_in_order(lambda sample: list_sample(sample, with_masks), found, threads, "listing files")
    )
    problems += bad
    for one in listed:
        for problem in numbering_problems(one.sample.folder / "raw", [file.name for file in one.raw]):
            warn_once(problem.path, problem.message)

    cache = None
    if index_dir is not None:
        content = [[str(one.sample.case), one.sample.class_id, one.sample.class_name, one.stamp] for one in listed]
        cache = Path(index_dir) / f"nuclei_{digest([FORMAT, size, with_masks, measure, content])}.csv"
    known = read_index(cache, listed, size) if cache is not None and cache.is_file() else {}
    missing = [one for one in listed if one.sample.case not in known]
    scanned, bad = _split_results(
        run_in_order(lambda one: scan_sample(one, size, measure), missing, threads, "reading headers")
    )
    problems += bad
    known |= {nucleus.case: nucleus for nucleus in scanned}
    samples = [known[one.sample.case] for one in listed if one.sample.case in known]
    if cache is not None and missing:
        write_index(cache, samples, problems)

    stray = [path for one in listed for path in one.strays if not is_table(path, table)]
    problems += not_used(stray, why_stray, dataset_dir)
    refuse_or_leave_out(problems, on_bad_sample, "on_bad_sample", "nuclei_vgg3d")
    if on_bad_sample == "skip":
        samples = _drop_undecodable(samples, index_dir, problems)
    samples = _drop_background(samples, min_nucleus, problems)
    if not samples:
        count = len({problem.path for problem in problems if problem.severity != "note"})
        raise DataError(f"has no usable sample ({count} left out)", dataset_dir)
    return NucleiIndex(samples if use_mask else [replace(sample, mask=None) for sample in samples], problems)


def _split_results(results: Sequence[Any]) -> tuple[list[Any], list[Problem]]:
    good = [result for result in results if not isinstance(result, Problem)]
    return good, [result for result in results if isinstance(result, Problem)]


def _drop_background(samples: list[Nucleus], least: float, problems: list[Problem]) -> list[Nucleus]:
    if least <= 0:
        return samples
    kept = []
    for sample in samples:
        chosen = [pair for pair in zip(sample.crops, sample.nucleus or (), strict=True) if pair[1] >= least]
        if not chosen:
            message = f"left out: no crop has {100 * least:g} % of its voxels in the nucleus"
            problems.append(Problem(sample.image.folder, message, "warning"))
            logger.warning("%s: %s", sample.image.folder, message)
            continue
        crops, fractions = zip(*chosen, strict=True)
        kept.append(replace(sample, crops=crops, nucleus=fractions))
    before, after = (sum(len(sample.crops) for sample in side) for side in (samples, kept))
    logger.info("%d of %d crops have at least %g %% nucleus", after, before, 100 * least)
    return kept


def _drop_undecodable(samples: list[Nucleus], memory_dir: str | Path | None, problems: list[Problem]) -> list[Nucleus]:
    folders = {str(Path(sample.image.folder).parent): sample for sample in samples}
    stamps = {folder: [sample.stamp, sample.mask is not None] for folder, sample in folders.items()}
    found = undecodable(stamps, lambda folder: decode_sample(folders[folder]), memory_dir)
    refuse_or_leave_out(list(found.values()), "skip", "on_bad_sample", "nuclei_vgg3d")
    problems += found.values()
    return [sample for folder, sample in folders.items() if folder not in found]
