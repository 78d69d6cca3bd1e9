"""Values that a bundle's config takes from the workflow that reads it.

A config names these functions as ``_target_``; they find the running `monai.bundle.ConfigWorkflow` (or the export and
verify commands of ``python -m monai.bundle``) by looking up the call stack, because MONAI hands a component nothing
but its own arguments.
"""

from __future__ import annotations

import datetime
import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from monai_ext.allocator import keep_freed_memory
from monai_ext.console import tidy_console
from monai_ext.devices import local_rank, own_device, started_processes, user_device
from monai_ext.error_report import DEBUG_VARIABLE, install_error_report
from monai_ext.errors import ConfigError
from monai_ext.provenance import saved_provenance
from monai_ext.runs import RunFolder
from monai_ext.settings import check_overrides, check_resume, recipe_of, settle_config
from monai_ext.settings.command_line import as_typed
from monai_ext.settings.datalist import take_datalist
from monai_ext.settings.reading import keep_hash
from monai_ext.settings.run_names import run_title
from monai_ext.settings.schema import computed_value, settings_schema
from monai_ext.settings.tree import strings
from monai_ext.system_errors import writing

_WORKFLOW_ARGUMENTS = {
    "meta_file",
    "logging_file",
    "init_id",
    "run_id",
    "final_id",
    "tracking",
    "workflow_type",
    "properties_path",
}


def _frames() -> Iterable[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def find_workflow() -> Any | None:
    """The config workflow in whose call this runs, or ``None`` outside one."""
    for frame in _frames():
        candidate = frame.f_locals.get("self")
        # vars(), not getattr(): a workflow's __getattr__ would evaluate config properties.
        if candidate is not None and "config_root_path" in getattr(candidate, "__dict__", {}):
            return candidate
    return None


def find_parser() -> Any | None:
    """The `monai.bundle.ConfigParser` in whose call this runs, a workflow's or a plain one; ``None`` outside one."""
    for frame in _frames():
        candidate = frame.f_locals.get("self")
        if candidate is not None and {"config", "ref_resolver"} <= getattr(candidate, "__dict__", {}).keys():
            return candidate
    return None


def bundle_root() -> str:
    """Absolute path of the bundle whose config is being read, whatever the current directory is.

    Outside `monai.bundle` it is ".", as in the Model Zoo's own configs: a plain `ConfigParser` knows no path, and those
    who use one (MONAI Label, MONAI Deploy) set ``bundle_root`` or run in the bundle.
    """
    workflow = find_workflow()
    if workflow is not None:
        return _root_of(workflow.config_root_path)
    for frame in _frames():
        # `ckpt_export`, `verify_net_in_out` and the like keep the config's path in this local variable.
        files = frame.f_locals.get("config_file_")
        if files:
            _make_folder(frame.f_locals.get("filepath_"))
            return _root_of(Path(files if isinstance(files, str) else files[0]).parent)
    return "."


def _make_folder(exported: Any) -> None:
    """The folder of an export: MONAI would end at its very last step without it."""
    if isinstance(exported, str):
        with writing(exported):
            Path(exported).parent.mkdir(parents=True, exist_ok=True)


def _root_of(config_folder: str | Path) -> str:
    folder = Path(config_folder).absolute()
    # a run folder is a bundle, too: of its network alone
    return str(folder.parent if folder.name == "configs" or (folder.parent / "run.json").is_file() else folder)


def default_dataset_dir(bundle_root: str) -> str:
    """``data/<bundle>`` under the current directory, else beside ``bundles/``; the first one when neither exists.

    Args:
        bundle_root: path of the bundle, whose folder name is used.
    """
    root = Path(bundle_root).absolute()
    here = Path("data") / root.name
    beside = root.parent.parent / "data" / root.name
    return str(beside.absolute() if beside.is_dir() and not here.is_dir() else here.absolute())


def default_device(cuda_launch_blocking: bool = False) -> Any:
    """This process's GPU or, without one, the CPU, see `monai_ext.devices.own_device`.

    Args:
        cuda_launch_blocking: see `start`; asking for GPUs may already be too late to set it.

    Raises:
        ConfigError: when a launcher's variable, such as ``LOCAL_RANK``, isn't a number.
    """
    _block_launches(cuda_launch_blocking)
    return own_device()


def default_workers() -> int:
    """Data-loading processes: min(8, CPUs that this process may use)."""
    return min(8, len(os.sched_getaffinity(0)))


def default_run_name(bundle_root: str, fold: int = 1) -> str:
    """A name for the experiment tracker that says what was set, such as ``brats t1ce lr=5e-4 · fold 2``.

    With ``--tracking mlflow`` the time and the process are added: MONAI's handler would go on in an unfinished run of
    the same name.

    Args:
        bundle_root: path of the bundle, whose defaults aren't said.
        fold: cross-validation fold, from 1.
    """
    parser = find_parser()
    config = parser.get() if parser is not None else {}
    name = f"{run_title(bundle_root, config)} · fold {fold}"
    if not monai_tracks(config):
        return name
    return f"{name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S} {os.getpid()}"


def monai_tracks(config: Mapping[str, Any]) -> bool:
    """Whether ``--tracking mlflow`` has appended MONAI's own handler to those of the training.

    Args:
        config: of the training, not parsed.
    """
    handlers = config.get("train", {}).get("handlers", [])
    return any(isinstance(one, Mapping) and str(one.get("_target_")).endswith("MLFlowHandler") for one in handlers)


def default_tracking_uri(output_dir: str) -> str:
    """``MLFLOW_TRACKING_URI`` where it is set, else SQLite beside the runs: ``<output_dir>/../mlflow.db``.

    Both are defaults: a ``--tracking_uri`` of the command line takes precedence.

    Args:
        output_dir: folder of all runs of a bundle.
    """
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    return chosen or sqlite_uri(Path(output_dir).absolute().parent / "mlflow.db")


def sqlite_uri(path: str | Path) -> str:
    """MLflow's URI of an SQLite file.

    Only what would not mean itself there is coded: MLflow makes folders named by the codes, too.
    """
    return f"sqlite:///{str(Path(path).absolute()).replace('%', '%25').replace('?', '%3F')}"


def check_settings() -> None:
    """First step of every config's ``initialize``: convert and check all that was set, before anything is made of it.

    Installs the one-sentence error report, tidies the console, and keeps freed memory; refuses overrides that match no
    key, values that ``configs/settings.json`` doesn't allow, unknown choices, components that don't take their
    arguments, and to resume a run of another recipe (see `monai_ext.settings.check_resume`). Words and numbers in
    quotes get their types (``--use_mask false``), and ``None`` is what it says: MONAI leaves such overrides out. An
    evaluation takes its fold from the checkpoint.

    Raises:
        ConfigError: naming the settings and what is allowed.
    """
    install_error_report()
    tidy_console()
    keep_freed_memory()
    workflow = find_workflow()
    if workflow is None:
        return
    config_file, given, left_out = _command_line()
    if "debug" in given:
        os.environ[DEBUG_VARIABLE] = "1" if str(given.pop("debug")).lower() not in ("0", "false", "no", "off") else "0"
    parser = workflow.parser
    root = computed_value(parser.get("bundle_root"))
    root = root if isinstance(root, str) else _root_of(workflow.config_root_path)
    if config_file is not None:
        take_datalist(parser, given, settings_schema(root))
        check_overrides(config_file, [*given, *left_out], root)
    parser.update(dict.fromkeys(left_out))
    if config_file is not None:
        keep_hash(parser, config_file, as_typed(given, sys.argv))
    settle_config(parser, root, [*given, *left_out])
    _keep_tracking_artifact(parser)
    _check_resume(parser)
    if "evaluation_run" in parser:
        _take_fold(parser, asked="fold" in [*given, *left_out])


def apply_dataset_settings() -> None:
    """Old name of `check_settings`, for one version."""
    new = "monai_ext.workflow.check_settings; the old name goes with the next version"
    warnings.warn(f"monai_ext.workflow.apply_dataset_settings is now {new}", DeprecationWarning, stacklevel=2)
    check_settings()


def start(
    seed: int | None = None,
    device: Any = None,
    distributed: bool = False,
    cuda_launch_blocking: bool = False,
    independent: bool = False,
    tf32: bool = True,
) -> None:
    """Step of every config's ``initialize``: refuse what can't work here, then make the run reproducible.

    Checks the device, joins the process group under ``torchrun``, and seeds Python, NumPy and torch. In the settings
    ``device`` and ``val_device``, ``cuda`` becomes the process's own GPU, such as ``cuda:1``.

    Args:
        seed: any non-negative integer; ``None`` leaves the generators alone.
        device: name or `torch.device`; a GPU becomes torch's current one.
        distributed: whether the config is the multi-process one (``multi_gpu_train.json`` sets it).
        cuda_launch_blocking: wait for every GPU kernel, so that an error is reported where it happens; slow.
        independent: whether several processes are fine without a group: they share files, not tensors.
        tf32: whether a GPU may compute float32 convolutions and matrix products in TF32 (10 bits of mantissa).

    Raises:
        ConfigError: for a device that isn't there or is one GPU for several processes, a precision that validation
            doesn't have, or several processes without the multi-process config.
    """
    workflow = find_workflow()
    steps = () if workflow is None else strings(workflow.parser.get(workflow.init_id))
    if not any("monai_ext.workflow.check_settings" in step for step in steps):
        check_settings()  # for configs from before it was a step of its own
    _block_launches(cuda_launch_blocking)
    if workflow is not None:
        _settle_devices(workflow.parser)
        _check_validation_precision(workflow.parser)
    chosen = user_device("cpu" if device is None else device)
    if chosen.type == "cuda":
        _prepare_gpu(chosen, tf32)
    if not independent:
        _join_process_group(chosen, distributed)
    if seed is not None:
        seed_everything(seed)


def _block_launches(block: bool) -> None:
    if block:
        os.environ["CUDA_LAUNCH_BLOCKING"] = "1"


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch. cuDNN stays free to choose its fastest kernels (see ``docs/recovery.md``)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _command_line() -> tuple[str | Sequence[str] | None, dict[str, Any], list[str]]:
    """Config files and overrides of the running ``monai.bundle`` command, and the names of those that were ``None``.

    MONAI drops the latter, so that ``--cache_dir None`` would mean the default.
    """
    for frame in _frames():
        if frame.f_code.co_name == "create_workflow" and "config_file" in frame.f_locals:
            values = frame.f_locals
            given = {k: v for k, v in values.get("_args", {}).items() if k not in _WORKFLOW_ARGUMENTS}
            left_out = [k for k, v in values.get("kwargs", {}).items() if v is None and k not in _WORKFLOW_ARGUMENTS]
            return values["config_file"], given, [key for key in left_out if key not in given]
    return None, {}, []


def _check_resume(parser: Any) -> None:
    """Refuse to resume a run of another recipe, before anything of it is touched."""
    if parser.get("resume") in (None, "", False) or "output_dir" not in parser or "fold" not in parser:
        return
    output_dir, fold, resume = (parser.get_parsed_content(name) for name in ("output_dir", "fold", "resume"))
    run = RunFolder(output_dir, fold, resume).to_resume()
    if run is not None:
        check_resume(run, recipe_of(parser.get()))


def _take_fold(parser: Any, asked: bool) -> None:
    """Evaluate a checkpoint on the fold that it was trained on the others of."""
    checkpoint, fold = parser.get_parsed_content("checkpoint"), parser.get_parsed_content("fold")
    trained = (saved_provenance(checkpoint) or {}).get("fold")
    if trained is None or trained == fold:
        return
    if asked and parser.get("allow_training_cases") is True:
        return
    if asked:
        raise ConfigError(
            f"--fold {fold}: {checkpoint} was trained with fold {trained} held out; leave --fold out, give the "
            f"checkpoint of fold {fold}, or add --allow_training_cases true"
        )
    logging.getLogger("monai_ext").info("fold %d, which the checkpoint was trained without", trained)
    parser["fold"] = trained


def _settle_devices(parser: Any) -> None:
    """Put the process's own GPU in the place of ``cuda``: ``cuda`` and ``cuda:0`` are unequal to torch."""
    for setting in ("device", "val_device"):
        raw = parser.get(setting)
        if isinstance(raw, (str, int)) and not str(raw).startswith(("@", "$")):
            settled = str(user_device(raw, setting))
            if settled != raw:
                parser[setting] = settled


def _check_validation_precision(parser: Any) -> None:
    """Refuse fp16 on a CPU now: otherwise the error would come after the first epoch, when it is validated."""
    if parser.get("val_device") == "cpu" and parser.get("precision") == "fp16" and parser.get("amp") is not False:
        raise ConfigError(
            "--precision fp16: not on a CPU, where --val_device cpu validates; use --precision auto, which is fp16 on "
            "a GPU and fp32 on the CPU"
        )


def _prepare_gpu(device: Any, tf32: bool) -> None:
    import torch

    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def _join_process_group(device: Any, distributed: bool) -> None:
    import torch
    import torch.distributed as dist

    if not distributed:
        if started_processes() > 1:
            raise ConfigError(
                f"{started_processes()} processes were started with a config for one, and each would do the same; "
                "start one, or use torchrun and add configs/multi_gpu_train.json: "
                "--config_file \"['.../train.json','.../multi_gpu_train.json']\""
            )
        return
    if dist.is_initialized():
        return
    if "RANK" not in os.environ:
        raise ConfigError("multi_gpu_train.json needs a launcher: torchrun --nproc_per_node=N -m monai.bundle run ...")
    if device.type == "cuda":
        gpus = torch.cuda.device_count()
        if "LOCAL_RANK" in os.environ and local_rank() >= gpus:
            raise ConfigError(
                f"process {local_rank()} of this machine has no GPU of its own, as there are {gpus}; start at most "
                f"--nproc_per_node={gpus}, or add --device cpu"
            )
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    if dist.get_rank() > 0:
        logging.getLogger("monai_ext").setLevel(logging.WARNING)  # the main process reports for all


def finish() -> None:
    """Last step of every config's ``finalize``: leave the process group, if there is one."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return
    dist.barrier()  # the main process may still be writing its report
    # The group's threads have to end while the interpreter is whole: a wrapped network that outlives the group (results
    # and items of the resolver hold it) ends them during its shutdown, and now and then that aborts the process.
    workflow = find_workflow()
    if workflow is not None:
        workflow.parser.ref_resolver.reset()
        gc.collect()
    dist.destroy_process_group()


def _keep_tracking_artifact(parser: Any) -> None:
    """With ``--tracking mlflow`` MONAI builds its artifact's path as text; a plain ``output_dir`` loses the file."""
    path = parser.get("save_execute_config")
    output_dir = parser.get("output_dir")
    if isinstance(path, str) and isinstance(output_dir, str) and not output_dir.startswith("$"):
        prefix = output_dir + " + '"
        if path.startswith(prefix):
            parser["save_execute_config"] = output_dir + path[len(prefix) :].rstrip("'")
