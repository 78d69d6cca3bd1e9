"""Compressed DICOM: the voxels are those of the uncompressed files, and a truncated image is none."""

from __future__ import annotations

from functools import partial

import imagecodecs
import numpy as np
import pydicom
import pytest
from enhanced import write_enhanced
from pydicom import uid
from pydicom.encaps import encapsulate
from spine_files import affine_of

from monai_ext.errors import DataError
from monai_ext.spine import find_series
from monai_ext.spine.demo_dicom import write_dicom_series


def jpeg(image: np.ndarray, predictor: int, bits: int = 16) -> bytes:
    return imagecodecs.jpeg8_encode(
        image.view(f"u{image.itemsize}"), lossless=True, predictor=predictor, bitspersample=bits
    )


CODECS = {
    "jpeg-lossless-57": (uid.JPEGLossless, partial(jpeg, predictor=6)),
    "jpeg-lossless-70": (uid.JPEGLosslessSV1, partial(jpeg, predictor=1)),
    "htj2k-lossless": (uid.HTJ2KLossless, imagecodecs.htj2k_encode),
    "htj2k-lossless-rpcl": (uid.HTJ2KLosslessRPCL, imagecodecs.htj2k_encode),
    "htj2k": (uid.HTJ2K, imagecodecs.htj2k_encode),
    "rle": (uid.RLELossless, None),
    "jpeg-2000": (uid.JPEG2000Lossless, partial(imagecodecs.jpeg2k_encode, codecformat="j2k", reversible=True)),
}
KINDS = {"signed": (np.int16, 16), "unsigned": (np.uint16, 16), "12-bit": (np.uint16, 12), "8-bit": (np.uint8, 8)}


def compress(path, syntax, encode, dtype=np.int16, bits=16) -> np.ndarray:
    """Store the pixels as another type, compressed; gives them."""
    data = pydicom.dcmread(path)
    images = (data.pixel_array.astype(np.int64) % 2**bits).astype(f"u{np.dtype(dtype).itemsize}").view(dtype)
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * images.itemsize, bits, bits - 1
    data.PixelRepresentation = int(images.dtype.kind == "i")
    if encode is None:
        data.PixelData = images.tobytes()
        data.compress(syntax, generate_instance_uid=False)
    else:
        frames = images.reshape(-1, data.Rows, data.Columns)
        data.PixelData = encapsulate([bytes(encode(np.ascontiguousarray(frame))) for frame in frames])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path)
    return images


@pytest.fixture
def intensities() -> np.ndarray:
    return np.random.default_rng(0).integers(-2000, 2000, (12, 16, 3)).astype(np.int16)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("codec", list(CODECS))
def test_compressed_slices_have_the_voxels_of_uncompressed_ones(tmp_path, intensities, codec, kind) -> None:
    dtype, bits = KINDS[kind]
    encode = CODECS[codec][1]
    if codec.startswith("jpeg-lossless"):
        encode = partial(encode, bits=bits)
    elif codec == "jpeg-2000":
        encode = partial(encode, bitspersample=bits)
    files = write_dicom_series(tmp_path / "ann/t2", intensities, affine_of("LPS"), "SECRET1")
    expected = [compress(path, CODECS[codec][0], encode, dtype, bits) for path in files]
    ((series,), problems) = find_series(tmp_path)
    assert problems == []
    assert np.array_equal(series.read().voxels, np.stack(expected).T)


@pytest.mark.parametrize("codec", ["jpeg-lossless-70", "htj2k-lossless"])
def test_compressed_frames_too(tmp_path, intensities, codec) -> None:
    path = write_enhanced(tmp_path / "ann/t2.dcm", intensities, affine_of("LPS"))
    expected = compress(path, *CODECS[codec])
    assert np.array_equal(find_series(tmp_path)[0][0].read().voxels, expected.T)


@pytest.mark.parametrize("codec", ["jpeg-lossless-57", "jpeg-lossless-70", "htj2k-lossless"])
def test_a_truncated_image_is_an_error(tmp_path, intensities, codec) -> None:
    syntax, encode = CODECS[codec]
    files = write_dicom_series(tmp_path / "ann/t2", intensities, affine_of("LPS"), "SECRET1")
    for path in files:
        compress(path, syntax, lambda image: encode(image)[:-60])
    ((series,), _) = find_series(tmp_path)
    with pytest.raises(DataError, match="its pixels can't be read"):
        series.read()


@pytest.mark.parametrize("codec", ["jpeg-lossless-70", "htj2k-lossless"])
def test_signed_numbers_may_be_stored_as_unsigned_ones_of_fewer_bits(tmp_path, intensities, codec) -> None:
    syntax, encode = CODECS[codec]
    for path in write_dicom_series(tmp_path / "ann/t2", intensities, affine_of("LPS"), "SECRET1"):
        compress(path, syntax, lambda image: encode((image % 4096).astype(np.uint16)), bits=12)
        data = pydicom.dcmread(path)
        data.PixelRepresentation = 1
        data.save_as(path)
    assert np.array_equal(find_series(tmp_path)[0][0].read().voxels, intensities)


def test_an_image_of_another_shape_than_its_header_is_an_error(tmp_path, intensities) -> None:
    files = write_dicom_series(tmp_path / "ann/t2", intensities, affine_of("LPS"), "SECRET1")
    for path in files:
        compress(path, uid.JPEGLosslessSV1, lambda image: jpeg(np.ascontiguousarray(image.T), 1))
    ((series,), _) = find_series(tmp_path)
    with pytest.raises(DataError, match=r"its pixels can't be read .*instead of \(16, 12\)"):
        series.read()


def test_a_header_that_claims_more_than_there_can_be_takes_no_memory(tmp_path, intensities) -> None:
    for path in write_dicom_series(tmp_path / "ann/t2", intensities, affine_of("LPS"), "SECRET1"):
        compress(path, *CODECS["htj2k"])
        data = pydicom.dcmread(path)
        data.Rows = data.Columns = 65000
        data.save_as(path)
    ((series,), _) = find_series(tmp_path)
    with pytest.raises(DataError, match="8450000000 bytes of voxels are claimed"):
        series.read()
