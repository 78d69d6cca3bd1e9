"""What is wrong with prepared inputs: nothing in them, too little, too much, or the wrong shape."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from monai_ext.data.prepared_inputs import PreparedInput
from monai_ext.data.problems import Problem

# Networks expect inputs that spread over about 1; a 12-bit camera in a 16-bit file leaves 0.125 of [-1, 1].
NARROW = 0.15
# Fraction of voxels at the greatest value; bone and contrast agent in a CT window stay far below.
SATURATED = 0.2
# Fraction of the planes along an axis.
MOSTLY_PADDING = 1 / 3
# Settings that scale intensities, in the order of advice; a bundle has some of them.
SCALING = {
    "percentiles": "--percentiles '[0.5, 99.5]'",
    "value_range": "--value_range '[LOW, HIGH]' in the files' intensities",
    "intensity": "another --intensity",
}


def input_findings(inputs: Sequence[PreparedInput], settings: Iterable[str] = ()) -> list[Problem]:
    """Findings about single inputs, one for each kind, with the cases that it is about.

    A case with several inputs (crops, slices) counts when all that were looked at do: one crop of background is none.

    Args:
        inputs: of one or more sections.
        settings: names of the bundle's settings, for advice that can be followed.
    """
    names = set(settings)
    advice = " or ".join(text for name, text in SCALING.items() if name in names)
    step = f"train with {advice}" if advice else ""
    usable = [one for one in inputs if one.finite]
    varied = [one for one in usable if not one.constant]
    return [
        *_of_cases(
            [one for one in inputs if not one.finite],
            inputs,
            "not-finite",
            "error",
            "values that are NaN or infinite after the preparation",
            any,
        ),
        *_of_cases(
            [one for one in usable if one.constant],
            usable,
            "constant-input",
            "error",
            "the same value everywhere after the preparation ({low:.4g}): there is nothing to learn from",
        ),
        *_channels(varied),
        *_of_cases(
            [one for one in varied if one.spread < NARROW],
            usable,
            "narrow-input",
            "warning",
            "hardly any contrast after the preparation: values from {low:.4g} to {high:.4g}, where about 1 is usual",
            step=step,
        ),
        *_of_cases(
            [one for one in varied if one.at_high > SATURATED],
            usable,
            "saturated-input",
            "warning",
            "{at_high:.0%} of the voxels at the greatest value ({high:.4g}): what was brighter is lost",
            step=f"widen the range of intensities: {advice}" if advice else "",
        ),
        *_of_cases(
            [one for one in varied if one.filled < MOSTLY_PADDING],
            usable,
            "mostly-padding",
            "warning",
            "padding for the most part: along one axis only {filled:.0%} of the planes hold anything",
        ),
        *_shapes(usable),
        *_masks(usable),
    ]


def _of_cases(
    found: Sequence[PreparedInput],
    among: Sequence[PreparedInput],
    code: str,
    severity: str,
    text: str,
    decide: Callable[[Iterable[bool]], bool] = all,
    step: str = "",
) -> list[Problem]:
    """One finding for all cases of which all (or any) inputs are among those found."""
    hits, numbers = {(one.section, one.index) for one in found}, defaultdict(list)
    for one in among:
        numbers[one.case].append((one.section, one.index) in hits)
    cases = {case for case, of_case in numbers.items() if decide(of_case)}
    first = next((one for one in found if one.case in cases), None)
    if first is None:
        return []
    what = text.format(**vars(first))
    which = f"the input of case {first.case} has {what}"
    more = f"; so {'has' if len(cases) == 2 else 'have'} {len(cases) - 1} more of {len(numbers)} cases"
    files = dict.fromkeys(file for one in found if one.case in cases for file in one.files)
    path = next(iter(first.files), first.case)
    return [Problem(path, which + (more if len(cases) > 1 else ""), severity, code, tuple(files), step)]


def _channels(inputs: Sequence[PreparedInput]) -> list[Problem]:
    """Inputs of several files, of which one holds nothing: a sequence of a patient that was exported empty."""
    found = [one for one in inputs if one.flat and len(one.files) == one.shape[0] > 1]
    return [
        Problem(
            one.files[one.flat[0]],
            f"channel {one.flat[0] + 1} of {one.shape[0]} of case {one.case} has the same value everywhere after the "
            "preparation",
            "error",
            "constant-input",
            one.files,
        )
        for one in found
    ]


def _shapes(inputs: Sequence[PreparedInput]) -> list[Problem]:
    shapes = Counter(one.shape for one in inputs)
    if len(shapes) < 2:
        return []
    (usual, most), *_ = shapes.most_common()
    other = next(one for one in inputs if one.shape != usual)
    files = tuple(file for one in inputs if one.shape != usual for file in one.files)
    message = (
        f"the input of case {other.case} has the shape {list(other.shape)} after the preparation, {most} of "
        f"{len(inputs)} have {list(usual)}: they don't fit into one batch"
    )
    return [Problem(next(iter(other.files), other.case), message, "error", "uneven-inputs", files)]


def _masks(inputs: Sequence[PreparedInput]) -> list[Problem]:
    problems = []
    for name in sorted({name for one in inputs for name in (*one.empty, *one.marked)}):
        having = [one for one in inputs if name in one.empty or name in one.marked]
        empty = [one for one in having if name in one.empty]
        if empty:
            everything = len(empty) == len(having)
            end = ": there is nothing to learn" if everything else "; right where there is nothing to mark"
            message = f"{len(empty)} of {len(having)} inputs have nothing but zeros in {name!r}{end}"
            files = tuple(dict.fromkeys(file for one in empty for file in one.files))
            severity = "error" if everything else "note"
            path = next(iter(empty[0].files), empty[0].case)
            problems.append(Problem(path, message, severity, "empty-mask", files))
    return problems
