"""An exported bundle in MONAI Deploy: only where its SDK is, see `deploy_sdk`."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from deploy_sdk import bundle_operator, deploy
from monai.bundle.scripts import ckpt_export
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, SaveImaged
from small_bundles import AFFINE, BUNDLES, MASKS
from test_plain_parser import SMALL, files, parser_of  # noqa: F401 (files is a fixture)


def without(compose, kind):
    return Compose([step for step in compose.transforms if not isinstance(step, kind)])


def eager(parser, network, image):
    """Prediction without the SDK, of an image in memory."""
    image = MetaTensor(image.copy(), affine=AFFINE, meta={"original_channel_dim": "no_channel"})
    image = without(parser.get_parsed_content("preprocessing"), LoadImaged)({"image": image})["image"]
    with torch.no_grad():
        pred = parser.get_parsed_content("inferer")(image[None], network)[0]
    return without(parser.get_parsed_content("postprocessing"), SaveImaged)({"image": image, "pred": pred})


@pytest.mark.parametrize("bundle", SMALL)
def test_the_operator_gives_what_the_network_gives(bundle, files, tmp_path, monkeypatch):  # noqa: F811
    bundle_operator()
    parser = parser_of(bundle)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "state.pt")
    configs = BUNDLES / bundle / "configs"
    config = {**json.loads((configs / "inference.json").read_text()), **SMALL[bundle], "device": "cpu"}
    (tmp_path / "inference.json").write_text(json.dumps(config))
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "state.pt"),
        meta_file=str(configs / "metadata.json"),
        config_file=str(tmp_path / "inference.json"),
        key_in_ckpt="",
    )
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    shutil.move(tmp_path / "model.ts", alone)  # it needs no other file
    monkeypatch.chdir(alone)
    outputs = json.loads((configs / "metadata.json").read_text())["network_data_format"]["outputs"]
    image = np.asarray(nib.load(files[bundle]).dataobj)
    found = deploy(alone / "model.ts", image, AFFINE, outputs)["pred"]
    expected = eager(parser, network, image)["pred"]
    if bundle in MASKS:
        mask = np.asarray(expected)
        mask = mask[0] if mask.ndim == 4 else mask
        assert mask.shape == image.shape
        assert 0 < mask.mean() < 1
        if bundle == "spinal_cord_cascade":  # an image of the SDK: Z, Y, X
            found = np.swapaxes(found.asnumpy(), 0, 2)
        np.testing.assert_array_equal(found, mask.astype(np.uint8))
    else:
        assert np.ptp(found["probabilities"]) > 0
        np.testing.assert_allclose(found["probabilities"], np.asarray(expected), rtol=1e-4, atol=1e-5)
