from monai_ext.engines.kept_runs import newest_same
from monai_ext.io import write_json


def test_a_run_on_another_device_is_the_same_run(tmp_path):
    # "--device cuda" is recorded as the GPU that the process got
    recorded = {"device": "cuda:0", "val_device": "cuda:0", "lr": 1e-3, "tf32": True}
    write_json(tmp_path / "run.json", {"parameters": recorded, "data": {"fingerprint": "a"}})
    wanted = {**recorded, "device": "cuda", "val_device": "cuda"}
    assert newest_same([tmp_path], wanted, "a") == tmp_path
    assert newest_same([tmp_path], {**wanted, "tf32": False}, "a") is None
