#!/usr/bin/env python3
"""Writes the tables of settings in docs/<bundle>.md, and of the originals' options in docs/migration.md.

Both come from the bundles' configs and their settings.json.

usage: settings_tables.py [--check]
"""

import re
import sys
from pathlib import Path

from monai_ext.settings.listing import listed_settings, markdown_table, originals_table, stages_note

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", flags=re.S)
ORIGINAL = re.compile(r"(<!-- original (\w+) -->\n).*?(<!-- /original -->)", flags=re.S)


def with_table(page):
    """A page's text with its tables as they have to be; pages without the marks stay as they are."""
    text = page.read_text(encoding="utf-8")
    if ORIGINAL.search(text):
        return ORIGINAL.sub(lambda m: f"{m[1]}\n{originals_table(ROOT / 'bundles' / m[2])}\n\n{m[3]}", text)
    if not PLACE.search(text):
        return text
    settings = listed_settings(ROOT / "bundles" / page.stem)
    note = stages_note(settings)
    table = f"\n{markdown_table(settings)}\n\n" + (f"{note}\n\n" if note else "")
    return PLACE.sub(lambda _: table, text)


def main(words):
    check = "--check" in words
    other = [page for page in sorted((ROOT / "docs").glob("*.md")) if with_table(page) != page.read_text("utf-8")]
    for page in other:
        if not check:
            page.write_text(with_table(page), encoding="utf-8")
        print(
            f"{page}: its table of settings {'is out of step; run .ci/settings_tables.py' if check else 'was written'}"
        )
    return 1 if check and other else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
