from __future__ import annotations

import json
import logging

import pytest
import torch
from torch import nn

from monai_ext.errors import WeightsError
from monai_ext.io import write_json
from monai_ext.networks import (
    compare_settings,
    load_model,
    network_settings,
    read_checkpoint,
    saved_setting,
    saved_settings,
    saved_thresholds,
)

SETTINGS = {"dilated": False, "modality": "flair", "patch_size": [64, 64, 64]}


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9), nn.Linear(4, 2))


@pytest.fixture
def source() -> nn.Sequential:
    return small().eval()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.pt"


def exported(source, path, **extra: dict):
    path = path.with_suffix(".ts")
    files = {f"{name}.json": json.dumps(content) for name, content in extra.items()}
    torch.jit.save(torch.jit.script(source), str(path), _extra_files=files)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "model"])
def test_load_model_restores_the_outputs_in_evaluation_mode(source, path, prefix, bare) -> None:
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save(state if bare else {"model": state, "settings": SETTINGS, "metrics": {"auc": 0.9}}, path)
    loaded = load_model(small().train(), path)
    x = torch.randn(5, 3)
    assert not loaded.training
    assert torch.equal(loaded(x), source(x))


def test_load_model_returns_an_export_as_it_is(source, path) -> None:
    loaded = load_model(small(), exported(source, path, settings=SETTINGS), SETTINGS)
    x = torch.randn(5, 3)
    assert not loaded.training
    assert torch.equal(loaded(x), source(x))


def test_an_export_is_recognised_whatever_its_name(source, path) -> None:
    file = exported(source, path).rename(path.with_name("model.pt"))
    assert isinstance(load_model(small(), file), torch.jit.ScriptModule)


@pytest.mark.parametrize("kind", ["checkpoint", "settings.json", "metadata.json"])
def test_settings_of_every_kind_of_file_are_read_and_compared(source, path, kind) -> None:
    if kind == "checkpoint":
        torch.save({"model": source.state_dict(), "settings": SETTINGS}, path)
    elif kind == "settings.json":
        path = exported(source, path, settings=SETTINGS, metadata={"settings": {"dilated": True}})
    else:
        path = exported(source, path, metadata={"version": "0.1.0", "settings": SETTINGS})
    assert network_settings(path) == SETTINGS
    load_model(small(), path, {"patch_size": (64, 64, 64), "dilated": False})
    with pytest.raises(WeightsError, match="modality: checkpoint 'flair', configured 't1'"):
        load_model(small(), path, {**SETTINGS, "modality": "t1"})


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_a_file_without_settings_is_loaded_with_a_warning(source, path, kind, caplog) -> None:
    if kind == "checkpoint":
        torch.save(source.state_dict(), path)
    else:
        path = exported(source, path, metadata={"version": "0.1.0"})
    assert network_settings(path) is None
    with caplog.at_level(logging.WARNING):
        load_model(small(), path, SETTINGS)
    assert "holds no settings" in caplog.text


def test_compare_settings_lists_every_difference() -> None:
    with pytest.raises(WeightsError) as error:
        compare_settings({"dilated": True, "modality": "t1", "extra": 1}, {**SETTINGS, "modality": "flair"}, "best.pt")
    message = str(error.value)
    assert message.startswith("best.pt: was trained with other settings (")
    assert "dilated: checkpoint True, configured False" in message
    assert "modality: checkpoint 't1', configured 'flair'" in message
    assert "patch_size: not in the checkpoint, configured [64, 64, 64]" in message
    assert "extra" not in message


def test_load_model_lists_missing_unexpected_and_reshaped_and_changes_nothing(source, path) -> None:
    state = source.state_dict()
    del state["0.bias"]
    state |= {"2.weight": torch.ones(5, 4), "3.weight": torch.ones(1)}
    torch.save({"model": state}, path)
    network = small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        WeightsError,
        match=r"does not fit Sequential \(missing: 0\.bias; unexpected: 3\.weight; "
        r"other shape: 2\.weight \(file \(5, 4\), network \(2, 4\)\)\)",
    ):
        load_model(network, path)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_long_lists_of_differences_are_cut(path) -> None:
    torch.save({"model": {f"{i}.weight": torch.ones(1) for i in range(3, 103)}}, path)
    with pytest.raises(WeightsError, match="and 92 more") as error:
        load_model(small(), path)
    assert len(str(error.value)) < 600


def test_a_truncated_export_is_an_error_with_its_path(source, path) -> None:
    file = exported(source, path)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"best\.ts: is damaged"):
        load_model(small(), file)


def test_damaged_settings_in_an_export_are_an_error(source, path) -> None:
    file = path.with_suffix(".ts")
    torch.jit.save(torch.jit.script(source), str(file), _extra_files={"settings.json": "{"})
    with pytest.raises(WeightsError, match="its settings could not be read"):
        network_settings(file)


def test_read_checkpoint_keeps_everything_else(source, path) -> None:
    torch.save({"model": source.state_dict(), "metrics": {"auc": 0.9}, "rng": torch.get_rng_state()}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint["metrics"] == {"auc": 0.9}
    assert checkpoint["rng"].dtype == torch.uint8


def test_a_setting_comes_from_the_checkpoint_where_it_says_so(source, path, tmp_path) -> None:
    torch.save({"model": source.state_dict(), "settings": SETTINGS}, path)
    assert saved_setting(path, "modality", "t1") == "flair"
    assert saved_setting(path, "scaling", "unit") == "unit"
    assert saved_setting(exported(source, path, settings=SETTINGS), "patch_size") == [64, 64, 64]
    assert saved_setting(tmp_path / "absent.pt", "modality", "t1") == "t1"
    torch.save(source.state_dict(), path)
    assert saved_setting(path, "modality", "t1") == "t1"


def test_settings_come_from_the_checkpoint_its_export_or_a_cross_validation(source, path, tmp_path) -> None:
    torch.save({"model": source.state_dict(), "settings": SETTINGS}, path)
    defaults = {"modality": "t1", "scaling": "unit"}
    assert saved_settings(path, defaults) == {"modality": "flair", "scaling": "unit"}
    assert saved_settings(exported(source, path, settings=SETTINGS), defaults)["modality"] == "flair"
    assert saved_settings(tmp_path / "absent.pt", defaults) == defaults
    record = write_json(tmp_path / "cross_validation.json", {"settings": {"modality": "t2"}})
    assert saved_settings(path, defaults, ensemble=record)["modality"] == "t2"
    torch.save(source.state_dict(), path)
    assert saved_settings(path, defaults) == defaults


@pytest.mark.parametrize("content", [{}, {"settings": None}, []], ids=["other", "empty", "list"])
def test_a_record_without_settings_leaves_the_defaults(tmp_path, content) -> None:
    record = write_json(tmp_path / "other.json", content)
    assert saved_settings(tmp_path / "absent.pt", {"modality": "t1"}, ensemble=record) == {"modality": "t1"}


def test_thresholds_come_from_a_checkpoint_or_the_metadata_of_an_export(source, path, tmp_path) -> None:
    chosen = {"thresholds": [0.25, 0.5], "thresholds_level": "volumes"}
    torch.save({"model": source.state_dict(), **chosen}, path)
    assert saved_thresholds(path, "volumes") == [0.25, 0.5]
    file = exported(source, path, metadata={**chosen, "settings": SETTINGS}, settings={"dilated": True})
    assert saved_thresholds(file) == [0.25, 0.5]
    assert network_settings(file) == {"dilated": True}
    assert saved_thresholds(tmp_path / "absent.pt") is None
    torch.save(source.state_dict(), path)
    assert saved_thresholds(path) is None


def test_thresholds_for_something_else_are_not_used(source, path, caplog) -> None:
    torch.save({"model": source.state_dict(), "thresholds": [0.25], "thresholds_level": "slices"}, path)
    with caplog.at_level(logging.WARNING):
        assert saved_thresholds(path, "volumes") is None
    assert "thresholds are for slices, not volumes" in caplog.text


def test_a_setting_of_an_earlier_checkpoint_is_read_under_its_name_now(path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "settings": {"network": "attention_unet", "features": 4}}, path)
    assert network_settings(path) == {"architecture": "attention_unet", "features": 4}
    assert saved_settings(path, {"architecture": "cord_unet"}) == {"architecture": "attention_unet"}


def test_a_setting_of_an_earlier_checkpoint_is_compared_under_its_name_now(source, path) -> None:
    torch.save({"model": source.state_dict(), "settings": {"network": "attention_unet"}}, path)
    for now in ({"architecture": "attention_unet"}, {"network": "attention_unet"}):  # the latter in an old run's config
        load_model(small(), path, now)
    with pytest.raises(WeightsError, match="architecture: checkpoint 'attention_unet', configured 'cord_unet'"):
        load_model(small(), path, {"architecture": "cord_unet"})
