"""The bundle that ``new-bundle`` copies keeps the contract as it is."""

import pytest
from contract import ROOT, BundleContract
from installed import forget


@pytest.mark.slow
class TestTemplate(BundleContract):
    bundle = "my_bundle"
    short = "template"
    place = ROOT / "monai_ext" / "cli" / "template" / "bundles"
    recipe = {"max_epochs": 2, "class_names": ["square", "circle"]}
    inference = {"class_names": ["square", "circle"]}
    files = ("predictions/val_predictions.csv", "plots/confusion_matrix.png")
    scores = ("auc", "accuracy", "val_loss")
    other = ({"class_names": ["circle", "square"]}, "class_names: checkpoint")
    no_data = "no .png files of the class"

    @pytest.fixture(scope="class")
    @classmethod
    def template_data(cls, tmp_path_factory):
        from my_bundle.data import make_demo

        return make_demo(tmp_path_factory.mktemp("template") / "data")

    @pytest.fixture(scope="class")
    @classmethod
    def template_settings(cls, template_data):
        return {"dataset_dir": str(template_data), "num_workers": 0, "tracking_uri": "none"}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def importable(cls):
        """As an installed package is, also in processes of their own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(cls.place.parent)
            patch.setenv("PYTHONPATH", f"{cls.place.parent}:{ROOT}")
            yield
        forget("my_bundle")
