"""Batches on their way to the network's threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from monai_ext.inferers.streaming import steps


@pytest.mark.parametrize("raises", [True, False], ids=["failure", "break"])
def test_no_batch_begins_after_a_failure_or_a_break(raises, monkeypatch):
    left, begun = threading.Event(), []

    class Held(ThreadPoolExecutor):
        """The batches but the first go on when it is left."""

        def shutdown(self, wait=True, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            left.set()
            super().shutdown(wait=wait)

    def predictor(batch):
        begun.append(int(batch))
        if not batch:
            if raises:
                raise ZeroDivisionError
            return {}
        assert left.wait(60)
        return {}

    monkeypatch.setattr(steps, "ThreadPoolExecutor", Held)
    answers = steps.predicted([steps.Windows(torch.tensor(number), []) for number in range(9)], predictor)
    if raises:
        with pytest.raises(ZeroDivisionError):
            next(answers)
    else:
        next(answers)
        answers.close()
    # The thread of the first batch may have taken another one.
    assert set(begun) <= {0, 1}
