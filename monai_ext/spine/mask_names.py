"""Names of masks beside images, as BIDS and SCT have them."""

from __future__ import annotations

from collections.abc import Collection

# What follows the image's name in that of its mask, by the structure; a manual one goes first.
MASK_NAMES = {
    "cord": (
        *("label-SC_seg-manual", "seg-manual", "label-SC_seg", "label-SC_mask", "label-cord_seg", "label-cord_dseg"),
        *("label-cord_mask", "seg_manual", "seg"),
    ),
    "lesion": (
        *("lesion-manual", "label-lesion_seg", "label-lesion_dseg", "label-lesion_mask", "lesion-seg", "lesion_seg"),
        "lesion",
    ),
}


def is_mask(name: str, names: Collection[str]) -> bool:
    """Whether a name is that of a mask of one of the images.

    Args:
        name: of a volume, with or without its folders, without suffix.
        names: those of all volumes.
    """
    known = (one for names_of in MASK_NAMES.values() for one in names_of)
    return any(name.endswith(f"_{one}") and name.removesuffix(f"_{one}") in names for one in known)
