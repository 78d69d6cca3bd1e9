"""A bundle as one file: the asset of a release."""

from __future__ import annotations

import zipfile
from pathlib import Path

from monai_ext.errors import ConfigError
from monai_ext.io import atomic_path, read_json
from monai_ext.large_files import large_files

# Left by Python, by interrupted writes and by runs from within the bundle.
LEFT_OUT = {"__pycache__", "runs", "eval"}
_OLDEST = (1980, 1, 1, 0, 0, 0)


def zip_bundle(root: str | Path, output_dir: str | Path) -> Path:
    """Write ``<bundle>_v<version>.zip``, as the Model Zoo names it; it unpacks to a folder of the bundle's name.

    In it are all files of the bundle, trained weights too, but not the public files of ``large_files.yml``: those come
    from their own source. Of the same files it has the same bytes, whenever it is written.

    Args:
        root: the bundle's folder.
        output_dir: where to write.

    Returns:
        The file.

    Raises:
        ConfigError: when the folder is no bundle.
        WriteError: when the file can't be written.
    """
    root = Path(root).resolve()
    metadata = root / "configs" / "metadata.json"
    if not metadata.is_file():
        raise ConfigError(f"{root}: is no bundle, as it has no configs/metadata.json; give a bundle's folder")
    public = {entry.path.resolve() for entry in large_files(root)}
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.resolve() not in public]
    target = Path(output_dir) / f"{root.name}_v{read_json(metadata)['version']}.zip"
    with (
        atomic_path(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for path in files:
            name = path.relative_to(root)
            if not LEFT_OUT & set(name.parts) and ".partial" not in name.name:
                entry = zipfile.ZipInfo((root.name / name).as_posix(), _OLDEST)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
                    while block := source.read(1 << 20):
                        packed.write(block)
    return target
