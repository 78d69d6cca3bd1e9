from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_ext.data.left_out import Found, not_used
from monai_ext.data.walk import entries, stem_of, suffix_of, walk, without_copies, without_data_files
from monai_ext.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def relative(root: Path, files) -> list[str]:
    return [os.path.relpath(file.path, root) for file in files]


def test_files_come_in_natural_order_whatever_the_case_of_their_suffix(tmp_path):
    touch(tmp_path, "a_10.nii.gz", "a_2.NII.GZ", "b/c.Nii", "notes.txt", "b/d.nii.gz.part")
    found = walk(tmp_path, (".nii", ".nii.gz"))
    assert relative(tmp_path, found.files) == ["a_2.NII.GZ", "a_10.nii.gz", "b/c.Nii"]
    assert relative(tmp_path, found.others) == ["b/d.nii.gz.part", "notes.txt"]
    assert found.problems == []
    assert found.files[0].stamp == (10, os.stat(tmp_path / "a_2.NII.GZ").st_mtime_ns)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, ".a.nii", ".cache/b.nii", "._c.nii", "d.nii")
    found = walk(tmp_path, (".nii",))
    assert relative(tmp_path, found.files) == ["d.nii"]
    assert sorted(os.path.relpath(path, tmp_path) for path in found.hidden) == ["._c.nii", ".a.nii", ".cache"]


def test_links_to_parents_and_loops_end(tmp_path):
    touch(tmp_path, "a/b/c.nii")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "a/loop").symlink_to("loop")
    found = walk(tmp_path, (".nii",))
    assert relative(tmp_path, found.files) == ["a/b/c.nii"]
    assert sorted(os.path.basename(problem.path) for problem in found.problems) == ["loop", "up"]
    assert {problem.severity for problem in found.problems} == {"note"}


@pytest.mark.parametrize("kind", ["file", "folder", "hard"])
def test_several_names_of_a_file_are_one_file_under_its_own_name(tmp_path, kind):
    touch(tmp_path, "z/scan.nii")
    if kind == "folder":
        (tmp_path / "a").symlink_to("z")
    else:
        (tmp_path / "zz").mkdir()
        (os.link if kind == "hard" else os.symlink)(tmp_path / "z/scan.nii", tmp_path / "zz/other.nii")
    if kind == "file":
        (tmp_path / "a.nii").symlink_to("z/scan.nii")  # comes first by name
    found = walk(tmp_path, (".nii",))
    assert relative(tmp_path, found.files) == ["z/scan.nii"]
    assert {problem.files for problem in found.problems} == {
        (str(tmp_path / ("z" if kind == "folder" else "z/scan.nii")),)
    }
    assert {problem.severity for problem in found.problems} == {"note"}


def test_data_that_are_links_throughout_are_found(tmp_path):
    store = touch(tmp_path / "store", "3f", "7a")
    (tmp_path / "data").mkdir()
    for name, content in (("a.nii", "3f"), ("b.nii", "7a")):
        (tmp_path / "data" / name).symlink_to(store / content)
    assert relative(tmp_path / "data", walk(tmp_path / "data", (".nii",)).files) == ["a.nii", "b.nii"]


def test_positions_in_a_stack_may_be_one_file(tmp_path):
    touch(tmp_path, "empty_1.tif")
    os.link(tmp_path / "empty_1.tif", tmp_path / "empty_2.tif")
    assert len(walk(tmp_path, (".tif",)).files) == 1
    assert len(walk(tmp_path, (".tif",), repeatable=(".tif",)).files) == 2


def test_a_broken_link_is_an_error_where_its_file_is_asked_for(tmp_path):
    for name in ("a.nii", "a.txt"):
        (tmp_path / name).symlink_to("nothing")
    problems = walk(tmp_path, (".nii",)).problems
    assert {(Path(problem.path).name, problem.severity) for problem in problems} == {
        ("a.nii", "error"),
        ("a.txt", "note"),
    }


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a/b.nii")
    with pytest.raises(DataError, match="nothing: is not a folder"):
        walk(tmp_path / "nothing", (".nii",))
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("a"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"/a: can't be listed \(Permission denied\)"):
        walk(tmp_path / "a", (".nii",))


def test_a_folder_below_that_cannot_be_listed_is_a_problem_and_the_others_are_read(tmp_path):
    touch(tmp_path, "b/c.nii")
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # longer than any path may be
        os.mkdir("n" * 250, dir_fd=folder)
        inner = os.open("n" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    found = walk(tmp_path, (".nii",))
    assert [file.name for file in found.files] == ["c.nii"]
    (problem,) = found.problems
    assert problem.severity == "error"
    assert problem.message == "can't be listed (File name too long)"


def test_direct_entries_come_in_natural_order(tmp_path):
    touch(tmp_path, "10/a", "9/a", ".hidden", "b.csv")
    assert [path.name for path in entries(tmp_path)] == ["9", "10", "b.csv"]


def test_the_longest_suffix_counts():
    assert [suffix_of(name, (".nii", ".nii.gz", ".gz")) for name in ("A.NII.GZ", "a.nii", "a.gz", "a.png")] == [
        ".nii.gz",
        ".nii",
        ".gz",
        None,
    ]
    assert [stem_of(name, (".nii", ".nii.gz")) for name in ("x/A.b.NII.gz", "a.png")] == ["A.b", None]


def test_one_case_in_two_files_is_a_finding_and_no_case(tmp_path):
    files = [tmp_path / name for name in ("a.nii", "a.NII.gz", "b.nii", "c/a.nii")]
    single, (problem,) = without_copies(files, (".nii", ".nii.gz"))
    assert single == [str(tmp_path / "b.nii"), str(tmp_path / "c/a.nii")]
    assert (problem.path, problem.code, problem.severity) == (str(tmp_path / "a.nii"), "copies", "error")
    assert problem.files == (str(tmp_path / "a.NII.gz"),)
    assert "lies beside a.NII.gz" in problem.message


def test_the_voxels_of_a_header_belong_to_it(tmp_path):
    others = [tmp_path / name for name in ("scan.raw", "scan.zraw", "other.raw", "scan.txt", "b/scan.img")]
    left = without_data_files(others, [tmp_path / "scan.mhd", tmp_path / "other.nii.gz"])
    assert [path.name for path in left] == ["other.raw", "scan.txt", "scan.img"]


def test_what_is_not_used_is_one_note_for_each_reason_with_all_files(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(7)] + [tmp_path / "a.txt"]
    pictures, text = not_used(files, lambda path: f"a {path.suffix} file", tmp_path)
    assert pictures.message == "7 entries are not used (0.png, 1.png, 2.png, 3.png, 4.png and 2 more): a .png file"
    assert pictures.files == tuple(map(str, files[:7]))
    assert (text.message, text.severity) == ("1 entry is not used (a.txt): a .txt file", "note")


def test_a_list_of_cases_knows_what_was_left_out_in_other_processes_too(tmp_path):
    import pickle

    found = pickle.loads(pickle.dumps(Found(["a"], not_used([tmp_path / "b"], lambda _: "no case", tmp_path))))
    assert found == ["a"]
    assert found.left_out == [f"{tmp_path}: 1 entry is not used (b): no case"]
