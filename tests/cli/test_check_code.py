"""`check --bundle_root`: the code in a stranger's configs, on the command line."""

import json

from typer.testing import CliRunner

from monai_ext.cli.app import app


def test_the_code_of_a_stranger_s_config_is_listed_and_not_run(tmp_path):
    config = {
        "by_reference": {"_target_": "@evil"},
        "by_macro": "%more.yaml::part",
        "gone": "%gone.json::part",
        "loads": {"_target_": "torch.utils.cpp_extension.load_inline"},
        "expression": "$__import__('pathlib').Path('pwned').touch()",
        "evil": "os.system",
        "harmless": {"_target_": "DiceLoss"},
    }
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "train.json").write_text(json.dumps(config))
    (tmp_path / "bundle" / "more.yaml").write_text("part: {_target_: importlib.import_module}")
    (tmp_path / "data").mkdir()
    words = ["check", "brats_resnet50", "--dataset_dir", tmp_path / "data", "--bundle_root", tmp_path / "bundle"]
    done = CliRunner().invoke(app, [*map(str, words), "--output", str(tmp_path / "found.json")])
    code = json.loads((tmp_path / "found.json").read_text())["code"]
    assert [(entry["kind"], entry["id"]) for entry in code] == [
        ("target", "by_reference#_target_"),
        ("unknown", "gone"),
        ("target", "loads#_target_"),
        ("code", "expression"),
        ("target", "part#_target_"),
    ]
    assert all(f"{entry['kind']:<8} {entry['file']}: {entry['id']}" in done.output for entry in code)
    assert not list(tmp_path.rglob("pwned"))
