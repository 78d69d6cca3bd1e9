"""A public name stands for one thing: no two files define the same one, but for what every domain has its own of."""

import ast
from collections import defaultdict

from source_lines import REPOSITORY

# What each domain brings under the same name, so that commands and configs need know one name only.
OF_EACH_DOMAIN = {"check", "class_names", "demo_data", "inference_items", "make_demo", "read_slice", "splits", "Size"}
OF_EACH_DOMAIN |= {"trainings"}  # the cascade has several
# A command is called as what it does.
COMMANDS = {"check", "compare", "demo_data", "extract_slices", "find_patches", "prepare", "report"}
# Figures and sections of each kind of predictions.
OF_EACH_KIND = {"calibration", "figures", "metric_blocks", "mistakes_blocks", "precision_recall", "roc"}
# Counted by the data, drawn by the reports.
OF_REPORTS = {"class_counts"}
# A bundle to be, which is another package.
TEMPLATE = REPOSITORY / "monai_ext" / "cli" / "template"


def test_no_public_name_is_defined_twice():
    places = defaultdict(set)
    for path in sorted((REPOSITORY / "monai_ext").rglob("*.py")):
        if path.is_relative_to(TEMPLATE):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(str(path.relative_to(REPOSITORY)))
    allowed = OF_EACH_DOMAIN | COMMANDS | OF_EACH_KIND | OF_REPORTS
    assert {name: sorted(found) for name, found in places.items() if len(found) > 1 and name not in allowed} == {}
