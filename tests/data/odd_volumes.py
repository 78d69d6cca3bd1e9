"""Volume files of every kind that laboratories have, made on the spot, each with its voxels and affine."""

from __future__ import annotations

import functools
import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (4, 5, 6)
VOXELS = np.random.default_rng(0).integers(1, 120, SHAPE).astype(np.int16)
# oblique and left-handed, so that a wrong axis or sign shows
_C, _S = np.cos(0.4), np.sin(0.4)
AFFINE = np.array([[-2 * _C, 0, 4 * _S, 11], [0, 3, 0, -22], [2 * _S, 0, 4 * _C, 33], [0, 0, 0, 1.0]])
SHEARED = AFFINE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
LPS = np.diag([-1, -1, 1, 1.0])
GIB = 1 << 30


@dataclass(frozen=True)
class Odd:
    """A file: who reads it (see `test_odd_files.READERS`), and what they read."""

    name: str
    make: Callable[[Path], object]
    readers: str = ""
    voxels: np.ndarray | None = None
    stored: np.ndarray | None = None
    affine: np.ndarray | None = None
    says: str = ""


NIFTI = "volume nifti series"


def good(name: str, make: Callable[[Path], object], readers: str = NIFTI, voxels=VOXELS, affine=AFFINE, **more) -> Odd:
    return Odd(name, make, readers, voxels, affine=affine, **more)


def image(voxels=VOXELS, affine=AFFINE, kind: Any = nib.Nifti1Image, order: str = "<", **header) -> Any:
    """A NIfTI image whose header's fields are set afterwards, as a damaged or odd program would."""
    made = kind(np.asarray(voxels), affine, kind.header_class(endianness=order), dtype=np.asarray(voxels).dtype)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    made.header["xyzt_units"] = 2
    content = bytearray(made.to_bytes()) if kind.header_class.is_single else b""
    fields = made.header.template_dtype.newbyteorder(order)
    for name, value in header.items():
        at = fields.fields[name][1]
        block = np.array(value, fields.fields[name][0].base).tobytes()
        content[at : at + len(block)] = block
    return bytes(content)


def nifti(compress: bool = False, **options: Any) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        content = image(**options)
        path.write_bytes(gzip.compress(content) if compress else content)

    return make


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def pair(path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), path)


@functools.cache
def deflated_zeros(mebibytes: int) -> bytes:
    """What ``zlib.compress`` gives for so many zeros, in no time: one packed MiB, again and again."""
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", (mebibytes << 20) % 65521, 1)
    return b"\x78\x9c" + block * mebibytes + packer.flush() + checksum


def bomb(head: bytes, total: int) -> Callable[[Path], object]:
    member = gzip.compress(bytes(1 << 20))
    return lambda path: path.write_bytes(gzip.compress(head) + member * (total // (1 << 20)))


def cut(make: Callable[[Path], object], size: float) -> Callable[[Path], object]:
    def cut_off(path: Path) -> None:
        make(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * size)])

    return cut_off


def flipped(make: Callable[[Path], object], at: float = 0.8) -> Callable[[Path], object]:
    def flip(path: Path) -> None:
        make(path)
        content = bytearray(path.read_bytes())
        content[int(len(content) * at)] ^= 0xFF
        path.write_bytes(content)

    return flip


DIMS = (3, 1024, 1024, 1536, 1, 1, 1, 1)
ZERO = {"srow_x": (0.0,) * 4, "srow_y": (0.0,) * 4, "srow_z": (0.0,) * 4}
NAN = {"srow_x": (np.nan,) * 4}
NO_QFORM = {"qform_code": 0}
RGB = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
MICRO, METER = np.diag([1e-3, 1e-3, 1e-3, 1]), np.diag([1e3, 1e3, 1e3, 1])


def members(path: Path) -> None:
    content = image()
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]) + bytes(16))


def shear(**fields: Any) -> dict[str, Any]:
    return {f"srow_{axis}": SHEARED[row] for row, axis in enumerate("xyz")} | fields


NIFTIS = [
    good("one.nii", nifti(), f"{NIFTI} zarr"),
    good("two.nii", nifti(kind=nib.Nifti2Image), f"{NIFTI} zarr"),
    good("big.nii", nifti(order=">"), f"{NIFTI} zarr"),
    good("big2.nii", nifti(kind=nib.Nifti2Image, order=">"), f"{NIFTI} zarr"),
    good("one.nii.gz", nifti(True)),
    good("two.nii.gz", nifti(True, kind=nib.Nifti2Image, order=">")),
    good("UPPER.NII", nifti(), f"{NIFTI} zarr"),
    good("UPPER.NII.GZ", nifti(True)),
    good("members.nii.gz", members),
    good("pair.hdr", pair),
    good("doubles.nii", nifti(voxels=VOXELS.astype(float)), f"{NIFTI} zarr"),
    good("bytes.nii", nifti(voxels=VOXELS.astype("i1")), f"{NIFTI} zarr"),
    good("unsigned64.nii.gz", nifti(True, voxels=VOXELS.astype("u8"))),
    good("singleton.nii", nifti(voxels=VOXELS[..., None]), f"{NIFTI} zarr"),
    good("singletons.nii.gz", nifti(True, voxels=VOXELS[..., None, None])),
    good("scaled.nii", nifti(scl_slope=0.5, scl_inter=-3), f"{NIFTI} zarr", voxels=VOXELS * 0.5 - 3.0, stored=VOXELS),
    good("no slope.nii", nifti(scl_slope=0, scl_inter=7), f"{NIFTI} zarr"),
    good("micron.nii", nifti(xyzt_units=3), f"{NIFTI} zarr", affine=MICRO @ AFFINE),
    good("meter.nii.gz", nifti(True, xyzt_units=1), affine=METER @ AFFINE),
    good("unit unknown.nii", nifti(xyzt_units=0), f"{NIFTI} zarr"),
    good("sform zero.nii", nifti(**ZERO), f"{NIFTI} zarr"),
    good("sform nan.nii.gz", nifti(True, **NAN)),
    good("sform sheared.nii", nifti(**shear()), f"{NIFTI} zarr"),
    good("qform bad.nii", nifti(quatern_b=9.0), f"{NIFTI} zarr"),
    good("qform only.nii.gz", nifti(True, sform_code=0)),
    good("no codes.nii", nifti(sform_code=0, qform_code=0), f"{NIFTI} zarr", affine=None),
    Odd("both zero.nii", nifti(**ZERO, pixdim=(1, 0, 0, 0))),
    Odd("both nan.nii.gz", nifti(True, **NAN, quatern_b=np.nan)),
    Odd("singular.nii", nifti(**NO_QFORM, srow_x=AFFINE[1])),
    Odd("sheared.nii", nifti(**shear(**NO_QFORM))),
    Odd("no codes, no size.nii.gz", nifti(True, sform_code=0, qform_code=0, pixdim=(1, 0, 1, 1))),
    Odd("colour.nii", nifti(voxels=RGB)),
    Odd("colour.nii.gz", nifti(True, voxels=RGB)),
    Odd("complex.nii", nifti(voxels=VOXELS.astype("c8"))),
    Odd("complex128.nii.gz", nifti(True, voxels=VOXELS.astype("c16"))),
    Odd("bits.nii", nifti(datatype=1, bitpix=1)),
    Odd("unknown type.nii", nifti(datatype=77)),
    Odd("four.nii", nifti(voxels=np.stack([VOXELS] * 3, -1))),
    Odd("flat.nii.gz", nifti(True, voxels=VOXELS[..., 0])),
    Odd("negative.nii", nifti(dim=(3, -4, -5, 6, 1, 1, 1, 1))),
    Odd("no dims.nii", nifti(dim=(0,) * 8)),
    Odd("nine dims.nii", nifti(dim=(9, 4, 5, 6, 1, 1, 1, 1))),
    Odd("offset nan.nii", nifti(vox_offset=np.nan)),
    Odd("offset far.nii.gz", nifti(True, vox_offset=1e12)),
    Odd("claims.nii", nifti(dim=DIMS)),
    Odd("claims.nii.gz", nifti(True, dim=DIMS)),
    Odd("absurd.nii", nifti(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1), datatype=64, bitpix=64)),
    Odd("absurd2.nii.gz", nifti(True, kind=nib.Nifti2Image, dim=(3, 1 << 62, 1 << 62, 1 << 62, 1, 1, 1, 1))),
    Odd("more than said.nii", raw(image() + bytes(3 << 20))),
    Odd("bomb.nii.gz", bomb(image(), 4 * GIB), says="holds more than the"),
    Odd("honest bomb.nii.gz", bomb(image(dim=(3, 1024, 1024, 2048, 1, 1, 1, 1))[:352], 4 * GIB)),
    Odd("cut.nii", cut(nifti(), 0.9)),
    Odd("cut.nii.gz", cut(nifti(True), 0.9)),
    Odd("cut in header.nii.gz", cut(nifti(True), 0.1)),
    Odd("cut in header.nii", cut(nifti(), 0.1)),
    Odd("flipped.nii.gz", flipped(nifti(True))),
    Odd("empty.nii", raw(b"")),
    Odd("empty.nii.gz", raw(b"")),
    Odd("text.nii", raw(b"<html>404</html>" * 40)),
    Odd("packed.nii", raw(gzip.compress(image()))),
    Odd("unpacked.nii.gz", raw(image())),
    Odd("alone.hdr", lambda path: (pair(path), path.with_suffix(".img").unlink())),
    Odd("analyze.hdr", lambda path: nib.save(nib.AnalyzeImage(VOXELS, np.diag([2.0, 3, 4, 1])), path)),
]


def nrrd(data: bytes, size: str = "4 5 6", encoding: str = "raw", **fields: str) -> bytes:
    """A NRRD whose directions are `AFFINE`'s, in RAS unless said."""
    vectors = " ".join("({},{},{})".format(*AFFINE[:3, axis]) for axis in range(3))
    known = {
        **{"type": "short", "dimension": str(len(size.split())), "space": "right-anterior-superior", "sizes": size},
        **{"space_directions": vectors, "endian": "little", "encoding": encoding, "space_origin": "(11,-22,33)"},
        **fields,
    }
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in known.items() if value]
    return "\n".join(["NRRD0004", "# made by a test", *lines, "", ""]).encode() + data


DATA = VOXELS.tobytes(order="F")
BIG = VOXELS.astype(">i2").tobytes(order="F")
SERIES = "volume series"
NO_SPACE = {"space": "", "space_directions": "", "space_origin": "", "spacings": "2 3 4"}
VECTORS = " ".join("({},{},{})".format(*AFFINE[:3, axis]) for axis in range(3))


def beside(header: bytes, name: str, data: bytes) -> Callable[[Path], object]:
    return lambda path: (path.write_bytes(header), (path.parent / name).write_bytes(data))


NRRDS = [
    good("raw.nrrd", raw(nrrd(DATA)), SERIES),
    good("gzip.NRRD", raw(nrrd(gzip.compress(DATA), encoding="gzip")), SERIES),
    good("big.nrrd", raw(nrrd(BIG, endian="big")), SERIES),
    good("lps.nrrd", raw(nrrd(DATA, space="left-posterior-superior")), SERIES, affine=LPS @ AFFINE),
    good("las.nrrd", raw(nrrd(DATA, space="LAS")), SERIES, affine=np.diag([-1, 1, 1, 1.0]) @ AFFINE),
    good("spacings.nrrd", raw(nrrd(DATA, **NO_SPACE)), SERIES, affine=np.diag([-2, -3, 4, 1.0])),
    good("microns.nrrd", raw(nrrd(DATA, space_units='"um" "um" "um"')), SERIES, affine=MICRO @ AFFINE),
    good("one value.nrrd", raw(nrrd(DATA, "1 4 5 6", space_directions=f"none {VECTORS}")), SERIES),
    good("skip.nrrd", raw(nrrd(b"junk" + DATA, byte_skip="-1")), SERIES),
    good("beside.nhdr", beside(nrrd(b"", data_file="beside.raw"), "beside.raw", DATA), SERIES),
    Odd("three values.nrrd", raw(nrrd(DATA * 3, "3 4 5 6", space_directions=f"none {VECTORS}"))),
    Odd("bzip2.nrrd", raw(nrrd(DATA, encoding="bzip2"))),
    Odd("text.nrrd", raw(b"NRRD, or not")),
    Odd("no sizes.nrrd", raw(nrrd(DATA, sizes=""))),
    Odd("block.nrrd", raw(nrrd(DATA, type="block"))),
    Odd("nan.nrrd", raw(nrrd(DATA, space_directions="(nan,0,0) (0,1,0) (0,0,1)"))),
    Odd("zero.nrrd", raw(nrrd(DATA, space_directions="(0,0,0) (0,1,0) (0,0,1)"))),
    Odd("inches.nrrd", raw(nrrd(DATA, space_units='"inch" "inch" "inch"'))),
    Odd("outside.nhdr", beside(nrrd(b"", data_file="../o.raw"), "../o.raw", DATA)),
    Odd("pattern.nhdr", beside(nrrd(b"", data_file="x%03d.raw 1 6 1"), "x001.raw", DATA)),
    Odd("claims.nrrd", raw(nrrd(DATA, "1024 1024 1536"))),
    Odd("claims gzip.nrrd", raw(nrrd(gzip.compress(DATA), "1024 1024 1536", "gzip"))),
    Odd("absurd.nrrd", raw(nrrd(DATA, "9999999999 9999999999 9999999999"))),
    Odd("cut.nrrd", raw(nrrd(DATA[:-9]))),
    Odd("cut gzip.nrrd", raw(nrrd(gzip.compress(DATA)[:-50], encoding="gzip"))),
    Odd("flipped gzip.nrrd", flipped(raw(nrrd(gzip.compress(DATA), encoding="gzip")))),
]


def meta(data: bytes, size: str = "4 5 6", **fields: str) -> bytes:
    axes = len(size.split())
    matrix, spacing, offset = np.eye(axes), np.ones(axes), np.zeros(axes)
    lps = LPS @ AFFINE
    spacing[:3] = np.linalg.norm(lps[:3, :3], axis=0)
    matrix[:3, :3] = (lps[:3, :3] / spacing[:3]).T
    offset[:3] = lps[:3, 3]
    known = {
        **{"ObjectType": "Image", "NDims": str(axes), "BinaryData": "True", "BinaryDataByteOrderMSB": "False"},
        **{"TransformMatrix": " ".join(map(str, matrix.ravel())), "Offset": " ".join(map(str, offset))},
        **{"ElementSpacing": " ".join(map(str, spacing)), "DimSize": size, "ElementType": "MET_SHORT"},
        **fields,
    }
    last = {"ElementDataFile": known.pop("ElementDataFile", "LOCAL")}
    return "".join(f"{name} = {value}\n" for name, value in {**known, **last}.items() if value).encode() + data


PACKED = {"CompressedData": "True"}
SIZE = {"CompressedDataSize": str(len(zlib.compress(DATA)))}
BYTES = VOXELS.astype("i1").tobytes(order="F")
METAS = [
    good("raw.mha", raw(meta(DATA)), SERIES),
    good(
        "packed.MHA", raw(meta(zlib.compress(DATA), CompressedDataSize=str(len(zlib.compress(DATA))), **PACKED)), SERIES
    ),
    good("bytes.mha", raw(meta(BYTES, ElementType="MET_CHAR")), SERIES),
    good("big.mha", raw(meta(BIG, BinaryDataByteOrderMSB="True")), SERIES),
    good("singleton.mha", raw(meta(DATA, "4 5 6 1")), SERIES),
    good("plain.mha", raw(meta(DATA, TransformMatrix="", Offset="")), SERIES, affine=np.diag([-2, -3, 4, 1.0])),
    good(
        "skip.mhd", beside(meta(b"", ElementDataFile="skip.raw", HeaderSize="-1"), "skip.raw", b"junk" + DATA), SERIES
    ),
    good("packed.mhd", beside(meta(b"", ElementDataFile="a.zraw", **PACKED), "a.zraw", zlib.compress(DATA)), SERIES),
    Odd("channels.mha", raw(meta(DATA * 3, ElementNumberOfChannels="3"))),
    Odd("four.mha", raw(meta(DATA * 3, "4 5 6 3"))),
    Odd("text.mha", raw(meta(b"1 2 3", BinaryData="False"))),
    Odd("none.mha", raw(b"nothing")),
    Odd("type.mha", raw(meta(DATA, ElementType="MET_OTHER"))),
    Odd("zero.mha", raw(meta(DATA, ElementSpacing="0 0 0"))),
    Odd("nan.mha", raw(meta(DATA, ElementSpacing="nan 1 1"))),
    Odd("singular.mha", raw(meta(DATA, TransformMatrix="1 0 0 1 0 0 0 0 1"))),
    Odd("claims.mha", raw(meta(DATA, "1024 1024 1536"))),
    Odd("claims packed.mha", raw(meta(zlib.compress(DATA), "1024 1024 1536", **PACKED))),
    Odd("bomb.mha", raw(meta(deflated_zeros(256), **PACKED))),
    Odd("cut.mha", raw(meta(DATA[:-9]))),
    Odd("cut packed.mha", raw(meta(zlib.compress(DATA)[:-9], **PACKED))),
    Odd("flipped.mha", flipped(raw(meta(zlib.compress(DATA), **PACKED)))),
    Odd("list.mhd", raw(meta(b"", ElementDataFile="LIST"))),
    Odd("missing.mhd", raw(meta(b"", ElementDataFile="missing.raw"))),
]


def mgh(compress: bool = True, voxels=VOXELS, patch: dict[int, bytes] | None = None) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        content = bytearray(nib.MGHImage(voxels, AFFINE).to_bytes())
        for at, block in (patch or {}).items():
            content[at : at + len(block)] = block
        path.write_bytes(gzip.compress(content) if compress else content)

    return make


MGHS = [
    good("a.mgz", mgh(), SERIES),
    good("A.MGH", mgh(False), SERIES),
    good("floats.mgz", mgh(voxels=VOXELS.astype("f4")), SERIES),
    good("not said.mgz", mgh(patch={28: bytes(2)}), SERIES, affine=None),
    Odd("frames.mgz", mgh(voxels=np.stack([VOXELS] * 2, -1))),
    Odd("type.mgz", mgh(patch={20: struct.pack(">i", 99)})),
    Odd("zero.mgz", mgh(patch={30: bytes(12)})),
    Odd("claims.mgz", mgh(patch={4: struct.pack(">3i", 1024, 1024, 1536)})),
    Odd("claims.mgh", mgh(False, patch={4: struct.pack(">3i", 32767, 32767, 32767)})),
    Odd("negative.mgz", mgh(patch={4: struct.pack(">3i", -4, -5, 6)})),
    Odd("text.mgz", raw(gzip.compress(b"no header" * 99))),
    Odd("cut.mgz", cut(mgh(), 0.8)),
    Odd("flipped.mgz", flipped(mgh())),
]


def npy(array: np.ndarray, **options: bool) -> Callable[[Path], object]:
    return lambda path: np.save(path, array, **options)


def claiming(shape: str) -> Callable[[Path], object]:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    return raw(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117).encode() + b"\n" + bytes(300))


NUMPYS = [
    good("a.npy", npy(VOXELS), SERIES, affine=np.eye(4)),
    good("fortran.npy", npy(np.asfortranarray(VOXELS)), SERIES, affine=np.eye(4)),
    good("big.npy", npy(VOXELS.astype(">f8")), SERIES, affine=np.eye(4)),
    Odd("complex.npy", npy(VOXELS.astype("c8"))),
    Odd("text.npy", npy(np.full(SHAPE, "a"))),
    Odd("objects.npy", npy(np.array([[[{}]]], object), allow_pickle=True)),
    Odd("four.npy", npy(np.ones((2, 3, 4, 5)))),
    Odd("claims.npy", claiming("(1024, 1024, 1024)")),
    Odd("absurd.npy", claiming("(4294967296, 4294967296, 4294967296)")),
    Odd("negative.npy", claiming("(-4, -5, 6)")),
    Odd("junk.npy", raw(b"\x93NUMPY\x09\x09 junk")),
]
VOLUMES = [*NIFTIS, *NRRDS, *METAS, *MGHS, *NUMPYS]
