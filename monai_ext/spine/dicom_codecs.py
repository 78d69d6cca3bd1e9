"""Compressed pixels that pydicom decodes only with more packages: JPEG Lossless and HTJ2K, by imagecodecs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

_LABEL = "imagecodecs"
# Of several decoders those that refuse a truncated image instead of filling it.
_DECODE = {
    **dict.fromkeys(("JPEGLossless", "JPEGLosslessSV1"), imagecodecs.jpegsof3_decode),
    **dict.fromkeys(("HTJ2K", "HTJ2KLossless", "HTJ2KLosslessRPCL"), imagecodecs.jpeg2k_decode),
}
_LOCK = threading.Lock()


def add_codecs() -> None:
    """Make pydicom decode them, in this process."""
    from pydicom.pixels import decoders

    with _LOCK:
        for name in _DECODE:
            decoder = getattr(decoders, f"{name}Decoder")
            if _LABEL not in decoder.available_plugins:
                decoder.add_plugin(_LABEL, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Of pydicom's interface: whether the packages are installed, which are always."""
    return True


def decode_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """Of pydicom's interface: one decoded frame.

    Args:
        source: compressed frame.
        runner: pydicom's; it gets the number of bits of a pixel.

    Raises:
        ValueError: for a frame of another shape than the header has.
    """
    image = np.ascontiguousarray(_DECODE[runner.transfer_syntax.keyword](source))
    if image.shape != (runner.rows, runner.columns):
        raise ValueError(f"decodes to the shape {image.shape} instead of {(runner.rows, runner.columns)}")
    bits = 8 * image.itemsize
    if runner.pixel_representation == 1:  # signed numbers, which codecs may take for unsigned ones of fewer bits
        unused = max(bits - runner.bits_stored, 0)
        image = image.view(f"i{image.itemsize}") << unused >> unused
    runner.set_option("bits_allocated", bits)
    return bytearray(image)
