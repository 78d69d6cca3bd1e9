from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext.errors import ConfigError, DataError
from monai_ext.surface import splits

SETS = [{"input": "a"}, {"input": "b"}, {"input": "a"}]


def records(starts, volume: int = 0) -> list[dict]:
    return [{"volume_idx": volume, "start_pos": [int(edge) for edge in start]} for start in starts]


def grid(counts, step) -> list[dict]:
    return records(np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3) * step)


def overlap(one: dict, other: dict, size) -> bool:
    same = SETS[one["volume_idx"]]["input"] == SETS[other["volume_idx"]]["input"]
    return same and bool((np.abs(np.subtract(one["start_pos"], other["start_pos"])) < size).all())


def key(record: dict) -> tuple:
    return record["volume_idx"], *record["start_pos"]


@st.composite
def problems(draw):
    """Patches on a grid with holes, or anywhere; several sets, two of them with one input."""
    size = draw(st.tuples(*[st.integers(1, 6)] * 3))
    start = st.tuples(*[st.integers(0, 40)] * 3)
    places = draw(st.sets(st.tuples(st.integers(0, 2), start), min_size=1, max_size=60))
    return [{"volume_idx": volume, "start_pos": list(place)} for volume, place in sorted(places)], size


@settings(max_examples=150, deadline=None)
@given(
    problem=problems(),
    share=st.sampled_from([0.1, 0.5, 0.8]),
    test_fraction=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 9),
)
def test_parts_share_no_voxel_and_only_a_cut_loses_patches(problem, share, test_fraction, seed) -> None:
    found, size = problem
    try:
        parts = splits(found, SETS, size, share, test_fraction, seed)
    except DataError as error:
        assert "too few, or overlap too much" in str(error)  # noqa: PT017 - hypothesis draws both outcomes
        return
    assert parts == splits(found, SETS, size, share, test_fraction, seed)
    used = [record for part in parts.values() for record in part]
    assert len({key(record) for record in used}) == len(used)
    for part in parts.values():
        assert [record for record in found if record in part] == part
    for name, part in parts.items():
        others = [record for other, members in parts.items() if other != name for record in members]
        assert not any(overlap(one, other, size) for one in part for other in others)
    dropped = [record for record in found if record not in used]
    for record in dropped:
        touched = {name for name, part in parts.items() if any(overlap(record, other, size) for other in part)}
        near_dropped = any(overlap(record, other, size) for other in dropped if other is not record)
        assert touched or near_dropped


@pytest.mark.parametrize("seed", range(4))
def test_one_large_region_is_cut_across_its_longest_axis(seed, caplog) -> None:
    found = sorted(grid((4, 40, 4), 8), key=lambda record: record["start_pos"][1])
    with caplog.at_level("INFO"):
        parts = splits(found, SETS, (16, 16, 16), 0.8, 0.1, seed)
    dropped = len(found) - sum(map(len, parts.values()))
    assert dropped == 2 * 16
    assert f"{dropped} left out" in caplog.text
    assert len(parts["test"]) == pytest.approx(64, abs=8)
    assert len(parts["val"]) == pytest.approx(115, abs=8)
    ranges = sorted((part[0]["start_pos"][1], part[-1]["start_pos"][1]) for part in parts.values())
    assert all(last + 16 <= first for (_, last), (first, _) in pairwise(ranges))


def test_sides_and_regions_depend_on_the_seed() -> None:
    found = grid((2, 40, 2), 8)
    assert len({splits(found, SETS, (16, 16, 16), seed=seed)["val"][0]["start_pos"][1] for seed in range(8)}) == 2


def test_small_regions_stay_whole_and_shares_are_met() -> None:
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), -1).reshape(-1, 3) * 100
    found = records(np.concatenate([corner + grid_of(rng.integers(1, 4, 3)) for corner in corners]))
    parts = splits(found, SETS, (16, 16, 16), 0.75, 0.2)
    total = len(found)
    assert sum(map(len, parts.values())) == total
    assert len(parts["test"]) == pytest.approx(0.2 * total, abs=0.02 * total)
    assert len(parts["val"]) == pytest.approx(0.2 * total, abs=0.02 * total)


def grid_of(counts) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3) * 8


def test_patches_that_only_touch_are_apart_and_one_input_twice_is_one_region() -> None:
    touching = records([(0, 0, 0), (4, 0, 0), (8, 0, 0), (12, 0, 0)])
    parts = splits(touching, SETS, (4, 4, 4), 0.5)
    assert (len(parts["train"]), len(parts["val"])) == (2, 2)
    same = [*records([(0, 0, 0)]), *records([(1, 0, 0)], volume=2)]
    with pytest.raises(DataError, match="the 2 patches are too few, or overlap too much"):
        splits(same, SETS, (4, 4, 4), 0.5)
    apart = [*records([(0, 0, 0)]), *records([(1, 0, 0)], volume=1)]
    assert len(splits(apart, SETS, (4, 4, 4), 0.5)["val"]) == 1


def test_compact_regions_are_given_whole_rather_than_not_at_all() -> None:
    blocks = [place for corner in (0, 50) for place in grid_of((2, 2, 2)) + corner]
    parts = splits(records(blocks), SETS, (16, 16, 16), 0.8)
    assert (len(parts["train"]), len(parts["val"]), parts["test"]) == (8, 8, [])


@pytest.mark.parametrize("found", [[], records([(0, 0, 0)])], ids=["none", "one"])
def test_too_few_patches_are_an_error(found) -> None:
    with pytest.raises(DataError, match=f"the {len(found)} patches are too few"):
        splits(found, SETS, (4, 4, 4))


@pytest.mark.parametrize("shares", [(0, 0), (1, 0), (80, 0), (0.8, 1), (0.8, -0.1)], ids=str)
def test_shares_out_of_range_are_named(shares) -> None:
    with pytest.raises(ConfigError, match="tr_val_split must lie between 0 and 1"):
        splits(grid((4, 4, 4), 4), SETS, (4, 4, 4), *shares)
