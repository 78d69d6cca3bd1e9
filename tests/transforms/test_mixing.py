from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor

from monai_ext.errors import ConfigError
from monai_ext.handlers.seeding import IterationSeeding
from monai_ext.transforms import MixedBatches

SIZE = 6
# The label of sample i is its own class; its image is the number i everywhere.
IMAGES = torch.arange(float(SIZE)).reshape(-1, 1, 1, 1).repeat(1, 1, 20, 30)
BATCH = {"image": IMAGES, "label": torch.eye(SIZE, dtype=torch.int64)}


def mixed(prepare: MixedBatches, seed: int = 0, batch: dict = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return prepare(batch, "cpu")


def shares(image: torch.Tensor) -> torch.Tensor:
    """Part of an image that each sample makes up."""
    return torch.stack([(image == number).float().mean() for number in range(SIZE)])


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_labels_are_the_areas_of_the_samples(seed) -> None:
    images, labels = mixed(MixedBatches(1.0), seed)
    torch.testing.assert_close(torch.stack([shares(image) for image in images]), labels)
    torch.testing.assert_close(labels.sum(1), torch.ones(SIZE))


def test_what_cutmix_takes_is_a_box_in_the_same_place_of_all_samples() -> None:
    images, _ = mixed(MixedBatches(1.0), seed=3)
    taken = images != IMAGES
    moved = taken[taken.flatten(1).any(1)]
    assert len(moved) > 1
    assert (moved == moved[0]).all()
    rows, columns = moved[0, 0].any(1), moved[0, 0].any(0)
    assert torch.equal(moved[0, 0], rows[:, None] & columns[None])
    assert (rows.int().diff() != 0).sum() <= 2


@pytest.mark.parametrize("seed", range(4))
def test_mixup_labels_and_images_are_the_same_mixture(seed) -> None:
    images, labels = mixed(MixedBatches(0.0, 1.0), seed)
    torch.testing.assert_close(images[:, 0, 0, 0], labels @ torch.arange(float(SIZE)))
    assert (images == images[..., :1, :1]).all()


def test_probabilities_say_how_many_batches_are_mixed_and_how() -> None:
    torch.manual_seed(0)
    prepare = MixedBatches(0.5, 0.2)
    kinds = {"cut": 0, "mixed": 0, "left": 0}
    for _ in range(400):
        images, labels = prepare(BATCH, "cpu")
        if torch.equal(labels, BATCH["label"].float()):
            kinds["left"] += 1
        else:
            kinds["cut" if (images == images.round()).all() else "mixed"] += 1
    # A permutation or a box may also leave everything where it was.
    assert kinds["cut"] == pytest.approx(200, abs=40)
    assert kinds["mixed"] == pytest.approx(80, abs=30)


def test_without_mixing_labels_are_floats_all_the_same() -> None:
    images, labels = mixed(MixedBatches(0.0))
    assert torch.equal(images, IMAGES)
    assert labels.dtype == torch.float32
    assert torch.equal(labels, BATCH["label"].float())


@pytest.mark.parametrize("prepare", [MixedBatches(1.0), MixedBatches(0.0, 1.0)], ids=["cutmix", "mixup"])
def test_the_batch_itself_stays_as_it_was(prepare) -> None:
    batch = {name: tensor.clone() for name, tensor in BATCH.items()}
    mixed(prepare, batch=batch)
    assert all(torch.equal(batch[name], BATCH[name]) for name in BATCH)


def test_a_box_goes_through_all_slices_of_a_volume() -> None:
    volumes = {**BATCH, "image": IMAGES[:, None].repeat(1, 4, 1, 1, 1)}
    images, labels = mixed(MixedBatches(1.0), seed=1, batch=volumes)
    assert (images == images[:, :1]).all()
    torch.testing.assert_close(torch.stack([shares(image) for image in images]), labels)


def test_batches_of_monai_s_loader_can_be_mixed() -> None:
    items = [{"image": MetaTensor(image), "label": label} for image, label in zip(*BATCH.values(), strict=True)]
    batch = next(iter(DataLoader(Dataset(items), batch_size=SIZE)))
    images, labels = mixed(MixedBatches(1.0), batch=batch)
    expected = mixed(MixedBatches(1.0))
    torch.testing.assert_close(torch.as_tensor(images).as_subclass(torch.Tensor), expected[0])
    torch.testing.assert_close(labels, expected[1])


def test_a_resumed_run_mixes_as_an_undisturbed_one() -> None:
    def run(first: int) -> list[torch.Tensor]:
        found = []
        engine = Engine(lambda engine, batch: found.append(MixedBatches(0.5, 0.5)(BATCH, "cpu")[0]))
        IterationSeeding(42).attach(engine)
        engine.load_state_dict({"iteration": first, "epoch_length": 3, "max_epochs": 2})
        engine.run([0, 1, 2], max_epochs=2, epoch_length=3)
        return found

    whole, rest = run(0), run(3)
    assert len(rest) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.7, 0.5), "--cutmix_prob 0.7 --mixup_prob 0.5: must be at least 0 and at most 1 together"),
        ((-0.1,), "--cutmix_prob -0.1"),
        ((0.5, 0.0, 0.0), "alpha must be > 0, got 0.0"),
    ],
    ids=["sum", "negative", "alpha"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        MixedBatches(*arguments)
