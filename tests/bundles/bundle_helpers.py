"""What the tests of several bundles need."""

import csv


def user_error(error):
    """What MONAI wraps in layers of "Failed to ..."."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def rows_of(path):
    """Rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
