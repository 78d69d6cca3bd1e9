"""``find-patches`` and ``predict-zarr``: training patches of a label volume, and prediction of a volume of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_ext.chosen_workers import DASK
from monai_ext.errors import ConfigError


def find_patches(
    context: typer.Context,
    label: Annotated[
        str | None, typer.Option("--label", help="Path or URL of one Zarr array or OME-Zarr image, with --output.")
    ] = None,
    patch_size: Annotated[
        tuple[int, int, int] | None, typer.Option("--patch_size", help="Voxels along Z, Y, X.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="JSON file to write; kept while label and settings are unchanged.")
    ] = None,
    min_bbox_percent: Annotated[
        float | None,
        typer.Option(
            "--min_bbox_percent",
            help="Fraction of a patch that the bounding box of its labels must fill; default 0.95.",
        ),
    ] = None,
    min_labeled_ratio: Annotated[
        float | None,
        typer.Option("--min_labeled_ratio", help="Fraction of a patch's voxels that must be labelled; default 0.07."),
    ] = None,
    cover_tail: Annotated[
        bool | None, typer.Option("--cover_tail", help="Also take patches that end where the labels end.")
    ] = None,
    ignore_label: Annotated[
        float | None, typer.Option("--ignore_label", help="Value of voxels that are no label.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default one per CPU, at most 8.")] = None,
    config_file: Annotated[
        str | None, typer.Option("--config_file", help="Config or list of configs; default configs/train.json.")
    ] = None,
) -> None:
    """Find the patches with enough labels, in steps of half a patch, however large the volumes are.

    Without --label those of all sets of a training, kept where that training looks for them: the same settings follow,
    such as --dataset_dir DIR or --index_dir DIR.
    """
    given = {
        "patch_size": None if patch_size is None else list(patch_size),
        "min_bbox_percent": min_bbox_percent,
        "min_labeled_ratio": min_labeled_ratio,
        "cover_tail": cover_tail,
        "ignore_label": ignore_label,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if label is None:
        if output is not None or workers is not None:
            raise ConfigError(
                "find-patches: --output and --workers are for one --label; a training has its --index_dir"
            )
        file, records = _patches_of_training(config_file, options, context.args)
    elif output is None or patch_size is None or context.args or config_file:
        extra = f"; {context.args[0]} is a setting of a training" if context.args else ""
        raise ConfigError(f"find-patches: --label needs --patch_size and --output, and no others{extra}")
    else:
        from monai_ext.data import cached_patches

        file, records = output, cached_patches(output, [label], workers=workers, **options)
    typer.echo(f"{len(records)} patches")
    typer.echo(str(file))


def _patches_of_training(
    config_file: str | None, options: dict[str, Any], further: list[str]
) -> tuple[Path, list[dict[str, Any]]]:
    """The patches as a training with these settings lists them, and its file of them."""
    from monai_ext.settings import find_bundle, parse_files, parse_overrides, read_bundle_config

    files = parse_files(config_file) if config_file else str(find_bundle("surface_unet") / "configs" / "train.json")
    config = read_bundle_config(files, {**options, **parse_overrides(further)})
    records = config.get_parsed_content("patches")
    for number, places in enumerate(config.get_parsed_content("volume_sets")):
        count = sum(record["volume_idx"] == number for record in records)
        typer.echo(f"volume {number}: {count} patches by {places['ref_label']}")
    return Path(config.get_parsed_content("index_dir")) / "patches.json", records


def predict_zarr(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="A .pt of surface_unet, or its exported .ts.")],
    input: Annotated[str, typer.Option("--input", help="Path or URL of a Zarr array, .zip or OME-Zarr image.")],
    output: Annotated[
        str, typer.Option("--output", help="Folder or s3:// URL for TARGET.zarr; an incomplete one is continued.")
    ],
    patch_size: Annotated[
        tuple[int, int, int], typer.Option("--patch_size", help="Voxels of a window along Z, Y, X.")
    ] = (64, 192, 192),
    overlap: Annotated[float, typer.Option("--overlap", help="Fraction of a window that its neighbour covers.")] = 0.25,
    mode: Annotated[str, typer.Option("--mode", help="gaussian or constant blending.")] = "gaussian",
    batch_size: Annotated[int, typer.Option("--batch_size", help="Windows at once.")] = 4,
    output_targets: Annotated[
        list[str] | None, typer.Option("--output_targets", help="Targets to write, such as sheet normals; default all.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="TARGET=uint8, uint16 or float32; can be repeated.")
    ] = None,
    activation: Annotated[
        list[str] | None, typer.Option("--activation", help="TARGET=sigmoid, softmax or none; can be repeated.")
    ] = None,
    level: Annotated[int, typer.Option("--level", help="Resolution level of an OME-Zarr input.")] = 0,
    channel: Annotated[int | None, typer.Option("--channel", help="Channel, from 0, of an input with several.")] = None,
    timepoint: Annotated[
        int | None, typer.Option("--timepoint", help="Timepoint, from 0, of an input with several.")
    ] = None,
    mask: Annotated[str | None, typer.Option("--mask", help="Zarr array of the same shape; 0 where it is 0.")] = None,
    bbox: Annotated[
        tuple[int, int, int, int, int, int] | None,
        typer.Option("--bbox", help="Z0 Z1 Y0 Y1 X0 X1, first voxels and those after the last; 0 elsewhere."),
    ] = None,
    nonfinite_voxels: Annotated[
        str, typer.Option("--nonfinite_voxels", help="What NaN and infinite voxels do: reject or fill (with 0).")
    ] = "reject",
    input_cache_gib: Annotated[
        float, typer.Option("--input_cache_gib", help="GiB for chunks that the next tile columns need again.")
    ] = 1.0,
    test_time_flips: Annotated[str, typer.Option("--test_time_flips", help="Axes to flip along, of zyx.")] = "",
    chunk_size: Annotated[
        tuple[int, int, int], typer.Option("--chunk_size", help="Voxels of a chunk of the output.")
    ] = (128, 128, 128),
    shard_size: Annotated[
        tuple[int, int, int] | None, typer.Option("--shard_size", help="Voxels of a shard; default no shards.")
    ] = None,
    block_size: Annotated[
        tuple[int, int, int] | None,
        typer.Option("--block_size", help="Voxels of a block, whole chunks; larger is faster and needs more memory."),
    ] = None,
    zarr_format: Annotated[int, typer.Option("--zarr_format", help="3 with OME-Zarr 0.5, or 2 with 0.4.")] = 3,
    pyramid_levels: Annotated[
        int | None,
        typer.Option("--pyramid_levels", help="Coarser levels to add at the end; default until a side has 512 voxels."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu, cuda (this process's GPU), cuda:1; default the GPU, else the CPU."),
    ] = None,
    network_threads: Annotated[
        int, typer.Option("--network_threads", help="Batches at the same time; on a CPU more may be faster.")
    ] = 1,
    engine: Annotated[str, typer.Option("--engine", help="eager, compiled, torchscript or openvino (CPU).")] = "eager",
    precision: Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16.")] = "fp32",
    tf32: Annotated[
        bool, typer.Option("--tf32/--no-tf32", help="Whether a GPU may compute fp32 in TF32, which is less exact.")
    ] = True,
    part: Annotated[int | None, typer.Option("--part", help="Shard index of this process, from 0.")] = None,
    parts: Annotated[int | None, typer.Option("--parts", help="Shard count: processes that share the work.")] = None,
    dask: Annotated[str | None, DASK] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Only say what is left to do, and its memory and time; refuse what can't fit."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="First read all finished chunks; damaged ones are computed again.")
    ] = False,
) -> None:
    """Predict a Zarr volume of any size into OME-Zarr images; after an interruption, the same command continues.

    Processes share the work by --part and --parts, under torchrun or SLURM without them, or on a Dask cluster.
    """
    from functools import partial

    from monai_ext.devices import user_device
    from monai_ext.inferers import ZarrPrediction, predict_on_dask
    from monai_ext.inferers.streaming.manifest import ProgressManifest
    from monai_ext.surface.predictor import surface_predictor

    # `--output_targets a b`: names after the first come as arguments of their own.
    names = [*(output_targets or []), *context.args]
    if context.args and not output_targets:
        raise ConfigError(f"predict-zarr: got the unexpected argument {context.args[0]!r}")
    if (part is None) != (parts is None):
        raise ConfigError("predict-zarr: give --part and --parts together")
    if device is not None and dask is None:  # this machine doesn't know the GPUs of Dask's workers
        user_device(device)
    call = _settled(
        {
            **{"level": level, "channel": channel, "timepoint": timepoint, "mask": mask, "part": part, "parts": parts},
            "bbox": None if bbox is None else [list(bbox[:2]), list(bbox[2:4]), list(bbox[4:])],
        }
    )
    shard = {name: call.pop(name) for name in ("part", "parts")}
    settings = _settled(
        {
            **{"patch_size": list(patch_size), "overlap": overlap, "mode": mode, "batch_size": batch_size},
            "output_targets": names or None,
            "dtypes": _pairs("--dtype", "sheet=uint8", dtype or []),
            "activations": _pairs("--activation", "sheet=sigmoid", activation or []),
            **{"network_threads": network_threads, "engine": engine, "precision": precision, "tf32": tf32},
            **{"nonfinite_voxels": nonfinite_voxels, "input_cache_gib": input_cache_gib},
            **{"chunk_size": list(chunk_size), "shard_size": shard_size and list(shard_size)},
            "block_size": block_size and list(block_size),
            **{"zarr_format": zarr_format, "pyramid_levels": pyramid_levels},
        }
    )
    if verify and ProgressManifest(output).begun:
        for problem in ZarrPrediction(output).verify(repair=True):
            typer.echo(f"{problem.path}: {problem.message}", err=True)
    make = partial(
        surface_predictor,
        checkpoint.absolute(),
        settings.pop("patch_size"),
        device=device,
        test_time_flips=test_time_flips,
        **settings,
    )
    if estimate:
        typer.echo(str(make().estimate(input, output, **call)))
        return
    if dask is not None:
        done = predict_on_dask(dask, make, input, output, **call)
    else:
        done = make()(input, output, **shard, **call)
    state = "complete" if done.complete else "not complete yet"
    typer.echo(f"{done.blocks} blocks computed, {done.ready} were ready; the output is {state}")
    typer.echo(str(output))


def _settled(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by the rules of the bundle's own, where it is at hand; the engine has its checks without it, too."""
    from monai_ext.settings import find_bundle
    from monai_ext.settings.schema import settings_schema, settle

    try:
        folder = find_bundle("surface_unet")
    except ConfigError:
        return settings
    return settle(settings_schema(folder), settings)


def _pairs(option: str, example: str, choices: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for choice in choices:
        name, equals, kind = choice.partition("=")
        if not equals:
            raise ConfigError(f"{option} must be TARGET=VALUE, such as {example}, got {choice!r}")
        if name in pairs:
            raise ConfigError(f"{option} {choice}: {name} is given twice; leave one of them out")
        pairs[name] = kind
    return pairs
