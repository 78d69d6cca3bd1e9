"""Conformance of any MONAI bundle: what other programs rely on, one check each.

A bundle's own test takes the checks one by one (a check that doesn't apply skips the test)::

    @pytest.mark.parametrize("name", CHECKS)
    def test_conforms(name):
        checks("path/of/the/bundle")[name]()

`conform` runs them all and takes expected failures with their reasons; ``python -m monai_ext conform PATH`` prints what
it found. The form is that of scikit-learn's ``parametrize_with_checks`` and ``check_estimator``.
"""

from monai_ext.conformance.suite import CHECKS, Result, checks, conform
from monai_ext.conformance.verdicts import NotApplicable

__all__ = ["CHECKS", "NotApplicable", "Result", "checks", "conform"]
