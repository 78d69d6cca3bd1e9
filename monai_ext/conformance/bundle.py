"""A bundle under test."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ext.bundle_archive import LEFT_OUT
from monai_ext.conformance.verdicts import NotApplicable, demand
from monai_ext.errors import ConfigError, DataError
from monai_ext.settings.config_code import read_config_file

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser, ConfigWorkflow

SUFFIXES = (".json", ".yaml", ".yml")
# Sizes that a network can work with where the metadata say "*" or "8*n".
FREE_SIZE, SMALLEST_SIZE = 64, 32


class Bundle:
    """Configs, metadata and parts of a bundle; all that is run or written belongs to a copy of it.

    Args:
        path: the bundle's folder, with its ``configs``.
        settings: override settings of the configs that have them.
        dataset_dir: data in the bundle's own layout.
        scratch: an empty folder for the copy, data and outputs.

    Raises:
        ConfigError: when the path is no bundle.
    """

    def __init__(
        self, path: str | Path, settings: Mapping[str, Any], dataset_dir: str | Path | None, scratch: Path
    ) -> None:
        self.path = Path(path).absolute()
        if not any(file.suffix in SUFFIXES for file in (self.path / "configs").glob("*")):
            raise ConfigError(f"{path}: is no MONAI bundle; give a folder that has configs/metadata.json")
        self.settings = dict(settings)
        self.dataset_dir = None if dataset_dir is None else Path(dataset_dir).absolute()
        self.scratch = scratch

    @cached_property
    def root(self) -> Path:
        """The copy."""
        root = self.scratch / "bundle" / self.path.name
        shutil.copytree(self.path, root, ignore=shutil.ignore_patterns(".git", *LEFT_OUT))
        return root

    def config(self, name: str) -> Path:
        """Path of a config in the copy.

        Raises:
            NotApplicable: where the bundle has none of this name.
            DataError: when it can't be read.
        """
        for suffix in SUFFIXES:
            if (file := self.root / "configs" / f"{name}{suffix}").is_file():
                own = self.path / "configs" / file.name
                if not isinstance(read_config_file(own), dict):
                    raise DataError("holds no table of names and values", own)
                return file
        raise NotApplicable(f"there is no configs/{name}.json")

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of ``metadata.json``."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_meta(str(self.config("metadata")))
        parser.update({key: value for key, value in self.settings.items() if key.startswith("_meta_#")})
        return parser.get("_meta_")

    def tensor(self, side: str) -> tuple[str, dict[str, Any]]:
        """Name and specification of the network's tensor: the first image of the inputs, ``pred`` of the outputs."""
        tensors = self.metadata.get("network_data_format", {}).get(side, {})
        demand(tensors, f"metadata.json: network_data_format has no {side}")
        name = "pred" if "pred" in tensors else next(iter(tensors))
        return name, tensors[name]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels and spatial sizes of one image, numbers in place of "*" and "8*n"."""
        from monai.bundle.scripts import _get_fake_spatial_shape

        spec = self.tensor("inputs")[1]
        sizes: tuple[int, ...] = ()
        for factor in range(1, SMALLEST_SIZE + 1):
            sizes = _get_fake_spatial_shape(spec["spatial_shape"], p=min(factor, 5), n=factor, any=FREE_SIZE)
            fixed = [size for size in spec["spatial_shape"] if not isinstance(size, str)]
            if len(fixed) == len(sizes) or min(sizes) >= SMALLEST_SIZE:
                break
        return int(spec["num_channels"]), *sizes

    def image(self) -> torch.Tensor:
        """A batch of one image within the declared range of values, always the same."""
        import torch

        spec = self.tensor("inputs")[1]
        low, high = (*spec.get("value_range", ()), 0, 1)[:2] if len(spec.get("value_range", ())) == 2 else (0, 1)
        noise = torch.rand(1, *self.image_shape, generator=torch.Generator().manual_seed(0))
        return (noise * (high - low) + low).to(getattr(torch, spec["dtype"]))

    def overrides(self, name: str) -> dict[str, Any]:
        """Settings for a config: those given, the copy as ``bundle_root``, the CPU unless another device was given."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(self.config(name)))
        own = {"device": "cpu", "output_dir": str(self.scratch / "output"), "tracking_uri": "none", **self.settings}
        return {"bundle_root": str(self.root), **{key: value for key, value in own.items() if key in parser}}

    def parser(self, name: str = "inference") -> ConfigParser:
        """A plain parser of a config, as another program makes it."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(self.config(name)))
        parser.read_meta(self.metadata)
        parser.update(self.overrides(name))
        return parser

    @cached_property
    def network(self) -> torch.nn.Module:
        """The network of inference, untrained, in evaluation mode."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = self.parser().get_parsed_content("network_def")
        return network.cpu().eval()

    def weights(self) -> Path:
        """A bare state dict of `network` as a file."""
        import torch

        path = self.scratch / "state.pt"
        if not path.exists():
            torch.save(self.network.state_dict(), path)
        return path

    def workflow(self, names: list[str], kind: str, settings: Mapping[str, Any]) -> ConfigWorkflow:
        """A workflow, initialized. Inference loads untrained weights where the bundle has none.

        Args:
            names: of configs that are merged.
            kind: "train" or "infer".
            settings: override those of the bundle under test.
        """
        from monai.bundle import ConfigWorkflow

        model = self.root / "models" / "model.pt"
        if kind == "infer" and not model.exists():
            model.parent.mkdir(exist_ok=True)
            shutil.copy(self.weights(), model)
        workflow = ConfigWorkflow(
            config_file=[str(self.config(name)) for name in names],
            meta_file=str(self.config("metadata")),
            workflow_type=kind,
            logging_file=False,
            **{**self.overrides(names[0]), **settings},
        )
        workflow.initialize()
        return workflow

    @contextlib.contextmanager
    def at_home(self) -> Iterator[None]:
        """Work in the copy, with its own modules (``scripts``): the Model Zoo's configs expect both."""
        known = set(sys.modules)
        sys.path.insert(0, str(self.root))
        try:
            with contextlib.chdir(self.root):
                yield
        finally:
            sys.path.remove(str(self.root))
            for name in set(sys.modules) - known:
                if str(getattr(sys.modules[name], "__file__", None)).startswith(str(self.root)):
                    del sys.modules[name]
