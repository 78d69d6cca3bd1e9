"""Training sets of images and masks: slices or volumes in two folders, or volumes by the names of BIDS and SCT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import Found, not_used, refuse
from monai_ext.data.problems import Problem
from monai_ext.data.stamps import stamps_of
from monai_ext.data.volumes import volume_stem
from monai_ext.errors import DataError
from monai_ext.spine.folders import READ, TrainingFiles, is_slice, patient_of, training_files
from monai_ext.spine.mask_names import MASK_NAMES, is_mask
from monai_ext.spine.volume_slices import image_slices, mask_slices

_HOW = "add one (all 0 if empty)"


def stage_root(folder: str | Path) -> Path:
    """The folder of a segmentation stage; where it isn't there, the dataset above it, if that is one of BIDS.

    Args:
        folder: of the stage.
    """
    root = Path(folder)
    return root.parent if not root.exists() and (root.parent / "derivatives").is_dir() else root


def mask_folders(dataset_dir: str | Path) -> dict[str, Path]:
    """Structure → folder with its images and masks, of those that are there; of BIDS, those that it has masks of.

    Args:
        dataset_dir: folder of training folders, or of BIDS.
    """
    root = Path(dataset_dir)
    found = {structure: stage_root(root / structure) for structure in MASK_NAMES}
    return {
        structure: folder
        for structure, folder in found.items()
        if folder.is_dir() and (folder != root or _bids_pairs(root, structure)[0])
    }


def image_mask_items(folder: str | Path, structure: str = "") -> Found[dict[str, Any]]:
    """Slices with their masks; of a volume with a mask, all its slices.

    In ``images`` and ``masks`` both have the same path, or the mask one of `MASK_NAMES` behind it
    (``sub-01_T2w_lesion-manual.nii.gz``); suffixes may differ. A folder without ``images`` is one as BIDS and SCT have
    it: masks by these names lie in ``derivatives/<any>`` under the same path as the image, or beside it.

    Args:
        folder: ``images/<patient>/...`` or ``images/<patient>_...`` and ``masks``; or of BIDS.
        structure: "cord" or "lesion", or a name that has one of the two in it: which masks are meant.

    Returns:
        Items as the package's docstring lists them; files that aren't used are in their ``left_out``.

    Raises:
        DataError: for the first problem that `image_mask_problems` lists.
    """
    items, problems = image_mask_problems(folder, structure)
    refuse(problems)
    return Found(items, problems)


def image_mask_problems(folder: str | Path, structure: str = "") -> tuple[list[dict[str, Any]], list[Problem]]:
    """The items of `image_mask_items`, and all problems: no image at all, an image without a mask, a mask without an
    image, two files of one name, volumes that can't be read or lie on another grid than their mask; and notes.

    Args:
        folder: see `image_mask_items`.
        structure: see `image_mask_items`.

    Raises:
        DataError: for a folder that can't be listed.
    """
    pairs, problems = _pairs(Path(folder), structure)
    items = []
    for case, (image, mask) in pairs.items():
        try:
            items += list(_items(case, image, mask))
        except DataError as error:
            problems.append(Problem.of(error))
    return items, problems


def pair_items(pair: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Items of one image and its mask, named by the image's file.

    Args:
        pair: paths ``image`` and ``label``, of slices or volumes.

    Raises:
        DataError: naming the file that can't be read, or a mask on another grid than its image.
    """
    image = Path(pair["image"])
    return _items(volume_stem(image) or image.stem, image, Path(pair["label"]))


def cord_of(item: Mapping[str, Any], cords: Mapping[str, str]) -> str | None:
    """The mask of the cord for an item of `image_mask_items`; None without one.

    Args:
        item: of a slice.
        cords: see `mask_files`.
    """
    if "slice" not in item:
        return cords.get(item["case"])
    volume = item["case"].rpartition("/")[0]
    return next((cords[case] for case in (item["case"], volume) if case in cords), None)


def mask_files(folder: str | Path, structure: str = "cord") -> dict[str, str]:
    """Case of a slice or a volume → path of its mask, of all masks of a folder.

    Args:
        folder: see `image_mask_items`; without ``images`` only the masks are read.
        structure: see `image_mask_items`.

    Raises:
        DataError: without such a folder, or for two files with the same name.
    """
    root = Path(folder)
    if not (root / "masks").is_dir():
        return {_volume_case(case): str(mask) for case, (_, mask) in _pairs(root, structure)[0].items()}
    found, problems = _by_case(training_files(root / "masks", READ))
    refuse(problems)
    names = _names(structure)
    stems = {case: next((case.removesuffix(f"_{n}") for n in names if case.endswith(f"_{n}")), case) for case in found}
    return {(_volume_case(stems[case]) if not is_slice(path) else case): str(path) for case, path in found.items()}


def _items(case: str, image: Path, mask: Path) -> Iterator[dict[str, Any]]:
    item = {
        "case": case,
        "patient": patient_of(Path(case)),
        "image": str(image),
        "mask": str(mask),
        "stamp": stamps_of(image, mask),
    }
    if is_slice(image):
        yield item
        return
    count = len(image_slices(image))
    mask_slices(mask, image)  # before a training begins, not in the middle of it
    for number in range(count):
        yield {**item, "case": f"{_volume_case(case)}/{number:03d}", "slice": number}


def _volume_case(case: str) -> str:
    """With a folder for the patient, so that its slices can lie below it."""
    patient = patient_of(Path(case))
    return case if patient_of(Path(f"{case}/000")) == patient else f"{patient}/{case}"


def _pairs(root: Path, structure: str) -> tuple[dict[str, tuple[Path, Path]], list[Problem]]:
    if not (root / "images").exists() and not (root / "masks").exists():
        return _bids_pairs(root, structure)
    images, unused = _by_case(training_files(root / "images"))
    masks, others = _by_case(training_files(root / "masks", READ))
    problems = [*unused, *others]
    if not images:
        kinds = "no slices (PNG, JPEG, TIFF) and no volumes (NIfTI, DICOM, NRRD, MetaImage, FreeSurfer)"
        problems.append(Problem(str(root / "images"), f"holds {kinds}"))
    pairs, taken = {}, set()
    for case, image in images.items():
        names = (case, *(f"{case}_{name}" for name in _names(structure))) if not is_slice(image) else (case,)
        mask = next((name for name in names if name in masks and is_slice(masks[name]) == is_slice(image)), None)
        if mask is None:
            problems.append(Problem(str(image), f"has no mask of that name in {root / 'masks'}; {_HOW}"))
        else:
            pairs[case] = image, masks[mask]
            taken.add(mask)
    # An image that is another name of one that is read has its mask there.
    linked = {Path(one.path).relative_to((root / "images").absolute()) for one in unused if one.code == "same-file"}
    left = [case for case in masks if case not in taken and case not in {str(one.with_suffix("")) for one in linked}]
    problems += [
        Problem(str(masks[case]), f"has no image of that name in {root / 'images'}; remove it") for case in left
    ]
    return pairs, problems


def _bids_pairs(root: Path, structure: str) -> tuple[dict[str, tuple[Path, Path]], list[Problem]]:
    names = _names(structure)
    if not names:
        message = f"has no folder 'images', and --folder {structure} doesn't say which masks are meant"
        return {}, [Problem(str(root), f"{message}; its name must have 'cord' or 'lesion' in it")]
    below = training_files(root, READ)
    found, problems = _by_case(below, volumes_only=True)
    derived: dict[str, str] = {}
    for case in found:  # derivatives/<any>/sub-01/anat/... belongs to sub-01/anat/...
        parts = case.split("/")
        if parts[0] == "derivatives" and len(parts) > 2:
            derived.setdefault("/".join(parts[2:]), case)
    images = [case for case in found if not case.startswith("derivatives/") and not is_mask(case, found)]
    pairs, without = {}, []
    for case in images:
        masks = (f"{case}_{name}" for name in names)
        mask = next((one for name in masks for one in (derived.get(name), name) if one in found), None)
        if mask is None:
            without.append(found[case])
        else:
            pairs[case] = found[case], found[mask]
    problems += _other_masks(images, pairs, found, names, root)
    problems += not_used(
        without, lambda _: f"no mask of {structure} ({names[0]}, ...) beside it or in derivatives", root
    )
    if not pairs:
        shown = ", ".join(f"<image>_{name}.nii.gz" for name in names[:3])
        problems.append(
            Problem(str(root), f"holds neither 'images' and 'masks' nor an image with a mask ({shown}, ...)")
        )
    return pairs, problems


def _other_masks(
    images: list[str],
    pairs: Mapping[str, tuple[Path, Path]],
    found: Mapping[str, Path],
    names: Iterable[str],
    root: Path,
) -> list[Problem]:
    """Notes on the volumes beside and in derivatives that aren't read; a warning for masks without an image."""
    read = {path for pair in pairs.values() for path in pair}
    second: list[Path] = []
    alone: list[Path] = []
    others: list[Path] = []
    for case, path in found.items():
        if case in images or path in read:
            continue
        own = "/".join(case.split("/")[2:]) if case.startswith("derivatives/") else case
        image = next((own.removesuffix(f"_{name}") for name in names if own.endswith(f"_{name}")), None)
        (others if image is None else second if image in pairs else alone).append(path)
    lonely = not_used(alone, lambda _: "masks of images that aren't there", root)
    return [
        *(replace(one, severity="warning") for one in lonely),
        *not_used(second, lambda _: "further masks of images of which another is read", root),
        *not_used(others, lambda _: "by the names no masks of this stage", root),
    ]


def _names(structure: str) -> tuple[str, ...]:
    return next((names for known, names in MASK_NAMES.items() if known in structure), ())


def _by_case(below: TrainingFiles, volumes_only: bool = False) -> tuple[dict[str, Path], list[Problem]]:
    found: dict[str, Path] = {}
    problems = list(below.problems)
    for path in below.images:
        case = below.case(path)
        if volumes_only and is_slice(path):
            continue
        if case in found:
            problems.append(Problem(str(path), f"has the name of {found[case].name}; keep one of them", code="copies"))
        found.setdefault(case, path)
    return found, problems
