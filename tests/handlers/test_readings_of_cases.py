"""How files were read is in the run's lists of cases, in its record, and still there after a resume."""

import csv

from ignite.engine import Engine

from monai_ext.handlers.readings import Readings
from monai_ext.handlers.run_records import RunRecords
from monai_ext.runs import RunFolder

ITEMS = {"train": [{"case": "a", "label": 0}, {"case": "b", "label": 1}], "val": [{"case": "c", "label": 1}]}


def test_readings_come_from_batches_of_either_form_and_only_once():
    trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    readings = Readings()
    readings.attach(trainer, evaluator)
    trainer.run([{"case": ["a", "b"], "reading": ["header", "stored values"]}, {"case": ["d"]}, (1, 2)])
    evaluator.run([[{"case": "c", "reading": "header"}, {"case": "e"}]])
    assert readings.take() == {"a": "header", "b": "stored values", "c": "header"}
    assert readings.take() == {}


def records_of(tmp_path, items=ITEMS, **resume):
    run = RunFolder(tmp_path, **resume)
    run.open()
    records = RunRecords(run, "train", items, ["no", "yes"])
    records.open(seed=0, first_epoch=None)
    return records


def listed(records):
    found = {}
    for path in sorted((records.run / "splits").iterdir()):
        with path.open(newline="") as file:
            found |= {row["case"]: row.get("reading") for row in csv.DictReader(file)}
    return found


def test_what_is_known_is_listed_and_counted_and_a_resumed_run_keeps_it(tmp_path):
    records = records_of(tmp_path)
    assert listed(records) == {"a": None, "b": None, "c": None}  # other data have no such column
    assert "readings" not in records.run.record["data"]
    records.note_readings({"a": "header", "c": "stored values"})
    assert listed(records) == {"a": "header", "b": "", "c": "stored values"}
    assert records.run.record["data"]["readings"] == {"header": 1, "stored values": 1}
    records.run.close("killed")

    again = records_of(tmp_path, resume="auto")
    assert listed(again) == {"a": "header", "b": "", "c": "stored values"}
    again.note_readings({"c": "header"})
    assert again.run.record["data"]["readings"] == {"header": 2}
    again.run.close("finished")


def test_items_that_know_it_already_are_listed_from_the_beginning(tmp_path):
    items = {"train": [{"case": "a", "label": 0, "reading": "header"}, {"case": "a", "label": 0, "reading": "header"}]}
    records = records_of(tmp_path, items)
    assert listed(records) == {"a": "header"}
    assert records.run.record["data"]["readings"] == {"header": 1}
    records.run.close("finished")
