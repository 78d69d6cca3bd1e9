import ignite.distributed as idist
import pytest
import torch.distributed as dist

from monai_ext.errors import DataError
from monai_ext.handlers.lost_rank import lost_rank

GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:15571: Connection reset by peer.")


@pytest.mark.parametrize("error", [GLOO, dist.DistBackendError("remote process exited")], ids=["gloo", "nccl"])
def test_a_process_that_has_died_is_one_sentence_with_the_way_on(error, monkeypatch):
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    assert "another of the 2 processes has ended" in str(lost_rank(error))
    assert "--resume auto" in str(lost_rank(error))


def test_other_errors_stay_what_they_are(monkeypatch):
    assert lost_rank(GLOO) is None  # a single process has no other
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    assert lost_rank(RuntimeError("shape mismatch")) is None
    assert lost_rank(DataError("connection reset by peer.nii.gz: is empty")) is None
    assert lost_rank(KeyboardInterrupt()) is None
