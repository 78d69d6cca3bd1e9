import nibabel as nib
import numpy as np
import pytest
import torch
from cascade_files import RULES, SIZE, cascade, preparation, spine

from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.memory import FullMemoryError
from monai_ext.spine import SeriesImage, SliceStage


class Same(torch.nn.Module):
    """The logits of the slice itself."""

    def forward(self, x):
        return torch.logit(x, 1e-6)


@pytest.mark.parametrize("size", [48, 224, 320], ids="network-{}".format)
@pytest.mark.parametrize(
    "shape", [(64, 64), (64, 48), (51, 80), (320, 256), (401, 512)], ids=lambda shape: "x".join(map(str, shape))
)
def test_masks_come_back_where_the_slices_were(shape, size):
    y, x = np.mgrid[: shape[0], : shape[1]] / (np.reshape(shape, (2, 1, 1)) - 1)
    centres = [(0.3, 0.6), (0.7, 0.25)]
    slices = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.01) for a, b in centres])[:, None]
    stage = SliceStage(Same(), preparation(size))
    found, visible = stage.mask_probabilities(stage.prepare(slices.astype(np.float32)), shape)
    assert found.shape == (2, *shape)
    assert visible is None
    for one, (a, b) in zip(found, centres, strict=True):
        middle = np.array([(one * y).sum(), (one * x).sum()]) / one.sum()
        assert np.abs(middle - (a, b)).max() * max(shape) < 0.1, "more than a tenth of a pixel off"


def test_slices_of_the_network_s_size_come_back_exactly():
    slices = np.random.default_rng(0).random((3, 1, 48, 32), dtype=np.float32)
    stage = SliceStage(Same(), preparation(48), batch_size=2)
    expected = [preparation(48)({"image": one})["image"][0, :, 8:40] for one in slices]
    found, _ = stage.mask_probabilities(stage.prepare(slices), (48, 32))
    np.testing.assert_allclose(found, np.stack(expected), atol=2e-6)


def test_class_probabilities_do_not_depend_on_the_batch_size():
    slices = spine("T1w")[0].slices()
    stages = [SliceStage(RULES["sequence"], preparation(SIZE), ("a", "b"), batch_size=size) for size in (1, 16)]
    few, many = (stage.class_probabilities(stage.prepare(slices)) for stage in stages)
    np.testing.assert_allclose(few, many)
    np.testing.assert_allclose(few.sum(axis=1), 1)


def test_a_network_of_another_kind_is_refused():
    mask = SliceStage(Same(), preparation(SIZE), ("a", "b"), name="anatomy")
    classifier = SliceStage(RULES["sequence"], preparation(SIZE), name="cord")
    prepared = mask.prepare(spine()[0].slices())
    with pytest.raises(WeightsError, match=r"stage 'anatomy'.*class map has 2 names"):
        mask.class_probabilities(prepared)
    with pytest.raises(WeightsError, match=r"stage 'cord'.*a mask of one channel"):
        classifier.mask_probabilities(prepared, (40, 48))


class Small(torch.nn.Module):
    """Has room for so many slices at once."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def forward(self, x):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return RULES["sequence"](x)


def test_slices_that_do_not_fit_together_are_computed_in_halves():
    slices = spine("T1w")[0].slices()
    stages = [SliceStage(network, preparation(SIZE), ("a", "b")) for network in (Small(2), RULES["sequence"])]
    few, all_at_once = (stage.class_probabilities(stage.prepare(slices)) for stage in stages)
    np.testing.assert_allclose(few, all_at_once)


def test_a_slice_that_does_not_fit_is_a_sentence():
    stage = SliceStage(Small(0), preparation(SIZE), ("a", "b"))
    with pytest.raises(FullMemoryError, match="out of memory with one sample; take another --device"):
        stage.class_probabilities(stage.prepare(spine("T1w")[0].slices()))


def test_outputs_that_are_no_numbers_are_an_error_and_no_empty_mask():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x * float("nan")

    stage = SliceStage(Broken(), preparation(SIZE), name="lesion")
    with pytest.raises(DataError, match="stage 'lesion': its network gives values that are no numbers"):
        stage.mask_probabilities(stage.prepare(spine()[0].slices()), (40, 48))


@pytest.mark.parametrize("oblique", [0.0, 9.0], ids=["straight", "oblique"])
@pytest.mark.parametrize("directions", ["PIR", "PIL", "ASR", "IPL"])
@pytest.mark.parametrize("canonical", [False, True], ids=["as-scanned", "canonical"])
def test_lesions_are_found_in_any_orientation(directions, oblique, canonical):
    image, lesion = spine(directions=directions, oblique=oblique)
    if canonical:
        pair = [
            nib.as_closest_canonical(nib.Nifti1Image(a.astype(np.int16), image.affine)) for a in (image.voxels, lesion)
        ]
        image = SeriesImage(np.asarray(pair[0].dataobj, np.float32), pair[0].affine, slice_axis=0)
        lesion = np.asarray(pair[1].dataobj) > 0
    result = cascade()(image)
    assert result.admitted
    np.testing.assert_array_equal(image.restore(result.findings.lesion), lesion)
    assert [one.voxels for one in result.findings.lesions] == [40, 9]
    assert [one.volume_mm3 for one in result.findings.lesions] == [120.0, 27.0]
    # numbers of slices are those of the file, whichever way its axis runs
    axis = tuple(i for i in range(3) if i != image.slice_axis)
    numbers = np.flatnonzero(lesion.any(axis=axis)).tolist()
    assert sorted({n for one in result.findings.lesions for n in one.slices}) == numbers


@pytest.mark.parametrize(
    ("shows", "stage", "label"),
    [("knee", "anatomy", "knee"), ("thoracic", "location_view", "other"), ("T1w", "sequence", "T1w")],
)
def test_the_first_stage_that_does_not_know_a_series_refuses_it(shows, stage, label):
    result = cascade()(spine(shows)[0])
    assert not result.admitted
    assert result.reason.startswith(f"{stage}: is {label}")
    last = result.decisions[-1]
    assert (last.stage, last.admitted) == (stage, False)
    assert last.details["label"] == label
    assert sum(last.details["votes"].values()) == last.details["slices"] == 6
    assert all(one.admitted for one in result.decisions[:-1])
    assert len(last.table) == 6


def test_a_low_probability_is_refused_and_says_so():
    result = cascade(thresholds={"sequence": 1.0})(spine()[0])
    assert result.reason == "sequence: is T2w with probability 1.00 only, below 1"


def test_other_classes_can_be_admitted():
    result = cascade(admit={"sequence": ["T1w"]})(spine("T1w")[0])
    assert result.admitted


def test_a_series_of_few_slices_is_refused():
    image, _ = spine()
    few = SeriesImage(image.voxels[..., :3], image.affine, 2)
    assert cascade()(few).reason == "anatomy: has 3 slices, fewer than 4"
    assert cascade(min_slices=3)(few).admitted
    without = "anatomy", "location_view", "sequence"
    assert cascade(*without)(few).reason == "cord: has 3 slices, fewer than 4"
    assert cascade(*without, min_slices=3)(few).admitted


def test_a_series_without_cord_is_refused():
    image, _ = spine()
    voxels = np.where((image.voxels == 500) | (image.voxels == 700), 0, image.voxels)
    without = SeriesImage(voxels, image.affine, 2)
    assert cascade("cord_visible")(without).reason == "cord: no slice shows 20 mm2 of cord (most: 0.0)"
    assert cascade()(without).reason == "cord_visible: no slice is cord"


def test_slices_with_little_cord_are_not_searched_for_lesions():
    image, _ = spine()
    voxels = image.voxels.copy()
    voxels[20:28, :22, 3] = 0
    result = cascade("cord_visible", min_cord_area=200)(SeriesImage(voxels, image.affine, 2))
    # of 8 x 32 pixels of 1 mm2 slice 3 has lost 18 rows
    assert result.decisions[-1].details["slices"] == [1, 2, 4]
    assert sorted({n for one in result.findings.lesions for n in one.slices}) == [2]
    assert image.restore(result.findings.lesion_probability)[..., 3].max() == 0


def test_slices_without_visible_cord_are_not_segmented():
    result = cascade()(spine()[0])
    by_stage = {one.stage: one for one in result.decisions}
    assert by_stage["cord_visible"].details["slices"] == [1, 2, 3, 4]
    assert list(by_stage) == ["anatomy", "location_view", "sequence", "cord_visible", "cord", "lesion"]
    assert all(one.seconds > 0 for one in result.decisions)


class WithAnswer(torch.nn.Module):
    """The cord as by the rule, and that it is visible where it covers more than some pixels."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels = pixels

    def forward(self, x):
        cord = RULES["cord"](x)
        return {"cord": cord, "visible": (cord > 0).flatten(1).sum(1, keepdim=True) - self.pixels + 0.0}


@pytest.mark.parametrize(
    ("threshold", "left_out", "unseen"),
    [(0.5, ("cord_visible",), [0, 5]), (0.0, ("cord_visible",), []), (0.5, (), None)],
    ids=["answers", "anything-goes", "other-stage-answers"],
)
def test_a_cord_network_that_says_where_the_cord_is_visible_decides_if_no_other_does(threshold, left_out, unseen):
    options = {"thresholds": {"cord_visible": threshold}}
    asked = cascade(*left_out, **options)
    asked.stages["cord"].network = WithAnswer(20)
    found, expected = (one(spine()[0]) for one in (asked, cascade(*left_out, **options)))
    (decision,) = [one for one in found.decisions if one.stage == "cord"]
    assert decision.details.get("not_visible") == unseen
    assert decision.details["slices"] == [1, 2, 3, 4]
    np.testing.assert_array_equal(found.findings.lesion, expected.findings.lesion)


def test_slices_whose_cord_the_network_itself_calls_invisible_go_no_further():
    blind = cascade("cord_visible")
    blind.stages["cord"].network = WithAnswer(10_000)
    result = blind(spine()[0])
    assert result.reason == "cord: no slice shows 20 mm2 of cord (most: 0.0)"
    assert result.decisions[-1].details["not_visible"] == list(range(6))


@pytest.mark.parametrize(("size", "count"), [(26, 2), (28, 1), (121, 0)])
def test_small_lesions_are_left_out(size, count):
    result = cascade(min_lesion_size=size)(spine()[0])
    assert len(result.findings.lesions) == count
    assert result.findings.lesion.sum() == [0, 40, 49][count]


def test_without_geometry_sizes_are_voxels():
    image, _ = spine()
    plain = SeriesImage(image.voxels, np.diag([-1.0, -1, 1, 1]), 2, has_geometry=False)
    result = cascade(min_lesion_size=10)(plain)
    assert [(one.voxels, one.volume_mm3) for one in result.findings.lesions] == [(40, None)]


def test_a_stage_without_weights_lets_everything_pass_and_is_named():
    result = cascade("sequence", "cord_visible")(spine("T1w")[0])
    assert result.admitted
    left_out = {one.stage: one.reason for one in result.decisions if one.reason}
    assert left_out == dict.fromkeys(("sequence", "cord_visible"), "left out: it has no weights")


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.full((8, 8, 5), np.nan, np.float32), "320 of 320 values are NaN"),
        (np.ones((8, 8, 5), np.float32), "value 1 everywhere"),
    ],
    ids=["nan", "constant"],
)
def test_what_is_no_image_is_an_error(voxels, message):
    with pytest.raises(DataError, match=message):
        cascade()(SeriesImage(voxels, spine()[0].affine, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vote": "median"}, "--vote median: must be one of mean, majority"),
        ({"min_slices": -1}, "--min_slices -1"),
        ({"thresholds": {"lesion": 2}}, "--lesion_threshold"),
        ({"thresholds": {"anatomy": -1}}, "--anatomy_threshold"),
        ({"admit": {"sequence": ["T2"]}}, "--sequence_admit: 'T2' is no class.*its classes are T2w, T1w"),
        ({"admit": {"anatomy": []}}, "--anatomy_admit: names no class.*spine, knee"),
    ],
    ids=["vote", "slices", "mask-threshold", "class-threshold", "unknown-class", "no-class"],
)
def test_settings_that_can_not_work_are_refused_before_any_series(options, message):
    with pytest.raises(ConfigError, match=message):
        _ = cascade(**options).stages
