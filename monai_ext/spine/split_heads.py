"""From one network with several heads to one network per head."""

from __future__ import annotations

from pathlib import Path

from monai_ext.handlers.load_checkpoint import best_checkpoint
from monai_ext.heads import head_class_names, heads_of
from monai_ext.io import atomic_path, read_json, write_json
from monai_ext.networks import SliceClassifier, read_checkpoint, save_checkpoint
from monai_ext.predictions.classes import class_channels
from monai_ext.spine.class_folders import save_class_map
from monai_ext.spine.class_map import FILE as CLASS_MAP


def split_heads(run: Path, models: Path) -> None:
    """Write each head of a run's best `SliceClassifier` as a network of its own.

    ``<models>/<head>`` gets ``model.pt``, ``class_map.json``, ``metadata.json`` and ``inference.json``. The network of
    a head has exactly the logits of the shared network for its classes.

    Args:
        run: folder of a finished run with classes ``<head>/<class>``, see `monai_ext.heads.heads_of`.
        models: folder of the heads' folders.

    Raises:
        ConfigError: when the classes have no heads.
        WeightsError: when the checkpoint can't be read.
        WriteError: when a file can't be written.
    """
    shared = read_checkpoint(best_checkpoint(run))
    metadata = read_json(run / "config" / "metadata.json")
    config = read_json(run / "config" / "inference.json")
    formats = metadata["network_data_format"]
    classes = head_class_names(shared["settings"]["classes"])
    for head, positions in heads_of(shared["settings"]["classes"]).items():
        settings = {**shared["settings"], "stage": head, "classes": classes[head]}
        content = {
            "model": SliceClassifier.with_classes(shared["model"], positions),
            "metrics": {name: value for name, value in shared["metrics"].items() if name.endswith(f"f1_{head}")},
            "epoch": shared["epoch"],
            "settings": settings,
            "provenance": shared.get("provenance"),
        }
        with atomic_path(models / head / "model.pt") as temporary:
            save_checkpoint(content, temporary)
        save_class_map(models / head / CLASS_MAP, classes[head])
        own = {**formats, "outputs": class_channels(formats["outputs"], classes[head])}
        write_json(models / head / "metadata.json", {**metadata, "network_data_format": own, "settings": settings})
        saved = {**config["saved"], "defaults": settings}
        write_json(models / head / "inference.json", {**config, "stage": head, "saved": saved})
