"""Which cases a network was trained on: kept in its checkpoints as digests of their names, asked by evaluation."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Items = Sequence[Mapping[str, Any]]

COLUMN = "seen_in_training"


def provenance_of(data: Mapping[str, Items], **known: Any) -> dict[str, Any]:
    """What a checkpoint keeps about its data; plain values.

    Args:
        data: part (train, val, test) → items with ``case`` and perhaps ``patient``; patches of a volume have
            ``start_pos`` and the volume's ``stamp``.
        known: further entries, plain values: bundle, version, fold, class names, …

    Returns:
        ``known``, and digests by part: ``cases``, ``patients`` and ``volumes``.
    """
    parts = {part: list(items) for part, items in data.items()}
    return {
        **known,
        "cases": {part: _digests(map(_case, items)) for part, items in parts.items()},
        "patients": {part: _digests(map(_patient, items)) for part, items in parts.items()},
        "volumes": {part: _digests(map(_volume, items)) for part, items in parts.items()},
    }


def saved_provenance(path: str | Path) -> dict[str, Any] | None:
    """The provenance in a checkpoint (``.pt``) or an export (``.ts``); ``None`` where there is none to read.

    What is wrong with a file is for those who load it to say.

    Args:
        path: path of the file.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            metadata = [name for name in archive.namelist() if name.endswith("/extra/metadata.json")]
            content = json.loads(archive.read(metadata[0])) if metadata else None
        if content is None:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file can fail anywhere in the unpickler
        return None
    found = content.get("provenance") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else None


def seen(item: Mapping[str, Any], provenance: Mapping[str, Any] | None) -> bool | None:
    """Whether a network was trained on a case, or on another one of its patient; ``None`` where that isn't known.

    Args:
        item: with ``case``, see `provenance_of`.
        provenance: of the network; ``None`` for an unknown one.
    """
    if provenance is None:
        return None
    cases, patients, volumes = (provenance.get(name) or {} for name in ("cases", "patients", "volumes"))
    case = _digest(_case(item))
    if case in cases.get("train", ()):
        return True
    if "patient" in item and _digest(_patient(item)) in patients.get("train", ()):
        return True
    if any(case in found for found in cases.values()):
        return False
    # Patches of another size or grid may overlap those that were trained on.
    volume = _volume(item)
    return None if volume is not None and _digest(volume) in volumes.get("train", ()) else False


def seen_by_name(items: Items, provenances: Sequence[Mapping[str, Any] | None]) -> dict[str, bool | None]:
    """Case or patient → whether one of several networks was trained on it.

    Args:
        items: with ``case`` and perhaps ``patient``.
        provenances: of the networks.
    """
    quick = [_as_sets(provenance) for provenance in provenances]
    found: dict[str, bool | None] = {}
    for item in items:
        answers = [seen(item, provenance) for provenance in quick]
        for name in {str(item["case"]), str(item.get("patient", item["case"]))}:
            found[name] = _any([*answers, *([found[name]] if name in found else [])])
    return found


def chose_epoch(items: Items, provenances: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Cases by which the epoch of one of several networks was chosen: what it reaches on them is optimistic.

    Args:
        items: with ``case``.
        provenances: of the networks; ``selection`` says by which part the epoch was chosen.
    """
    parts = {"best": "val", "inner": "inner"}
    chosen: set[str] = set()
    for provenance in filter(None, provenances):
        part = parts.get(str(provenance.get("selection")))
        chosen.update((provenance.get("cases") or {}).get(part, ()) if part else ())
    return list(dict.fromkeys(str(item["case"]) for item in items if _digest(_case(item)) in chosen))


def mark(tables: Iterable[list[dict[str, Any]]], known: Mapping[str, bool | None]) -> None:
    """Add the column ``seen_in_training`` to tables of predictions: yes, no, or empty where it isn't known.

    Args:
        tables: rows with ``case`` or ``patient``; changed in place.
        known: see `seen_by_name`.
    """
    words = {True: "yes", False: "no", None: ""}
    for rows in tables:
        for row in rows:
            row[COLUMN] = words[known.get(str(row.get("case", row.get("patient"))))]


def _any(answers: Sequence[bool | None]) -> bool | None:
    return True if True in answers else None if None in answers or not answers else False


def _as_sets(provenance: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if provenance is None:
        return None
    kinds = {name: provenance.get(name) or {} for name in ("cases", "patients", "volumes")}
    return {name: {part: frozenset(found) for part, found in parts.items()} for name, parts in kinds.items()}


def _case(item: Mapping[str, Any]) -> str:
    volume = _volume(item)
    return str(item.get("case")) if volume is None else f"{volume} at {list(map(int, item['start_pos']))}"


def _patient(item: Mapping[str, Any]) -> str:
    return str(item.get("patient", item.get("case")))


def _volume(item: Mapping[str, Any]) -> str | None:
    return str(item["stamp"]) if "start_pos" in item and "stamp" in item else None


def _digests(names: Iterable[str | None]) -> list[str]:
    return sorted({_digest(name) for name in names if name is not None})


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]
