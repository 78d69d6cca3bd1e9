"""TensorBoard curves of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.handlers.tracking import finite_numbers
from monai_ext.system_errors import writing


class TensorBoard:
    """Writes the entries of the history as scalars.

    MONAI's handler logs an engine's loss by iteration and its metrics by engine; this one logs what the console, the
    history and MLflow show, so that all four agree.

    Args:
        folder: log directory.
        first_epoch: entries from this epoch on replace those of an earlier, killed process.

    Raises:
        WriteError: when its files can't be written; by each method, as a thread of its own writes.
    """

    def __init__(self, folder: str | Path, first_epoch: int = 1) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = Path(folder)
        with writing(self.folder):
            self.writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Keep the settings as a text.

        Args:
            values: by name.
        """
        with writing(self.folder):
            lines = [f"    {name}: {value}" for name, value in values.items()]
            self.writer.add_text("parameters", "\n".join(lines))

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Keep the finite numbers among the values.

        Args:
            values: such as the history's entry of an epoch, see `History`.
            step: number of the epoch.
        """
        with writing(self.folder):
            for name, value in finite_numbers(values).items():
                if name != "epoch":
                    self.writer.add_scalar(name, value, step)
            self.writer.flush()  # its thread might come too late for a run that is killed after its checkpoint

    def picture(self, name: str, path: Path, step: int) -> None:
        """Keep a PNG file.

        Args:
            name: name of the series of pictures.
            path: path of the file.
            step: number of the epoch.
        """
        from matplotlib.image import imread

        with writing(self.folder):
            self.writer.add_image(name, imread(path)[..., :3], step, dataformats="HWC")

    def best(self, values: Mapping[str, Any]) -> None:
        """Keep nothing: TensorBoard has no place for numbers without an epoch.

        Args:
            values: by name.
        """

    def finish(self, status: str) -> None:
        """Flush and close.

        Args:
            status: of no matter.
        """
        with writing(self.folder):
            self.writer.close()
