"""One person is one group; two people never are."""

from __future__ import annotations

import pytest

from monai_ext.data.patients import column_of_patients, patient_of_case, patient_problems, patients_of_cases
from monai_ext.errors import DataError

TIME_POINTS = {
    "Brats17_TCIA_105_1": "Brats17_TCIA_105",
    "Brats18_CBICA_ABC_1": "Brats18_CBICA_ABC",
    "brats18_cbica_abc_2": "brats18_cbica_abc",
    "BraTS19_CBICA_P01_2": "BraTS19_CBICA_P01",
    "BraTS19_TCIA01_231_1": "BraTS19_TCIA01_231",
    "BraTS19_2013_10_1": "BraTS19_2013_10",
    "BRATS19_TMC_30014_1": "BRATS19_TMC_30014",
    "BraTS-GLI-00001-001": "BraTS-GLI-00001",
    "brats-gli-02720-100": "brats-gli-02720",
    "BraTS-MEN-RT-0060-1": "BraTS-MEN-RT-0060",
    "sub-01_ses-2": "sub-01",
    "SUB-01_SES-2": "SUB-01",
    "TCGA-02-0006_1996.08.23": "TCGA-02-0006",
    "UPENN-GBM-00001_21": "UPENN-GBM-00001",
    "UCSF-PDGM-0429_FU003d": "UCSF-PDGM-0429",
    "Patient-001_week-000-1": "Patient-001",
    "P07-visit2": "P07",
    "P07_tp_3": "P07",
    "P07_baseline": "P07",
}
DIFFERENT_PEOPLE = [
    *("BraTS20_Training_001", "BraTS20_Validation_002", "BraTS2021_00000", "BRATS_001", "BraTS-GLI-00001"),
    *("BraTS-GLI-2024-00001", "scan_1", "mri_scan_2", "0001", "cell_7", "P01_2", "sub-01", "TCGA-02-0006", "tp2"),
]


@pytest.mark.parametrize(("case", "patient"), TIME_POINTS.items(), ids=list(TIME_POINTS))
def test_the_time_point_is_no_part_of_the_patient(case: str, patient: str) -> None:
    assert patient_of_case(case) == patient


@pytest.mark.parametrize("case", DIFFERENT_PEOPLE)
def test_a_running_number_is_no_time_point(case: str) -> None:
    assert patient_of_case(case) == case


def test_spellings_of_one_id_are_one_patient() -> None:
    found = patients_of_cases(["brats19_cbica_p01_2", "BraTS19_CBICA_P01_1", "BraTS19_CBICA_P02_1"])
    assert found["brats19_cbica_p01_2"] == found["BraTS19_CBICA_P01_1"] == "BraTS19_CBICA_P01"
    assert found["BraTS19_CBICA_P02_1"] == "BraTS19_CBICA_P02"


def test_a_column_names_the_patients_of_all_rows_or_of_none() -> None:
    rows = [{"id": "a", "group": "x", "patient": "y"}, {"id": "b", "group": "x", "patient": ""}]
    with pytest.raises(DataError, match=r"t\.csv: row 3, column 'patient' is empty"):
        column_of_patients(rows, "t.csv")
    assert column_of_patients(rows[:1], "t.csv") == "patient"
    assert column_of_patients([{"id": "a", "subject": "x"}], "t.csv") == "subject"
    assert column_of_patients([{"id": "a", "group": ""}], "t.csv") is None
    assert column_of_patients([{"id": "a"}], "t.csv") is None


def test_the_check_shows_who_is_one_patient() -> None:
    (note,) = patient_problems("DATA", patients_of_cases(["BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "x"]), "say so")
    assert (note.severity, note.code) == ("note", "patients")
    assert note.message.startswith("3 cases of 2 patients")
    assert "BraTS-GLI-00001-000 and BraTS-GLI-00001-001" in note.message
    assert note.step.endswith("else say so")


@pytest.mark.parametrize(
    "cases",
    [["P01_1", "P01_2", "P02_1"], ["P01_20190304", "P01_20200101", "P02_20200101"], ["a1-1", "a1-2", "b7", "b7-1"]],
    ids=["numbers", "dates", "dashes"],
)
def test_ids_that_look_like_time_points_are_a_warning(cases: list[str]) -> None:
    (warning,) = patient_problems("DATA", patients_of_cases(cases))
    assert (warning.severity, warning.code) == ("warning", "patients")
    assert f"{cases[0]} and {cases[1]}" in warning.message


@pytest.mark.parametrize(
    "cases",
    [
        [f"BraTS20_Training_{n:03d}" for n in range(1, 30)],
        [f"{label}_{n}" for label in ("HGG", "LGG") for n in range(1, 20)],
        [f"cell_{n}" for n in range(1, 50)],
        [f"{n:04d}" for n in range(50)],
        ["s1", "s2", "scan 7"],
        ["scan_1", "scan_2", "scan_3"],
    ],
    ids=["brats20", "by_class", "cells", "numbers", "few", "one_series"],
)
def test_running_numbers_are_no_warning(cases: list[str]) -> None:
    assert patient_problems("DATA", patients_of_cases(cases)) == []


def test_a_told_patient_is_no_warning() -> None:
    assert len(patient_problems("DATA", {"P01_1": "A", "P01_2": "B", "P02_1": "C"})) == 0
