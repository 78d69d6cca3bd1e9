from monai_ext.mlflow_uri import database_of, forget_misread
from monai_ext.workflow import sqlite_uri


def test_a_uri_that_is_coded_throughout_means_the_same_store(tmp_path):
    assert database_of(f"sqlite:///{tmp_path}/l%C3%A4uf/mlflow.db") == tmp_path / "läuf" / "mlflow.db"
    assert database_of("http://server:5000") is None


def test_only_an_empty_folder_with_the_name_of_the_codes_is_removed(tmp_path):
    database = tmp_path / "50%25" / "mlflow.db"
    misread = tmp_path / "50%2525"
    for folder in (database.parent, misread):
        folder.mkdir()
    forget_misread(sqlite_uri(database))
    assert [path.name for path in tmp_path.iterdir()] == ["50%25"]
    misread.mkdir()
    (misread / "mine.txt").touch()
    forget_misread(sqlite_uri(database))
    forget_misread("http://server:5000")
    assert (misread / "mine.txt").exists()
