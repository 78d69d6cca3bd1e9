"""Prepared inputs with nothing, too little, or too much in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import Lambdad
from sklearn.metrics import roc_auc_score

from monai_ext.data import PreparedDataset
from monai_ext.data import duplicates as duplicates_module
from monai_ext.data.duplicates import duplicates
from monai_ext.data.input_findings import input_findings
from monai_ext.data.prepared_inputs import chosen_items, image_files, over, sum_up
from monai_ext.data.shortcuts import ENOUGH, resampled_aucs, shortcuts


def texture(seed, shape=(1, 12, 12, 12)):
    """Smooth, so that small copies tell images apart, with values from 0 to 1."""
    coarse = torch.from_numpy(np.random.default_rng(seed).random((1, shape[0], 5, 5, 5), np.float32))
    return torch.nn.functional.interpolate(coarse, size=shape[1:], mode="trilinear")[0]


def summed(image, case="a", section="train", index=0, label=0, **more):
    item = {"case": case, "label": label, "image": f"/data/{case}.nii.gz"}
    return sum_up(section, index, item, {**item, "image": image, **more})


def codes(problems):
    return [(problem.code, problem.severity) for problem in problems]


def test_different_textures_are_no_finding():
    inputs = [summed(texture(seed), f"case {seed}", "val" if seed % 4 == 0 else "train") for seed in range(20)]
    assert input_findings(inputs) + duplicates(inputs) == []


def with_padding(voxels):
    image = torch.zeros(1, 12, 12, 12)
    image[:, :voxels] = texture(1)[:, :voxels]
    return image


@pytest.mark.parametrize(
    ("image", "code", "severity"),
    [
        (torch.zeros(1, 8, 8, 8), "constant-input", "error"),
        (torch.full((1, 8, 8, 8), 0.7), "constant-input", "error"),
        (texture(1) * 0.008 - 0.997, "narrow-input", "warning"),
        (texture(1) * 0.1, "narrow-input", "warning"),
        ((texture(1) * 3).clamp(max=1), "saturated-input", "warning"),
        (with_padding(3), "mostly-padding", "warning"),
        (texture(1).where(texture(1) > 0.3, torch.nan), "not-finite", "error"),
    ],
    ids=["zero", "constant", "16-bit camera", "12-bit camera", "saturated", "padding", "NaN"],
)
def test_one_input_of_many_that_holds_nothing_is_named(image, code, severity):
    good = [summed(texture(seed, image.shape), f"case {seed}", index=seed) for seed in range(2, 6)]
    (problem,) = input_findings([*good, summed(image, "bad", index=9)])
    assert (problem.code, problem.severity, problem.path) == (code, severity, "/data/bad.nii.gz")
    assert problem.files == ("/data/bad.nii.gz",)
    assert "case bad" in problem.message


def test_a_third_of_an_axis_is_padding_enough_for_no_finding():
    assert input_findings([summed(with_padding(4))]) == []


def test_all_cases_of_a_kind_are_one_finding_with_the_settings_that_mend_it():
    inputs = [summed(texture(seed) * 0.01, f"case {seed}", index=seed) for seed in range(5)]
    (problem,) = input_findings(inputs, ["lr", "value_range", "percentiles"])
    assert "4 more of 5 cases" in problem.message
    assert len(problem.files) == 5
    assert "--percentiles '[0.5, 99.5]' or --value_range" in problem.step
    assert "--" not in input_findings(inputs, ["lr"])[0].step


def test_one_crop_of_background_among_crops_of_a_case_is_no_finding():
    crops = [summed(texture(0), index=0), summed(torch.zeros(1, 12, 12, 12), index=1)]
    assert input_findings(crops) == []
    assert codes(input_findings(crops[1:])) == [("constant-input", "error")]


def test_an_empty_file_among_the_channels_of_a_case_is_named():
    image = torch.cat([texture(0), torch.zeros(1, 12, 12, 12)])
    item = {"case": "a", "image": ["/data/t1.nii", "/data/t2.nii"], "label": 1}
    (problem,) = input_findings([sum_up("train", 0, item, {"image": image})])
    assert (problem.code, problem.path) == ("constant-input", "/data/t2.nii")


def test_inputs_of_several_shapes_are_named():
    inputs = [summed(texture(seed), f"case {seed}", index=seed) for seed in range(3)]
    (problem,) = input_findings([*inputs, summed(texture(4, (1, 12, 12, 10)), "odd", index=4)])
    assert (problem.code, problem.path) == ("uneven-inputs", "/data/odd.nii.gz")


@pytest.mark.parametrize(("marked", "severity"), [(0, "error"), (1, "note")])
def test_masks_are_an_error_when_all_are_empty(marked, severity):
    masks = [torch.full((1, 12, 12, 12), float(number < marked)) for number in range(3)]
    inputs = [summed(texture(n), f"case {n}", index=n, label=None, mask=mask) for n, mask in enumerate(masks)]
    (problem,) = input_findings(inputs)
    assert (problem.code, problem.severity) == ("empty-mask", severity)
    assert f"{3 - marked} of 3 inputs have nothing but zeros in 'mask'" in problem.message


@pytest.mark.parametrize(
    ("section", "label", "found"),
    [
        ("val", 0, ("copies-across-sets", "error")),
        ("train", 0, ("same-input", "warning")),
        ("train", 1, ("same-input", "error")),
    ],
    ids=["across", "same set", "other label"],
)
def test_the_same_voxels_under_two_names_are_found(section, label, found):
    inputs = [summed(texture(seed), f"case {seed}", index=seed) for seed in range(6)]
    copy = summed(texture(3), "again", section, 9, label)
    (problem,) = duplicates([*inputs, copy])
    assert codes([problem]) == [found]
    assert "case 3" in problem.message
    assert "again" in problem.message
    assert set(problem.files) == {"/data/case 3.nii.gz", "/data/again.nii.gz"}


def test_blank_inputs_are_not_called_copies():
    blank = torch.zeros(1, 8, 8, 8)
    assert duplicates([summed(blank, "a"), summed(blank, "b", "val")]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image + 0.005 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0)),
        lambda image: (image * 255).round() / 255,
        lambda image: 3 * image - 1,
    ],
    ids=["noise", "8 bits", "scaled"],
)
def test_a_changed_copy_in_another_set_is_nearly_the_same(change):
    inputs = [summed(texture(seed), f"case {seed}", index=seed) for seed in range(12)]
    copy = summed(change(texture(3)), "again", "val")
    (problem,) = duplicates([*inputs, copy])
    assert codes([problem]) == [("near-copies-across-sets", "warning")]
    assert {"/data/case 3.nii.gz", "/data/again.nii.gz"} == set(problem.files)
    # in the same set now, and on both sides in another fold
    (problem,) = duplicates([*inputs, replace(copy, section="train")])
    assert codes([problem]) == [("near-copies", "warning")]
    assert "Both are in train; with another fold or seed they may be on both sides" in problem.message
    # of the same patient it may be
    assert duplicates([*inputs, replace(copy, patient="case 3")]) == []


def test_of_many_inputs_some_of_all_sets_are_compared_and_a_note_says_so(monkeypatch):
    monkeypatch.setattr(duplicates_module, "MOST_COMPARED", 13)
    inputs = [summed(texture(seed), f"case {seed}", index=seed) for seed in range(24)]
    copies = [summed(texture(23) * 3, "again", "val"), summed(texture(22) * 3, "once more", "val")]
    note, problem = duplicates([*inputs, *copies])
    assert codes([note, problem]) == [("not-looked-at", "note"), ("near-copies-across-sets", "warning")]
    assert "case 22 (train) and once more (val)" in problem.message
    assert "among 13 of 26 inputs" in note.message


def test_cases_that_are_all_alike_are_not_called_near_copies():
    """As registered brains are: they share most of what there is, and differ in the rest."""
    common = texture(0)
    inputs = [
        summed(common + 0.02 * texture(seed), f"case {seed}", "val" if seed % 3 == 0 else "train", seed)
        for seed in range(1, 31)
    ]
    assert duplicates(inputs) == []


def test_a_sample_is_spread_over_all_sets():
    data = {"train": range(80), "val": range(20)}
    assert chosen_items(data, None) == chosen_items(data, 100) == chosen_items(data, 1000)
    places = chosen_items(data, 10)
    assert (len(places), places[0], places[-1]) == (10, ("train", 0), ("val", 19))
    assert sum(section == "val" for section, _ in places) == 2
    assert chosen_items(data, 0) == []


def test_a_set_over_other_items_has_transforms_of_its_own():
    dataset = PreparedDataset([{"case": "a"}], [Lambdad("image", abs, allow_missing_keys=True)])
    other = over(dataset, [{"case": "b"}])
    assert other.transform is not dataset.transform
    assert (dataset.data[0]["case"], other.data[0]["case"]) == ("a", "b")


def test_files_are_found_in_nested_lists():
    assert list(image_files([["a", "b"], ["c"]])) == ["a", "b", "c"]
    assert list(image_files(torch.zeros(2))) == []


def labelled(tmp_path, sizes, labels, names="case_{}"):
    items = []
    for number, (size, label) in enumerate(zip(sizes, labels, strict=True)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"x" * int(size))
        items.append({"case": names.format(number), "image": str(path), "label": label})
    return {"train": items}


LABELS = [number % 2 for number in range(60)]


def test_areas_of_resampled_cases_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth = rng.permutation([0] * 14 + [1] * 11)
    scores = np.round(rng.random(25) + 0.3 * truth, 1)  # many are equal
    same, sides = np.random.default_rng(0), (np.flatnonzero(truth == 1), np.flatnonzero(truth == 0))
    drawn = [np.concatenate([same.choice(side, len(side)) for side in sides]) for _ in range(20)]
    expected = [roc_auc_score(truth[rows], scores[rows]) for rows in drawn]
    np.testing.assert_allclose(resampled_aucs(scores, truth, 20), expected, rtol=0, atol=1e-12)


def test_a_file_size_that_tells_the_label_is_a_shortcut(tmp_path):
    sizes = np.random.default_rng(0).integers(1000, 1200, 60) + 150 * np.array(LABELS)
    (problem,) = shortcuts(labelled(tmp_path, sizes, LABELS), ["LGG", "HGG"])
    assert codes([problem]) == [("shortcut", "warning")]
    assert "the size of the files alone tells HGG" in problem.message


def test_a_site_in_the_name_that_tells_the_label_is_a_shortcut(tmp_path):
    data = labelled(tmp_path, [1000] * 60, LABELS)
    for number, item in enumerate(data["train"]):
        item["case"] = f"{'Rome' if item['label'] and number % 10 else 'Oslo'}_{number:03d}"
    (problem,) = shortcuts(data)
    assert "part 1 of the name alone tells label 1" in problem.message


def test_a_voxel_grid_that_tells_one_of_several_labels_is_a_shortcut(tmp_path):
    labels = [np.array([number % 2, number // 3 % 2], np.float32) for number in range(60)]
    data = labelled(tmp_path, [1000] * 60, labels)
    for item in data["train"]:
        item["spacing"] = (1.0, 1.0, 2.5 if item["label"][1] else 1.0)
    (problem,) = shortcuts(data, ["nodule", "effusion"])
    assert "the voxel spacing alone tells effusion" in problem.message


def test_a_scanner_that_tells_the_label_is_a_shortcut(tmp_path):
    data = labelled(tmp_path, [1000] * 60, LABELS)
    for number, item in enumerate(data["train"]):
        item |= {"manufacturer": "Philips" if item["label"] else "Siemens", "scanner": f"model {number % 6 // 2}"}
    (problem,) = shortcuts(data)
    assert "the manufacturer of the scanner alone tells label 1" in problem.message


@pytest.mark.parametrize("seed", range(20))
def test_properties_without_meaning_are_no_shortcut(tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = labelled(tmp_path, rng.integers(1000, 1200, 60), rng.permutation(LABELS).tolist())
    for item in data["train"]:
        item |= {"spacing": (1.0, 1.0, float(rng.random())), "case": f"{rng.choice(['Rome', 'Oslo'])}_{item['case']}"}
    assert shortcuts(data) == []


def test_too_few_cases_tell_nothing(tmp_path):
    labels = [0] * 40 + [1] * (ENOUGH - 1)
    assert shortcuts(labelled(tmp_path, 1000 + 500 * np.array(labels), labels)) == []
