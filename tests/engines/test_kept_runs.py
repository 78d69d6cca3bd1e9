from monai_ext.engines.kept_runs import newest_same
from monai_ext.io import write_json


def test_a_run_of_the_same_recipe_and_data_is_found(tmp_path, caplog):
    caplog.set_level("INFO")
    for name, record in {
        "damaged": None,
        "earlier": {"parameters": {"lr": 1e-3}, "data": {"fingerprint": "a"}},
        "other": {"recipe": "q", "data": {"fingerprint": "a"}},
        "same": {"recipe": "r", "data": {"fingerprint": "a"}},
        "older": {"recipe": "r", "data": {"fingerprint": "a"}},
    }.items():
        if record is None:
            (tmp_path / name).mkdir()
        else:
            write_json(tmp_path / name / "run.json", {"status": "finished", **record})
    candidates = [tmp_path / name for name in ("damaged", "earlier", "other", "same", "older")]
    assert newest_same(candidates, "r", "a") == tmp_path / "same"
    assert newest_same([], "r", "a") is None
    assert "stays as it is" not in caplog.text
    assert newest_same(candidates, "r", "b") is None
    assert f"{tmp_path / 'damaged'} stays as it is" in caplog.text
