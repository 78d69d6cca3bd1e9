"""Two folders compared, and subgroups of one, as the commands do it."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from monai_ext.cli.compare import compare
from monai_ext.cli.report import report
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_csv, read_json, write_csv, write_json
from monai_ext.metrics import SegmentationResult, SliceRecord, classification_metrics, multi_label_metrics
from monai_ext.reports.paired import compare_folders
from monai_ext.reports.subgroups import UNKNOWN, write_subgroups

CASES = [f"c{n:02d}" for n in range(60)]


def classification(folder, gain, seed=0, cases=CASES):
    rng = np.random.default_rng(seed)
    labels = np.arange(len(cases)) % 2
    scores = 1 / (1 + np.exp(-(rng.normal(0, 1, len(cases)) + gain * (2 * labels - 1))))
    result = classification_metrics(np.stack([1 - scores, scores], axis=1), labels, ["a", "b"], cases=cases)
    return written(folder, "classification", result, class_names=["a", "b"])


def written(folder, task, result, **content):
    metrics = {"task": task, "metrics": result.metrics, "predictions": "predictions/table.csv", **content}
    write_json(folder / "metrics" / "metrics.json", metrics)
    write_json(folder / "run.json", {"status": "finished"})
    write_csv(folder / "predictions" / "table.csv", result.rows())
    return folder


def invoke(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False).output


@pytest.mark.parametrize("named", [True, False])
def test_predictions_that_name_no_patients_are_told(tmp_path, caplog, named):
    for name in ("one", "other"):
        table = classification(tmp_path / name, 1.0) / "predictions" / "table.csv"
        if named:
            write_csv(table, [{**row, "patient": row["case"]} for row in read_csv(table, ["case"])])
    compare_folders(tmp_path / "one", tmp_path / "other")
    assert ("name no patients: each of their cases counts on its own" in caplog.text) is not named


def test_two_runs_are_compared_whatever_the_order_of_their_cases(tmp_path):
    weak, strong = classification(tmp_path / "weak", 0.2), classification(tmp_path / "strong", 2.0)
    rows = read_csv(strong / "predictions" / "table.csv", ["case"])
    expected = compare_folders(weak, strong)["auc"]
    write_csv(strong / "predictions" / "table.csv", rows[::-1])
    output = invoke(compare, weak, strong, "--output", tmp_path / "found.csv")
    assert "DeLong" in output
    (found,) = (row for row in read_csv(tmp_path / "found.csv", ["metric"]) if row["metric"] == "auc")
    assert float(found["p"]) == pytest.approx(expected.p)
    assert expected.p < 0.001
    assert float(found["difference"]) == pytest.approx(expected.second - expected.first)
    assert 0 < float(found["low"]) < float(found["difference"]) < float(found["high"])
    only = invoke(compare, weak, strong, "--metric", "f1")
    assert "paired bootstrap" in only
    assert "DeLong" not in only


def test_a_cross_validation_is_compared_by_its_out_of_fold_predictions(tmp_path):
    run = classification(tmp_path / "run", 2.0)
    rows = read_csv(run / "predictions" / "table.csv", ["case"])
    folder = tmp_path / "cv"
    write_csv(folder / "out_of_fold.csv", [{"case": r["case"], "fold": 1, **r} for r in rows])
    write_json(folder / "cross_validation.json", {"class_names": ["a", "b"]})
    found = compare_folders(classification(tmp_path / "weak", 0.2), folder)
    assert found["auc"].p < 0.001


def test_multi_label_and_masks_are_compared_over_patients(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.random((60, 2)) < 0.5
    for name, gain in (("weak", 0.05), ("strong", 0.4)):
        scores = np.clip(rng.normal(0.5 + gain * (labels - 0.5), 0.15), 0, 1)
        columns = {"patient": [f"p{n // 2}" for n in range(60)]}
        result = multi_label_metrics(scores, labels, ["x", "y"], cases=CASES, columns=columns)
        written(tmp_path / "labels" / name, "multi_label", result, class_names=["x", "y"])
        slices = [
            SliceRecord(n, f"s{n}", f"p{n // 3}", None, overlap, 20, 20)
            for n, overlap in enumerate(rng.integers(5, 10, 60) + int(20 * gain))
        ]
        written(tmp_path / "masks" / name, "segmentation", SegmentationResult(slices))
    found = compare_folders(tmp_path / "labels" / "weak", tmp_path / "labels" / "strong")["auroc"]
    assert (found.unit, found.n, found.method) == ("patients", 30, "paired bootstrap")
    assert found.p < 0.01
    found = compare_folders(tmp_path / "masks" / "weak", tmp_path / "masks" / "strong")["dice"]
    assert (found.unit, found.n) == ("patients", 20)
    assert found.p < 0.01


def test_other_cases_labels_or_numbers_of_folders_are_refused(tmp_path):
    one = classification(tmp_path / "one", 1)
    with pytest.raises(DataError, match=r"don't hold the same cases .*'c59'"):
        compare_folders(one, classification(tmp_path / "other", 1, cases=[*CASES[:-1], "other"]))
    turned = classification(tmp_path / "turned", 1)
    rows = read_csv(turned / "predictions" / "table.csv", ["case"])
    write_csv(turned / "predictions" / "table.csv", [{**rows[0], "label": "b"}, *rows[1:]])
    with pytest.raises(DataError, match=r"case 'c00' is a in .* and b in"):
        compare_folders(one, turned)
    with pytest.raises(ConfigError, match="give two folders"):
        invoke(compare, one)
    with pytest.raises(ConfigError, match="--metric auk: the two have accuracy"):
        invoke(compare, one, turned.parent / "one", "--metric", "auk")


@pytest.fixture
def table(tmp_path):
    rows = [
        {"file": f"{case}.nii.gz", "scanner": "AB"[n < 20], "age": 30 + n, "remark": f"r{n}"}
        for n, case in enumerate(CASES[:-5])
    ]
    return write_csv(tmp_path / "cases.csv", rows)


def test_subgroups_have_their_numbers_and_intervals_or_a_reason(tmp_path, table):
    run = classification(tmp_path / "run", 1.0)
    invoke(report, run, "--subgroups", "scanner, age", "--case_table", table)
    found = read_json(run / "subgroups.json")["subgroups"]
    assert {value: group["n"] for value, group in found["scanner"].items()} == {
        **{"A": "35 cases", "B": "20 cases"},
        UNKNOWN: "5 cases",
    }
    assert len(found["age"]) == 5
    rows = read_csv(run / "predictions" / "table.csv", ["prob_b"])[:20]
    right = np.mean([row["prediction"] == row["label"] for row in rows])
    assert found["scanner"]["B"]["metrics"]["accuracy"] == pytest.approx(right)
    assert found["scanner"]["B"]["intervals"]["auc"][0] < found["scanner"]["B"]["metrics"]["auc"]
    few = found["scanner"][UNKNOWN]["interval_methods"]["auc"]["not_estimable"]
    assert "fewer than 10" in few
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "By scanner, with 95 % intervals" in page


def test_columns_that_make_no_subgroups_are_refused(tmp_path, table):
    run = classification(tmp_path / "run", 1.0)
    with pytest.raises(ConfigError, match="--subgroups colour: the case table has no such column"):
        write_subgroups(run, ["colour"], table)
    with pytest.raises(ConfigError, match="--subgroups remark: has 55 values, too many"):
        write_subgroups(run, ["remark"], table)
    write_csv(table, [{"file": "x", "scanner": "A"}])
    with pytest.raises(DataError, match="no column has the names of the cases, such as 'c00'"):
        write_subgroups(run, ["scanner"], table)
    with pytest.raises(ConfigError, match="give both or neither"):
        invoke(report, run, "--subgroups", "scanner")
