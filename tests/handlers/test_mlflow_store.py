import logging
import shutil
import sqlite3

import mlflow
import pytest

from monai_ext.errors import ConfigError
from monai_ext.handlers import mlflow_store
from monai_ext.handlers.mlflow_tracker import MLflowTracker
from monai_ext.workflow import sqlite_uri


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_store):
    """A store with a run."""
    database = shutil.copy(empty_store, tmp_path_factory.mktemp("whole") / "mlflow.db")
    MLflowTracker(sqlite_uri(database), "grades", "first").finish()
    return database


def half_made(whole, database):
    """What kill -9 leaves in the middle of MLflow's migrations: some tables, nothing in them."""
    shutil.copy(whole, database)
    with sqlite3.connect(database) as connection:
        connection.executescript("DROP TABLE webhooks; DELETE FROM runs; DELETE FROM experiments;")


def not_a_database(whole, database):
    database.write_bytes(b"\0" * 8192)


def truncated(whole, database):
    content = whole.read_bytes()
    database.write_bytes(content[: len(content) // 2])


def garbled(whole, database):
    """In a table that is needed at the end of the first epoch."""
    with sqlite3.connect(whole) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(whole.read_bytes())
    content[size * (page - 1) : size * page] = b"\xff" * size
    database.write_bytes(content)


@pytest.mark.parametrize("damage", [half_made, not_a_database, truncated, garbled])
def test_a_damaged_store_is_set_aside_and_made_anew(whole, empty_store, tmp_path, damage, caplog, monkeypatch):
    if damage is not half_made:  # once is enough
        monkeypatch.setattr(mlflow_store, "_make", lambda database: shutil.copy(empty_store, database))
    database = tmp_path / "mlflow.db"
    damage(whole, database)
    content = database.read_bytes()
    database.with_name("mlflow.db-wal").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "monai_ext"):
        tracker = MLflowTracker(sqlite_uri(database), "grades", "next")
    tracker.finish()
    assert mlflow.MlflowClient(sqlite_uri(database)).get_run(tracker.run_id).info.status == "FINISHED"
    aside = tmp_path / "mlflow.db.damaged"
    assert aside.read_bytes() == content
    assert (tmp_path / "mlflow.db.damaged-wal").exists()
    (sentence,) = [record.message for record in caplog.records if record.name.startswith("monai_ext")]
    assert sentence.startswith(f"the MLflow store {database} is damaged (")
    assert f"it is now {aside}" in sentence


def test_a_store_of_an_older_mlflow_stays(whole, tmp_path):
    database = tmp_path / "mlflow.db"
    shutil.copy(whole, database)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    before = database.read_bytes()
    with pytest.raises(ConfigError, match=r"can't be used .*mlflow db upgrade"):
        MLflowTracker(sqlite_uri(database), "grades", "x")
    assert database.read_bytes() == before
    assert not list(tmp_path.glob("*.damaged"))


def test_the_database_of_another_program_is_left_alone(tmp_path):
    database = tmp_path / "patients.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE patients (name TEXT)")
    before = database.read_bytes()
    with pytest.raises(ConfigError, match=f"{database}: is the database of another program"):
        MLflowTracker(sqlite_uri(database), "grades", "x")
    assert database.read_bytes() == before


def test_a_new_store_has_its_name_when_it_is_whole_and_not_before(tmp_path, monkeypatch):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database = tmp_path / "mlflow.db"
    (tmp_path / ".mlflow.killed.partial.db").write_bytes(b"half")
    (tmp_path / ".last.other.partial.pt").write_bytes(b"of another writer")
    seen = []
    begin = SqlAlchemyStore.__init__

    def watched(store, *arguments, **options):
        seen.append(database.exists())
        begin(store, *arguments, **options)
        seen.append(database.exists())

    monkeypatch.setattr(SqlAlchemyStore, "__init__", watched)
    mlflow_store.make_sound(database)
    assert seen == [False, False]
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".last.other.partial.pt"}


NAMES = ["a b", "läuf", "a#b", "a%b", "a%20b", "a?b"]


@pytest.mark.parametrize("name", NAMES)
def test_store_lock_and_artifacts_lie_in_the_folder_whatever_its_name(whole, tmp_path, name):
    folder = tmp_path / name / "runs"
    folder.mkdir(parents=True)
    shutil.copy(whole, folder / "mlflow.db")
    (tmp_path / "report.html").write_text("<html></html>")
    tracker = MLflowTracker(sqlite_uri(folder / "mlflow.db"), f"of {name}", "x")
    tracker.artifact(tmp_path / "report.html")
    tracker.finish()
    assert (folder / "mlruns" / tracker.run_id / "artifacts" / "report.html").is_file()
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", ".mlflow.db.lock", "mlruns"}
    assert {path.name for path in tmp_path.iterdir()} == {name, "report.html"}


def test_a_moved_folder_has_its_old_and_new_artifacts(whole, tmp_path):
    (tmp_path / "before").mkdir()
    shutil.copy(whole, tmp_path / "before" / "mlflow.db")
    (tmp_path / "plot.png").write_bytes(b"x")
    trackers = {}

    def track(name, place):
        trackers[name] = MLflowTracker(sqlite_uri(tmp_path / place / "mlflow.db"), "moved", name)
        trackers[name].artifact(tmp_path / "plot.png")

    for name in ("ended", "going on", "elsewhere"):
        track(name, "before")
    trackers["ended"].finish()
    trackers["elsewhere"].finish()
    shutil.rmtree(tmp_path / "before" / "mlruns" / trackers["elsewhere"].run_id)
    (tmp_path / "before").rename(tmp_path / "after")
    track("new", "after")

    client = mlflow.MlflowClient(sqlite_uri(tmp_path / "after" / "mlflow.db"))
    kept = {name: client.get_run(tracker.run_id).info.artifact_uri for name, tracker in trackers.items()}
    places = {name: "after" if f"{tmp_path}/after/" in uri else "before" for name, uri in kept.items()}
    assert places == {"ended": "after", "new": "after", "going on": "before", "elsewhere": "before"}
    for name in ("ended", "new"):
        assert [file.path for file in client.list_artifacts(trackers[name].run_id)] == ["plot.png"]
    assert not (tmp_path / "before").exists()
