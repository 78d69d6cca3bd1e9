"""``onnx RUN_DIR``: the best network of a run as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def onnx(
    run_dir: Annotated[Path, typer.Argument(help="Run folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="ONNX file; default: model.onnx in the folder.")
    ] = None,
) -> None:
    """Write the best network of a run with named input and outputs, free sizes, and its metadata inside.

    The network takes prepared images and gives logits. metadata.json (classes, settings) and inference.json of the run
    are entries of the file's metadata.
    """
    from monai.bundle import ConfigParser

    from monai_ext.errors import DataError
    from monai_ext.handlers.load_checkpoint import best_checkpoint
    from monai_ext.io import read_json
    from monai_ext.networks import load_model
    from monai_ext.networks.onnx_file import write_onnx

    files = [run_dir / "config" / name for name in ("metadata.json", "inference.json")]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError("not found; give the folder of a run that has trained a network", missing[0])
    metadata, config = map(read_json, files)
    parser = ConfigParser()
    parser.read_config({**config, "bundle_root": str(run_dir.absolute())})
    network = load_model(parser.get_parsed_content("network_def"), best_checkpoint(run_dir), metadata["settings"])
    image = metadata["network_data_format"]["inputs"]["image"]
    shape = (image["num_channels"], *image["spatial_shape"])
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    typer.echo(str(write_onnx(network, shape, output or run_dir / "model.onnx", texts)))
