"""Checks of what a bundle says of itself: its files, metadata and the ids of its configs."""

from __future__ import annotations

from typing import Any

from monai_ext.conformance.bundle import Bundle
from monai_ext.conformance.verdicts import NotApplicable, demand

# Of MONAI's specification of bundles; weights may be large files that are fetched later (`large_files.yml`).
FILES = ("configs/metadata.json", "LICENSE")
# "required" of MONAI's schemas of metadata, the same since 2022 but for the name of one key.
REQUIRED = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"),
    *("copyright", "network_data_format"),
)
PACKAGES = ("required_packages_version", "optional_packages_version")
RENAMED_IN = "meta_schema_20240725"
TENSOR = {
    **{"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str},
    **{"value_range": list},
}


def files(bundle: Bundle) -> None:
    """The files that the specification requires, and a config for inference or training."""
    missing = [name for name in FILES if not (bundle.path / name).is_file()]
    demand(not missing, f"{', '.join(missing)} not found")
    names = {file.stem for file in (bundle.path / "configs").iterdir()}
    demand(names & {"inference", "train"}, "there is neither configs/inference.json nor configs/train.json")


def metadata(bundle: Bundle) -> None:
    """Keys and types that MONAI's schema requires, without fetching it; the version stands in the changelog."""
    found = bundle.metadata
    packages = PACKAGES[:1] if RENAMED_IN in str(found.get("schema")) else PACKAGES
    missing = [key for key in REQUIRED if key not in found]
    missing += [] if any(key in found for key in packages) else [packages[0]]
    demand(not missing, f"metadata.json: {', '.join(missing)} missing")
    wrong = [
        f"{side}#{name}#{key}"
        for side in ("inputs", "outputs")
        for name, tensor in found["network_data_format"].get(side, {}).items()
        if isinstance(tensor, dict)
        for key, kind in TENSOR.items()
        if not isinstance(tensor.get(key), kind)
    ]
    demand(not wrong, f"metadata.json: {', '.join(wrong)} of network_data_format missing or of another type")
    changes: Any = found.get("changelog", {found["version"]: ""})
    demand(found["version"] in changes, f"metadata.json: version {found['version']} is not in the changelog")


def required_ids(bundle: Bundle) -> str:
    """The ids that MONAI's workflows require of ``inference.json`` and ``train.json``."""
    from monai.bundle.properties import InferProperties, TrainProperties
    from monai.utils import BundleProperty, BundlePropertyConfig

    seen, missing = [], []
    for name, known in (("inference", InferProperties), ("train", TrainProperties)):
        try:
            parser = bundle.parser(name)
        except NotApplicable:
            continue
        seen.append(name)
        required = [entry[BundlePropertyConfig.ID] for entry in known.values() if entry[BundleProperty.REQUIRED]]
        missing += [f"{name}: {key.replace('::', '#')}" for key in required if key not in parser]
    demand(not missing, f"missing: {', '.join(missing)}")
    return f"of {' and '.join(seen)}"
