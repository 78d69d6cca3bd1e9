"""``check`` of a bundle with several networks prepares the inputs of each that the data are for."""

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from monai_ext.cli.app import app


def write(path, number, mask=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 255, (32, 32)).astype(np.uint8)
    Image.fromarray((values > 200).astype(np.uint8) * 255 if mask else values).save(path)


def check(folder, *words):
    options = ["--dataset_dir", str(folder), "--image_size", "32", "--workers", "1", *words]
    return CliRunner().invoke(app, ["check", "spinal_cord_cascade", *options])


def test_the_inputs_of_every_stage_are_prepared_and_all_images_without_a_mask_are_named(tmp_path):
    for patient in range(1, 6):
        for number, name in enumerate(("brain", "spine")):
            write(tmp_path / f"anatomy/{name}/p{patient}_0.png", 10 * patient + number)
        write(tmp_path / f"cord/images/p{patient}_0.png", 100 * patient)
        write(tmp_path / f"cord/masks/p{patient}_0.png", 100 * patient, mask=True)
    done = check(tmp_path)
    assert "anatomy: prepared 10 of 10 inputs" in done.output
    assert "cord: prepared 5 of 5 inputs" in done.output
    assert done.exit_code == 0, done.output
    assert "anatomy:" not in check(tmp_path, "--stage", "cord", "--folder", "cord").output
    for patient in (2, 3):
        (tmp_path / f"cord/masks/p{patient}_0.png").unlink()
    done = check(tmp_path)
    assert done.exit_code == 1
    assert [f"cord/images/p{patient}_0.png\n         has no mask" in done.output for patient in (1, 2, 3)] == [
        False,
        True,
        True,
    ]
