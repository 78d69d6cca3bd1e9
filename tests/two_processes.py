"""Two processes, forked from a clean one that has imported everything: that takes longer than what they then do."""

import multiprocessing

import torch.multiprocessing

PRELOADED = ["monai.bundle", "monai.engines", "monai.transforms", "monai_ext.handlers", "monai_ext.predictions"]


def clean_context():
    """A context of `multiprocessing` whose processes inherit nothing but imported modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_two(function, *arguments):
    """Call ``function(rank, *arguments)`` in two processes; an error in one is raised here."""
    clean_context()
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")
