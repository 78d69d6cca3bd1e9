"""Image files of one slice, of every kind that laboratories have, made on the spot."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from odd_volumes import Odd, cut, deflated_zeros, flipped, raw
from PIL import Image

PIXELS = np.random.default_rng(1).integers(0, 250, (24, 32)).astype(np.uint8)
BINARY = np.where(PIXELS > 99, 255, 0).astype(np.uint8)
WIDE = PIXELS.astype(np.uint16) * 200
ALL, SLICE = "slice mask stack", "slice stack"


def tiff(pixels: np.ndarray, **options: Any) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def one_strip(width: int, height: int, compression: int = 1, data: bytes = bytes(200)) -> bytes:
    """A TIFF of a few bytes that claims any size."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8 + 2 + 9 * 12 + 4), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data))]
    fields = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + fields + bytes(4) + data


def png(image: Any, **options: Any) -> Callable[[Path], object]:
    return lambda path: image.save(path, format=options.pop("format", "PNG"), **options)


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(400))) + chunk(b"IEND", b"")


def palette() -> Any:
    image = Image.fromarray((PIXELS > 99).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 200, 200, 200])
    return image


ALPHA = Image.merge("LA", [Image.fromarray(PIXELS), Image.fromarray(BINARY)])
ALPHA_ONLY = Image.merge("LA", [Image.new("L", (32, 24)), Image.fromarray(BINARY)])
OPAQUE = Image.merge("RGBA", [Image.fromarray(BINARY)] * 3 + [Image.new("L", (32, 24), 255)])
BLUE = Image.merge("RGB", [Image.new("L", (32, 24))] * 2 + [Image.fromarray(BINARY // 255)])
RGB = np.stack([PIXELS] * 3, -1)


def jpeg_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


IMAGES = [
    Odd("plain.tif", tiff(PIXELS), ALL, PIXELS),
    Odd("PLAIN.TIFF", tiff(PIXELS), ALL, PIXELS),
    Odd("lzw.tif", tiff(PIXELS, compression="lzw"), ALL, PIXELS),
    Odd("deflate.tif", tiff(WIDE, compression="zlib", predictor=True), ALL, WIDE),
    Odd("zstd.tif", tiff(WIDE, compression="zstd"), ALL, WIDE),
    Odd("tiles.tif", tiff(PIXELS, tile=(16, 16)), ALL, PIXELS),
    Odd("big.tif", tiff(WIDE, byteorder=">"), ALL, WIDE),
    Odd("bigtiff.tif", tiff(WIDE, bigtiff=True), ALL, WIDE),
    Odd("signed.tif", tiff(WIDE.astype("i2") - 999), ALL, WIDE.astype("i2") - 999),
    Odd("float.tif", tiff(WIDE / 7.0), ALL, WIDE / 7.0),
    Odd("bits.tif", tiff(BINARY > 0, photometric="minisblack"), ALL, BINARY > 0),
    Odd("white is 0.tif", tiff(255 - PIXELS, photometric="miniswhite"), ALL, PIXELS),
    Odd("white is 0, 16 bits.tif", tiff(65535 - WIDE, photometric="miniswhite", byteorder=">"), ALL, WIDE),
    Odd("white is 0, lzw.tif", tiff(255 - PIXELS, photometric="miniswhite", compression="lzw"), ALL, PIXELS),
    Odd("white is 0, bits.tif", tiff(BINARY == 0, photometric="miniswhite"), ALL, BINARY > 0),
    Odd("jpeg.tif", tiff(PIXELS, compression="jpeg"), SLICE),
    Odd("white is 0, signed.tif", tiff(PIXELS.astype("i2"), photometric="miniswhite")),
    Odd("palette.tif", tiff(PIXELS, photometric="palette", colormap=np.zeros((3, 256), "u2"))),
    Odd("colour.tif", tiff(RGB, photometric="rgb")),
    Odd("complex.tif", tiff(PIXELS.astype("c8"))),
    Odd("pages.tif", tiff(np.stack([PIXELS] * 2))),
    Odd("claims.tif", raw(one_strip(65000, 65000))),
    Odd("claims deflate.tif", raw(one_strip(65000, 65000, 8, zlib.compress(bytes(200))))),
    Odd("claims lzw.tif", raw(one_strip(65000, 65000, 5))),
    Odd("absurd.tif", raw(one_strip((1 << 32) - 1, (1 << 32) - 1, 8))),
    Odd("bomb.tif", raw(one_strip(32, 24, 8, deflated_zeros(256)))),
    Odd("cut.tif", cut(tiff(PIXELS), 0.7)),
    Odd("empty.tif", raw(b"")),
    Odd("text.tif", raw(b"II*\0 or not")),
    Odd("grey.png", png(Image.fromarray(PIXELS)), "slice mask", PIXELS),
    Odd("16 bits.PNG", png(Image.fromarray(WIDE)), "slice mask", WIDE),
    Odd("bits.png", png(Image.fromarray(BINARY).convert("1")), "slice mask", BINARY),
    Odd("opaque.png", png(OPAQUE), "slice mask", BINARY),
    Odd("palette.png", png(palette()), "slice", (PIXELS > 99) * 200),
    Odd("alpha.png", png(ALPHA), "slice", PIXELS),
    Odd(
        "alpha only.png",
        png(Image.merge("LA", [Image.new("L", (32, 24)), Image.fromarray(BINARY)])),
        "slice",
        BINARY * 0,
    ),
    Odd("dark blue.png", png(BLUE), "slice mask", BINARY // 255, stored=BINARY * 0),
    Odd("a.jpg", png(Image.fromarray(PIXELS), format="JPEG"), "slice"),
    Odd("jpeg by content.png", png(Image.fromarray(PIXELS), format="JPEG"), "slice"),
    Odd("claims.png", raw(huge_png(9000, 9000)), says="81000000 bytes of voxels are claimed"),
    Odd("absurd.png", raw(huge_png(1 << 30, 1 << 30))),
    Odd("cut.png", cut(png(Image.fromarray(PIXELS)), 0.6)),
    Odd("flipped.png", flipped(png(Image.fromarray(PIXELS)), 0.5)),
    Odd("empty.png", raw(b"")),
    Odd("text.jpg", raw(b"<html>404</html>")),
    Odd("animated.png", png(Image.fromarray(PIXELS), save_all=True, append_images=[Image.fromarray(BINARY)])),
]
