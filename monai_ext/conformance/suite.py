"""All checks of a bundle."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import shutil
import tempfile
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.conformance import description, network, workflows
from monai_ext.conformance.bundle import Bundle
from monai_ext.conformance.verdicts import NotApplicable
from monai_ext.error_report import debugging, describe
from monai_ext.errors import ConfigError

_CHECKS: dict[str, Callable[[Bundle], str | None]] = {
    "files": description.files,
    "metadata": description.metadata,
    "properties": description.required_ids,
    "plain_parser": network.plain_parser,
    "network_format": network.network_format,
    "torchscript": network.torchscript,
    "onnx": network.onnx_file,
    "checkpoints": network.checkpoints,
    "inference": workflows.inference,
    "training": workflows.training,
    "resume": workflows.resume,
}
CHECKS = tuple(_CHECKS)
"""Names of the checks, in the order in which they run."""


class Result(NamedTuple):
    """Result of a check.

    Args:
        name: of the check, one of `CHECKS`.
        status: "passed", "failed", "expected failure" or "not applicable".
        reason: why; of a check that passed, what was seen.
    """

    name: str
    status: str
    reason: str


def checks(
    path: str | Path, settings: Mapping[str, Any] | None = None, dataset_dir: str | Path | None = None
) -> dict[str, Callable[[], str | None]]:
    """The checks of a bundle, by name. They work on a copy of it and share what they build.

    Called, a check returns what it saw, raises `NotApplicable` (a test is skipped) where the bundle lacks what it is
    about, or another exception where the bundle doesn't conform.

    Args:
        path: the bundle's folder.
        settings: override settings of its configs, such as ``{"image_size": 32}``, and with ``_meta_#`` in front those
            of its metadata.
        dataset_dir: data in the bundle's own layout for inference and training; default synthetic data: those that an
            installed package has for the bundle's name, else images of the declared format as ``dataset#data``.

    Raises:
        ConfigError: when the path is no bundle.
    """
    scratch = tempfile.mkdtemp(prefix="conformance_")
    bundle = Bundle(path, settings or {}, dataset_dir, Path(scratch))
    found: dict[str, Callable[[], str | None]] = {
        name: functools.partial(_run, check, bundle) for name, check in _CHECKS.items()
    }
    weakref.finalize(bundle, shutil.rmtree, scratch, ignore_errors=True)
    return found


def conform(
    path: str | Path,
    expected: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    dataset_dir: str | Path | None = None,
) -> Iterator[Result]:
    """Run all checks of a bundle, quietly; one that fails doesn't stop the others.

    Args:
        path: as for `checks`.
        expected: name of a check → why its failure is expected.
        settings: as for `checks`.
        dataset_dir: as for `checks`.

    Raises:
        ConfigError: when the path is no bundle, or a failure of an unknown check is expected.
    """
    expected = dict(expected or {})
    unknown = [name for name in expected if name not in CHECKS]
    if unknown:
        raise ConfigError(f"no check {unknown[0]!r}; the checks are {', '.join(CHECKS)}")
    return _results(checks(path, settings, dataset_dir), expected)


def _results(found: Mapping[str, Callable[[], str | None]], expected: Mapping[str, str]) -> Iterator[Result]:
    for name, check in found.items():
        try:
            with _quiet():
                seen = check() or ""
        except NotApplicable as reason:
            yield Result(name, "not applicable", str(reason))
        except (Exception, SystemExit) as error:
            if debugging():
                traceback.print_exc()
            said = str(error) if type(error) is AssertionError else describe(error)[0]
            if name in expected:
                yield Result(name, "expected failure", f"{expected[name]} ({said})")
            else:
                yield Result(name, "failed", said)
        else:
            yield Result(name, "passed", f"though expected to fail: {expected[name]}" if name in expected else seen)


def _run(check: Callable[[Bundle], str | None], bundle: Bundle) -> str | None:
    with bundle.at_home():
        return check(bundle)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the logs, warnings and progress bars of what is run: a check's result is one line."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(level)
