"""What programs do that read a bundle's `inference.json` by MONAI's `ConfigParser` alone: MONAI Label, MONAI Deploy."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import LoadImaged, SaveImaged
from small_bundles import AFFINE, BUNDLES, MASKS
from small_bundles import SMALL as SAVED

from monai_ext.inferers import ZarrSlidingWindow
from monai_ext.spine import SeriesImage, SliceStage

# A window for the plain path is a setting of inference.
SMALL = {**SAVED, "surface_unet": {**SAVED["surface_unet"], "patch_size": [16, 32, 32]}}


def chest(rng):
    """Air, tissue and lungs in Hounsfield units, as stored integers."""
    values = rng.normal(40, 30, (48, 40, 24))
    values[8:22, 10:30] = values[28:42, 10:30] = rng.normal(-850, 40, (14, 20, 24))
    values[:3] = values[-3:] = -1000
    return values.astype(np.int16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bundle → a NIfTI file that another program may give it."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    voxels = {
        "brats_resnet50": rng.random((40, 44, 36), np.float32) + 0.5,
        "nuclei_vgg3d": rng.integers(0, 255, (50, 44, 48), np.uint8),
        "ct_rate_multilabel": chest(rng),
        "surface_unet": rng.random((40, 36, 20), np.float32),
        "spinal_cord_cascade": rng.random((30, 36, 6), np.float32),
    }
    paths = {}
    for bundle, values in voxels.items():
        paths[bundle] = folder / f"{bundle}.nii"
        nib.save(nib.Nifti1Image(values, AFFINE), paths[bundle])
    return paths


def parser_of(bundle, **settings):
    """A plain parser that knows where the bundle is."""
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.json"))
    parser.update({"bundle_root": str(BUNDLES / bundle), "device": "cpu", **SMALL[bundle], **settings})
    return parser


def predicted(parser, image):
    """The item after inferer and postprocessing, called as MONAI Label does: not by an evaluator."""
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        output = parser.get_parsed_content("inferer")(image[None], network)
    pred = {name: part[0] for name, part in output.items()} if isinstance(output, dict) else output[0]
    return parser.get_parsed_content("postprocessing")({"image": image, "pred": pred})


@pytest.mark.parametrize("bundle", SMALL)
def test_no_setting_has_the_name_of_the_network_object(bundle):
    for file in (BUNDLES / bundle / "configs").glob("*.json"):
        network = json.loads(file.read_text()).get("network", "@none")
        assert not isinstance(network, str) or network.startswith("@"), file


@pytest.mark.parametrize("bundle", SMALL)
def test_without_its_loader_the_preprocessing_takes_images_from_memory(bundle, files):
    preprocessing = parser_of(bundle).get_parsed_content("preprocessing")
    loader, *others = preprocessing.transforms
    assert isinstance(loader, LoadImaged)
    assert not any(isinstance(step, LoadImaged) for step in others)
    expected = preprocessing({"image": str(files[bundle])})["image"]
    loaded = loader({"image": str(files[bundle])})["image"]
    affine, spatial = loaded.affine, loaded.as_tensor()[0]
    images = {
        "as loaded": loaded,
        "with channel": MetaTensor(spatial[None].clone(), affine=affine),
        # as MONAI Deploy makes it
        "without channel": MetaTensor(spatial.clone(), affine=affine, meta={"original_channel_dim": "no_channel"}),
    }
    if bundle == "nuclei_vgg3d":
        images["integers"] = MetaTensor((spatial * 255).round().to(torch.uint8)[None], affine=affine)
    for name, image in images.items():
        found = {"image": image}
        for step in others:
            found = step(found)
        torch.testing.assert_close(
            torch.as_tensor(found["image"]), torch.as_tensor(expected), rtol=0, atol=1e-6, msg=name
        )


@pytest.mark.parametrize("bundle", [name for name in SMALL if name not in MASKS])
def test_a_classifier_gives_probabilities(bundle, files):
    parser = parser_of(bundle)
    image = parser.get_parsed_content("preprocessing")({"image": str(files[bundle])})["image"]
    pred = predicted(parser, image)["pred"]
    assert pred.ndim == 1
    assert len(pred) == len(parser.get_parsed_content("class_names"))
    assert ((pred > 0) & (pred < 1)).all()


@pytest.mark.parametrize("bundle", MASKS)
def test_a_mask_is_saved_in_the_geometry_of_its_image(bundle, files, tmp_path):
    parser = parser_of(bundle, output_dir=str(tmp_path))
    item = parser.get_parsed_content("preprocessing")({"image": str(files[bundle])})
    assert any(isinstance(step, SaveImaged) for step in parser.get_parsed_content("postprocessing").transforms)
    predicted(parser, item["image"])
    (saved,) = tmp_path.rglob("*.nii.gz")
    mask, image = nib.load(saved), nib.load(files[bundle])
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-5)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0.0, 1.0}


def test_the_plain_path_of_surface_unet_gives_the_scores_of_the_engine(files, tmp_path):
    parser = parser_of("surface_unet", output_dir=str(tmp_path / "plain"))
    item = parser.get_parsed_content("preprocessing")({"image": str(files["surface_unet"])})
    found = predicted(parser, item["image"])
    engine = ZarrSlidingWindow(
        parser.get_parsed_content("network_def").eval(),
        SMALL["surface_unet"]["patch_size"],
        targets=parser.get_parsed_content("predicted_targets"),
        normalize=parser.get_parsed_content("normalize"),
        dtypes={"sheet": "float32", "normals": "float32"},
    )
    engine(files["surface_unet"], tmp_path / "engine")
    import zarr

    for name in ("sheet", "normals"):
        node = zarr.open(tmp_path / "engine" / f"{name}.zarr", mode="r")
        array = np.asarray(node if isinstance(node, zarr.Array) else node["0"])
        expected = (array[None] if array.ndim == 3 else array).transpose(0, 3, 2, 1)
        np.testing.assert_allclose(found[name].numpy(), expected, atol=1e-4, err_msg=name)
    assert torch.equal(found["pred"].as_tensor(), (found["sheet"][0].as_tensor() >= 0.5).float())


def test_the_plain_path_of_the_cascade_gives_the_masks_of_its_stage(files, tmp_path):
    parser = parser_of("spinal_cord_cascade")
    voxels = np.asarray(nib.load(files["spinal_cord_cascade"]).dataobj, np.float32)
    series = SeriesImage(voxels, AFFINE, 2)
    slices = series.slices()
    network = parser.get_parsed_content("network_def").eval()
    stage = SliceStage(network, parser.get_parsed_content("slice_preparation"))
    scores, _ = stage.mask_probabilities(stage.prepare(slices), slices.shape[2:])
    threshold = float(np.quantile(scores, 0.7))
    expected = series.restore((scores >= threshold).astype(np.float32))
    assert 0 < expected.mean() < 1
    parser = parser_of("spinal_cord_cascade", output_dir=str(tmp_path), lesion_threshold=threshold)
    item = parser.get_parsed_content("preprocessing")({"image": str(files["spinal_cord_cascade"])})
    found = predicted(parser, item["image"])["pred"][0].numpy()
    assert (found != expected).mean() < 1e-3  # scores at the threshold itself
