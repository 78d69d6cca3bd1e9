"""Checks that run a bundle: inference on synthetic data, a short training, and its continuation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_ext.conformance.bundle import Bundle
from monai_ext.conformance.synthetic import synthetic_items
from monai_ext.conformance.verdicts import NotApplicable, demand
from monai_ext.conformance.volumes import geometry, images_below
from monai_ext.error_report import chain
from monai_ext.task import find_tasks

LOADERS = ("dataloader", "train#dataloader", "validate#dataloader")
# Settings of this package's bundles that make a training short.
SHORT = {"max_train_batches": 1, "max_val_batches": 1, "plot_every": 0}

# Of synthetic data inference predicts no more.
BATCHES = 2


def inference(bundle: Bundle) -> str:
    """``inference.json`` runs on synthetic images; images that it gives have the geometry of their inputs."""
    settings, inputs = _data(bundle, "inference", ("dataset",))
    before = set(images_below(bundle.scratch))
    workflow = bundle.workflow(["inference"], "infer", settings)
    seen: list[Any] = []
    evaluator = workflow.parser.get_parsed_content("evaluator")
    if hasattr(evaluator, "add_event_handler"):
        from ignite.engine import Events

        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.extend(_cases(engine.state.output)))
        if bundle.dataset_dir is None:
            evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=BATCHES), evaluator.terminate)
    workflow.run()
    workflow.finalize()
    name, spec = bundle.tensor("outputs")
    written = [path for path in images_below(bundle.scratch) if path not in before]
    predictions = [case[name] for case in seen if isinstance(case, Mapping) and name in case]
    demand(written or predictions, "the run neither wrote an image nor gave a prediction")
    if spec["type"] != "image" and not written:
        sizes = {tuple(prediction.shape) for prediction in predictions}
        demand(all(prediction.isfinite().all() for prediction in predictions), f"{name} is not finite")
        return f"{len(predictions)} predictions of {', '.join(map(str, sizes))}"
    known = [geometry(path) for path in inputs]
    for path in written:
        found = geometry(path)
        demand(any(found == other for other in known), f"{path.name} is {found}, the input is {known[0]}")
    if not written:
        shapes = {tuple(prediction.shape[1:]) for prediction in predictions}
        expected = {other.shape for other in known}
        demand(shapes <= expected, f"{name} has the size {sorted(shapes)}, the input {sorted(expected)}")
    return f"{len(written) or len(predictions)} images in the geometry of their inputs"


def training(bundle: Bundle) -> str:
    """``train.json`` runs for one epoch (of one batch where the config can be told so)."""
    done = _train(bundle, 1)
    demand(done == [1], f"of one epoch, the training did {done}")
    return "one epoch"


def resume(bundle: Bundle) -> str:
    """A training that is interrupted in its second epoch goes on there, by the config's setting ``resume``."""
    if "resume" not in bundle.parser("train"):
        raise NotApplicable("train.json has no setting `resume`, and MONAI has no convention for it")
    try:
        _train(bundle, 2, interrupt=True)
    except Exception as error:
        if not any(isinstance(link, _Interruption) for link in chain(error)):
            raise
    done = _train(bundle, 2, resume="auto")
    demand(done == [2], f"interrupted in the second of two epochs, the continued training did {done}")
    return "epoch 2 after an interruption"


class _Interruption(RuntimeError):
    pass


def _train(bundle: Bundle, epochs: int, interrupt: bool = False, **settings: Any) -> list[int]:
    """The epochs that a training does."""
    from ignite.engine import Events

    overlays = ["demo"] if (bundle.root / "configs" / "demo.json").is_file() else []
    data, _ = _data(bundle, "train", ("train#dataset", "validate#dataset"))
    parser = bundle.parser("train")
    limit = parser.get("train#trainer#max_epochs")
    key = limit[1:] if isinstance(limit, str) and limit.startswith("@") else "train#trainer#max_epochs"
    short = {name: value for name, value in SHORT.items() if name in parser and name not in bundle.settings}
    workflow = bundle.workflow(["train", *overlays], "train", {**short, **data, **settings, key: epochs})
    done: list[int] = []
    trainer = workflow.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: done.append(engine.state.epoch))
    if interrupt:
        trainer.add_event_handler(Events.EPOCH_STARTED(once=2), _stop)
    workflow.run()
    workflow.finalize()
    return done


def _stop(engine: Any) -> None:
    raise _Interruption(f"interrupted in epoch {engine.state.epoch}")


def _data(bundle: Bundle, config: str, datasets: Iterable[str]) -> tuple[dict[str, Any], list[Path]]:
    """Settings that give a config its data, and the images among them.

    The folder that was given, else the synthetic data that an installed package has for the bundle's name, else images
    in place of the data of each dataset.
    """
    parser = bundle.parser(config)
    workers = {f"{loader}#num_workers": 0 for loader in LOADERS if f"{loader}#num_workers" in parser}
    folder, task = bundle.dataset_dir, find_tasks().get(bundle.path.name)
    if folder is None and task is not None:
        folder = bundle.scratch / "data"
        if not folder.exists():
            task.demo_data(folder)
    if folder is not None:
        workers = {"num_workers": 0} if "num_workers" in parser else workers
        return {"dataset_dir": str(folder), **workers}, list(images_below(folder))
    items = synthetic_items(bundle, labelled=config == "train")
    present = [name for name in datasets if name in parser]
    images = [Path(image if isinstance(image, str) else image[0]) for image in (next(iter(i.values())) for i in items)]
    return {f"{name}#data": items for name in present} | workers, images


def _cases(output: Any) -> list[Any]:
    """Cases of a batch: MONAI's engines give a list of dicts, or one dict of batches."""
    import torch

    if isinstance(output, Mapping):
        batches = {key: value for key, value in output.items() if isinstance(value, (list, torch.Tensor))}
        return [dict(zip(batches, case, strict=True)) for case in zip(*batches.values(), strict=False)]
    return list(output) if isinstance(output, (list, tuple)) else []
