#!/usr/bin/env python3
"""Lays the bundles' JSON configs out by topic: several short entries on a line, 120 columns.

Entries that stand on one line at the top level stay together while they fit, and so do blank lines between topics;
everything below is on one line where it fits, else its entries fill lines. A component's first and last line hold its
brackets, so that what it is stands beside its name. Content isn't touched.

usage: format_configs.py [--check] [FILE ...]
"""

import json
import sys
from pathlib import Path

WIDTH = 120
STEP = "    "


def laid_out(text):
    """A config's text in this layout."""
    entries = list(top_level(text))
    lines = ["{"]
    line = ""
    for number, (key, value, breaks) in enumerate(entries):
        comma = "," if number + 1 < len(entries) else ""
        shown = f"{json.dumps(key)}: {json.dumps(value)}{comma}"
        if line and not breaks and len(line) + 1 + len(shown) <= WIDTH:
            line += f" {shown}"
            continue
        if line:
            lines.append(line)
        line = ""
        if breaks > 1 and number:
            lines.append("")
        if len(STEP) + len(shown) <= WIDTH or not isinstance(value, dict | list):
            line = STEP + shown
        else:
            lines += block(f"{json.dumps(key)}: ", value, STEP, comma)
    return "\n".join([*lines, *([line] if line else []), "}"]) + "\n"


def top_level(text):
    """Key, value, and the number of line breaks in front, of each entry of the outermost object."""
    decoder = json.JSONDecoder(object_pairs_hook=without_duplicates)
    decoder.decode(text)
    position = text.index("{") + 1
    while True:
        start = position
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "}":
            return
        breaks = text.count("\n", start, position)
        key, position = decoder.raw_decode(text, position)
        while text[position] in " \t\r\n:":
            position += 1
        value, position = decoder.raw_decode(text, position)
        yield key, value, breaks


def without_duplicates(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key stands twice among {[key for key, _ in pairs]}")
    return found


def block(head, value, indent, comma):
    """Lines of a value that doesn't fit on one."""
    if "_target_" in value:
        lines = component(head, value, indent, comma)
        if max(map(len, lines)) <= WIDTH:
            return lines
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    entries = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    inner = indent + STEP
    lines = [f"{indent}{head}{opening}"]
    line = ""
    rest = len(value)
    for key, item in entries:
        rest -= 1
        after = "," if rest else ""
        name = "" if key is None else f"{json.dumps(key)}: "
        shown = f"{name}{json.dumps(item)}{after}"
        if line and len(line) + 1 + len(shown) <= WIDTH:
            line += f" {shown}"
            continue
        if line:
            lines.append(line)
        line = ""
        if len(inner) + len(shown) <= WIDTH or not isinstance(item, dict | list):
            line = inner + shown
        else:
            lines += block(name, item, inner, after)
    return [*lines, *([line] if line else []), f"{indent}{closing}{comma}"]


def component(head, value, indent, comma):
    """Lines of a component of plain entries, filled."""
    lines, line = [], f"{indent}{head}{{"
    for number, (key, item) in enumerate(value.items(), 1):
        shown = f"{json.dumps(key)}: {json.dumps(item)}{',' if number < len(value) else '}' + comma}"
        gap = "" if number == 1 else " "
        if number > 1 and len(line) + 1 + len(shown) > WIDTH:
            lines.append(line)
            line, gap = indent + STEP, ""
        line += gap + shown
    return [*lines, line]


def main(words):
    check = "--check" in words
    root = Path(__file__).resolve().parents[1]
    given = [Path(word) for word in words if word != "--check"]
    places = (root, root / "monai_ext" / "cli" / "template")
    files = given or sorted(file for place in places for file in place.glob("bundles/*/configs/*.json"))
    other = []
    for file in files:
        text = file.read_text(encoding="ascii")
        new = laid_out(text)
        assert json.loads(new) == json.loads(text), file
        if new != text:
            other.append(file)
            if not check:
                file.write_text(new, encoding="ascii")
    for file in other:
        print(f"{file}: {'would be' if check else 'was'} laid out anew")
    return 1 if check and other else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
