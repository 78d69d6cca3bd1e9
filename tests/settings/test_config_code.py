"""The list of what a config can run leaves out nothing that it can't vouch for."""

import json

import pytest
import yaml

import monai_ext
from monai_ext.errors import ConfigError, DataError
from monai_ext.settings.config_code import code_in_configs


@pytest.fixture
def listed(tmp_path):
    """Kind and text of what is listed of a config, and of files beside it."""

    def of(config, **others):
        folder = tmp_path / "configs"
        folder.mkdir(exist_ok=True)
        (folder / "train.json").write_text(json.dumps(config))
        for name, content in others.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return [(entry["kind"], entry["text"]) for entry in code_in_configs(tmp_path)]

    return of


@pytest.mark.parametrize(
    "target", ["DiceLoss", "monai.losses.DiceLoss", "torch.nn.Linear", "torch.relu", "monai_ext.losses.LDAMLoss"]
)
def test_components_of_known_packages_are_not_listed(listed, target):
    assert listed({"a": {"_target_": target}}) == []


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "importlib.import_module", "torch.load", "torch.serialization.load", "torch.hub.load"),
        *("torch.utils.cpp_extension.load_inline", "monai.utils.optional_import", "optional_import"),
        *("monai.bundle.run", "torch.os.system", "torch.builtins.exec", "monai.utils.module.import_module"),
        *(
            "torch_like.evil",
            "torch.sys.modules.get",
            "torch.nn.Module.__getattribute__",
            "torch.__loader__.load_module",
        ),
        *("torch.utils.collect_env.run", "torch.utils.benchmark.Timer.timeit", "torch.storage._load_from_bytes"),
        *("torch.jit.unsupported_tensor_ops.execWrapper", "monai.fl.client.MonaiAlgo"),
        "monai_ext.settings.read_bundle_config",
    ],
)
def test_targets_outside_and_those_that_load_code_are_listed(listed, target):
    assert listed({"a": {"_target_": target}}) == [("target", target)]


@pytest.mark.parametrize("reference", ["@b", "@c", "%b", "@d#x", "%d::x", "@##b"])
def test_a_target_by_reference_is_what_it_refers_to(listed, reference):
    assert listed({"a": {"_target_": reference}, "b": "os.system", "c": "@b", "d": {"x": "os.system"}}) == [
        ("target", reference)
    ]
    assert listed({"a": {"_target_": reference}, "b": "DiceLoss", "c": "@b", "d": {"x": "DiceLoss"}}) == []


def test_entries_that_a_file_merges_into_others_are_read_as_what_they_become(listed):
    harmless = {"_target_": "DiceLoss", "b": "DiceLoss"}
    assert listed({"a": harmless, "a::_target_": "os.system"}) == [("target", "os.system")]
    assert listed({"a": harmless, "+a": {"_target_": "os.system"}}) == [("target", "os.system")]
    for merged in ({"a::b": "os.system"}, {"+a": {"b": "os.system"}}, {"+a::b": "os.system"}):
        assert listed({"t": {"_target_": "@a#b"}, "a": harmless, **merged}) == [("target", "@a#b")]


def test_classes_that_monai_takes_by_name_are_targets(listed):
    load = {"_target_": "LoadImaged", "keys": "image"}
    assert listed({"a": {**load, "reader": "NibabelReader"}}) == []
    assert listed({"a": {**load, "reader": ["ITKReader", "subprocess.Popen"]}}) == [("target", "subprocess.Popen")]
    assert listed({"a": {"_target_": "SaveImage", "writer": "@b"}, "b": "os.system"}) == [("target", "@b")]


def test_no_module_of_a_stranger_is_imported(listed, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('was run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert listed({"a": {"_target_": "stranger"}, "b": {"_target_": "stranger.x"}}) == [
        ("unknown", "stranger"),
        ("target", "stranger.x"),
    ]


def test_a_module_that_can_not_be_imported_is_listed(listed, tmp_path, monkeypatch):
    (tmp_path / "needs.py").write_text("import no_such_package_anywhere")
    monkeypatch.setattr(monai_ext, "__path__", [*monai_ext.__path__, str(tmp_path)])
    assert listed({"a": {"_target_": "monai_ext.needs.Network"}}) == [("unknown", "monai_ext.needs.Network")]


@pytest.mark.parametrize(
    "target",
    [
        *("@gone", "%gone.yaml::x", "@a", "@loop", "@made", "@::::::x", "%::::::x", "torch.no_such_thing"),
        "nosuchcomponent",
    ],
)
def test_a_target_that_can_not_be_resolved_is_listed(listed, target):
    made = {"_target_": "DiceLoss"}
    config = {"a": {"_target_": target}, "loop": "@back", "back": "@loop", "made": made}
    assert listed(config) == [("unknown", target)]


def test_an_expression_is_listed_wherever_it_stands_also_as_a_target(listed):
    config = {"a": {"_target_": "@b"}, "b": "$__import__('os').system", "c": [{"d": "$import os"}]}
    assert listed(config) == [("target", "@b"), ("code", config["b"]), ("code", "$import os")]


def test_files_that_a_config_takes_parts_from_are_listed_too(listed, tmp_path):
    other = {"net": {"_target_": "os.system", "command": "$1 + 1"}, "more": "%third.yaml::x"}
    found = listed({"a": "%other.yaml::net"}, other=other, third={"x": {"_target_": "evil.run"}})
    assert found == [("target", "os.system"), ("code", "$1 + 1"), ("target", "evil.run")]


def test_a_file_that_is_not_there_is_listed(listed):
    assert listed({"a": "%/nowhere/else.json::net"}) == [("unknown", "%/nowhere/else.json::net")]


def test_configs_in_yaml_are_read(tmp_path):
    (tmp_path / "configs" / "stages").mkdir(parents=True)
    (tmp_path / "configs" / "stages" / "one.yml").write_text("a: {_target_: os.system}\nb: $import os\n")
    assert list(code_in_configs(tmp_path)) == [
        {"kind": "target", "file": "stages/one.yml", "id": "a#_target_", "text": "os.system"},
        {"kind": "code", "file": "stages/one.yml", "id": "b", "text": "$import os"},
    ]
    (tmp_path / "configs" / "two.yaml").write_text("a: {")
    with pytest.raises(DataError, match=r"two\.yaml: not valid YAML"):
        list(code_in_configs(tmp_path))


ENDLESS = {
    "in itself": "a: &a [*a, {_target_: os.system}]",
    "billions": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 10)),
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_config_without_end_is_refused(tmp_path, text):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "one.yaml").write_text(text)
    with pytest.raises(DataError, match=r"one\.yaml: "):
        list(code_in_configs(tmp_path))


def test_a_folder_without_configs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no configs"):
        list(code_in_configs(tmp_path))
