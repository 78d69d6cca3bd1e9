"""How a check ends when it doesn't pass."""

from __future__ import annotations

import unittest


class NotApplicable(unittest.SkipTest):
    """The bundle lacks what the check is about; the message says what. pytest and unittest skip the test."""


def demand(condition: object, message: str) -> None:
    """Fail a check.

    Args:
        condition: what has to hold.
        message: what was found instead.

    Raises:
        AssertionError: with the message.
    """
    if not condition:
        raise AssertionError(message)
