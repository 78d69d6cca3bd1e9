"""What every bundle's configs have to keep, so that they can be read, overridden and zipped."""

import itertools
import json
import re
import runpy
from pathlib import Path

import pytest

from monai_ext.targets import network_targets

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "monai_ext" / "cli" / "template"
BUNDLES = sorted(
    path.parent.parent for place in (ROOT, TEMPLATE) for path in place.glob("bundles/*/configs/train.json")
)
CONFIGS = sorted(path for bundle in BUNDLES for path in (bundle / "configs").glob("*.json"))
COMPLETE = ("train.json", "inference.json")


def named(paths):
    return [pytest.param(path, id=f"{path.parents[1].name}/{path.name}") for path in paths]


def read(path):
    def unique(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"a key stands twice: {sorted(k for k in keys if keys.count(k) > 1)}"
        return dict(pairs)

    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)


def strings(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)


def references(text):
    return re.findall(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)", text)


@pytest.mark.parametrize("path", named(CONFIGS))
def test_is_ascii_without_repeated_keys(path):
    read(path)
    assert path.read_text(encoding="utf-8").isascii()


@pytest.mark.parametrize("path", named(CONFIGS))
def test_is_laid_out_by_the_formatter(path):
    laid_out = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "format_configs.py"))["laid_out"]
    text = path.read_text(encoding="ascii")
    assert laid_out(text) == text, "run .ci/format_configs.py"


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_configs_fit_on_few_screens(bundle):
    lines = {name: len((bundle / "configs" / name).read_text().splitlines()) for name in COMPLETE}
    assert lines["train.json"] <= (200 if bundle.name == "brats_resnet50" else 215)
    assert lines["inference.json"] <= 120


def settings_and_recipe(path):
    keys = list(read(path))
    start = keys.index("network_settings")
    return keys[:start], keys[start:]


@pytest.mark.parametrize(("name", "part"), [("train.json", 0), ("train.json", 1), ("inference.json", 0)])
def test_topics_stand_in_the_same_order_in_all_bundles(name, part):
    orders = [settings_and_recipe(bundle / "configs" / name)[part] for bundle in BUNDLES]
    for one, other in itertools.combinations(orders, 2):
        assert [key for key in one if key in other] == [key for key in other if key in one]


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_short_settings_of_a_topic_share_a_line(bundle):
    path = bundle / "configs" / "train.json"
    settings, _ = settings_and_recipe(path)
    lines = [line for line in path.read_text().splitlines() if re.match(rf' {{4}}"({"|".join(settings)})": ', line)]
    assert len(lines) <= len(settings) / 2


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_what_refuses_a_network_or_loss_stands_before_the_handler_that_makes_the_run_folder(bundle):
    handlers = [each["_target_"] for each in read(bundle / "configs" / "train.json")["train"]["handlers"]]
    refusing = ("FreezeBackbone", "FreezeLayers", "ProgressiveUnfreeze", "DeferredReweighting")
    later = handlers[handlers.index("monai_ext.handlers.StandardTraining") :]
    assert not [each for each in later if each.endswith(refusing)]


@pytest.mark.parametrize("path", named(CONFIGS))
def test_expressions_are_short_and_plain(path):
    for text in strings(read(path)):
        if text.startswith("$"):
            assert len(text) <= 60, text
            assert not re.search(r"\blambda\b|\bimport\b|\bfor\b|__", text), text


@pytest.mark.parametrize("path", named([p for p in CONFIGS if p.name in COMPLETE]))
def test_every_reference_exists(path):
    config = read(path)
    for text in strings(config):
        for reference in references(text) if text.startswith(("@", "$")) else []:
            node = config
            for part in re.split(r"#|::", reference):
                assert part in node, f"@{reference} does not exist"
                node = node[part]


@pytest.mark.parametrize(
    "path", named([p for p in CONFIGS if p.name not in (*COMPLETE, "metadata.json", "settings.json")])
)
def test_overlays_patch_keys_that_exist(path):
    train = read(path.with_name("train.json"))
    new = set(read(path)) - {"checkpoint", "evaluation_run", "section", "allow_training_cases"}
    for key in new:
        node = train
        for part in re.split(r"#|::", key):
            assert part in node, f"{key} is no key of train.json"
            node = node[part]


@pytest.mark.parametrize("path", named([p for p in CONFIGS if p.name in COMPLETE]))
def test_every_target_can_be_imported(path, monkeypatch):
    monkeypatch.syspath_prepend(TEMPLATE)
    from monai.bundle.config_item import ComponentLocator

    locator = ComponentLocator()

    def targets(node):
        if isinstance(node, dict):
            if "_target_" in node:
                yield node["_target_"]
            for value in node.values():
                yield from targets(value)
        elif isinstance(node, list):
            for value in node:
                yield from targets(value)

    import pydoc

    for target in set(targets(read(path))):
        modules = locator.get_component_module_name(target)
        name = f"{modules if isinstance(modules, str) else modules[0]}.{target}" if modules else target
        assert pydoc.locate(name) is not None, target


def default_of(config, key):
    """A setting of inference, or what it is when the checkpoint doesn't say."""
    saved = config[key] == f"$@saved['{key}']"
    return config["saved"]["defaults"][key] if saved else config[key]


def plain_default(key, setting):
    """A setting of training as a checkpoint keeps it; those found in the data have no default."""
    if key == "targets":
        return network_targets(setting)
    return None if isinstance(setting, dict) else setting


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_inference_repeats_network_and_preparation_exactly(bundle):
    train, inference = (read(bundle / "configs" / name) for name in COMPLETE)
    for key in ("network_def", "network_settings"):
        assert train[key] == inference[key]
    # Patches are read from volumes, which inference does by itself: there it is "normalize" that has to be the same.
    patches = "ZarrPatchDataset" in train["train"]["dataset"]["_target_"]
    shared = {"normalize"} if patches else {"preparation"}
    if not patches:
        shared |= {"slice_classifier", "networks", "input_size", "finishing"} & (set(train) | set(inference))
    if "input_size" in shared:
        assert train["input_size"].pop("index") == "@index"  # training knows the samples that have to fill a crop
    for key in shared:
        assert default_of(inference, key) == train[key], key
    for key in set(train) & set(inference) & set(train["network_settings"]):
        assert default_of(inference, key) == plain_default(key, train[key]), key


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_validation_is_where_monai_looks_for_it(bundle):
    """MONAI's check of properties finds the handler by this very word, and without one it checks nothing."""
    handlers = read(bundle / "configs" / "train.json")["train"]["handlers"]
    found = [handler for handler in handlers if handler["_target_"].endswith("ValidationHandler")]
    expected = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": "@val_interval"}
    assert found == [expected]


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_metadata_has_what_the_model_zoo_wants_beyond_the_schema(bundle):
    metadata = read(bundle / "configs" / "metadata.json")
    assert isinstance(metadata["supported_apps"], dict)
    for name in ("monai_version", "pytorch_version", "numpy_version"):
        assert re.fullmatch(r"\d+\.\d+\.\d+", metadata[name])
    tensors = metadata["network_data_format"]
    assert list(tensors["inputs"]) == ["image"]
    # A network with several targets has an output for each.
    targets = read(bundle / "configs" / "train.json").get("targets", [])
    assert list(tensors["outputs"]) == [*targets, "pred"]


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_metadata_names_the_tested_versions(bundle):
    metadata = read(bundle / "configs" / "metadata.json")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = dict(line.lower().split("==") for line in lines if "==" in line)
    named_versions = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }
    for name, version in named_versions.items():
        if name != "monai-ext":
            assert tested[name] == version, name


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_has_the_files_of_the_model_zoo(bundle):
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf", "models/.gitkeep"):
        assert (bundle / name).is_file(), name


@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in BUNDLES])
def test_the_readme_has_the_headings_of_the_model_zoo_s_template_in_their_order(bundle):
    wanted = [
        "Authors",
        "Tags",
        "Model Description",
        "Data",
        "Preprocessing",
        "Performance",
        "Additional Usage Steps",
        "System Configuration",
        "Limitations",
        "References",
    ]
    headings = re.findall(r"^##+ (.+)$", (bundle / "docs/README.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading in wanted] == wanted


@pytest.mark.parametrize("path", named([p for p in CONFIGS if p.name in COMPLETE]))
def test_loaders_know_where_their_batches_go(path):
    config = read(path)

    def loaders(node):
        if isinstance(node, dict):
            if node.get("_target_") == "monai_ext.data.SeededLoader":
                yield node
            for value in node.values():
                yield from loaders(value)

    evaluated = config.get("validate", {}).get("evaluator", {}).get("device")
    for loader in loaders(config):
        assert loader["device"] == (evaluated if loader is config.get("validate", {}).get("dataloader") else "@device")


@pytest.mark.parametrize("path", named([p for p in CONFIGS if p.name in COMPLETE]))
def test_tf32_can_be_switched_off(path):
    config = read(path)
    assert config["tf32"] is True
    assert config["initialize"][1]["tf32"] == "@tf32"
