from monai_ext.handlers.run_records import _flat_changes


def test_a_later_value_is_a_parameter_of_its_own_as_mlflow_never_changes_one():
    changes = [
        {"from_epoch": 4, "setting": "max_epochs", "old": 3, "new": 9},
        {"from_epoch": 6, "setting": "train#step#on_oom", "old": "split", "new": "stop"},
    ]
    assert _flat_changes(changes) == {"max_epochs.from_epoch_4": 9, "train.step.on_oom.from_epoch_6": "stop"}
