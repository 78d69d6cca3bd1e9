"""Synthetic images of the format that a bundle's metadata declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.conformance.bundle import Bundle
from monai_ext.conformance.verdicts import NotApplicable

# Anisotropic, with two axes reversed: what is lost on the way shows in the output's geometry.
AFFINE = np.diag([-0.9, -1.1, 1.6, 1.0])
AFFINE[:3, 3] = 40, -30, 12


def synthetic_items(bundle: Bundle, labelled: bool = False) -> list[dict[str, Any]]:
    """Two cases for a dataset of a bundle that has no data of its own.

    Args:
        bundle: the bundle under test.
        labelled: add a mask or, for a classification, the number of a class as ``label``.

    Returns:
        Dicts of paths: NIfTI for volumes (a list with one file a channel), PNG for 2-D ones (one channel or RGB).

    Raises:
        NotApplicable: for a format that has no file here, such as 2-D images of two channels.
    """
    channels, *sizes = bundle.image_shape
    spec = bundle.tensor("inputs")[1]
    if labelled and spec.get("is_patch_data"):
        sizes = [2 * size for size in sizes]  # training crops its patches
    if len(sizes) == 2 and channels not in (1, 3):
        raise NotApplicable(f"there is no synthetic image of {channels} channels in 2-D; give --dataset_dir")
    folder = bundle.scratch / "images"
    folder.mkdir(exist_ok=True)
    name = bundle.tensor("inputs")[0]
    output = bundle.tensor("outputs")[1]
    generator = np.random.default_rng(0)
    items: list[dict[str, Any]] = []
    for case in range(2):
        image = generator.integers(0, 200, (channels, *sizes)).astype(np.float32)
        items.append({name: _write(folder / f"{case}_image", image)})
        if labelled and output["type"] == "image":
            classes = max(2, int(output["num_channels"]))
            # One block for each class along the first axis.
            stripes = np.arange(sizes[0]) * classes // sizes[0]
            mask = np.broadcast_to(stripes.reshape(-1, *[1] * (len(sizes) - 1)), sizes)
            items[-1]["label"] = _write(folder / f"{case}_label", mask[None].astype(np.float32))
        elif labelled:
            items[-1]["label"] = case
    return items


def _write(stem: Path, image: np.ndarray) -> str | list[str]:
    import nibabel as nib
    from PIL import Image

    if image.ndim == 3:
        path = stem.with_suffix(".png")
        Image.fromarray(np.moveaxis(image, 0, -1).squeeze().astype(np.uint8)).save(path)
        return str(path)
    paths = [stem.with_name(f"{stem.name}_{channel}.nii.gz") for channel in range(len(image))]
    for path, volume in zip(paths, image, strict=True):
        nib.save(nib.Nifti1Image(volume, AFFINE), path)
    return [str(path) for path in paths] if len(paths) > 1 else str(paths[0])
