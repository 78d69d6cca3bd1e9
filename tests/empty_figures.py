"""Figures that are saved empty, where rendering isn't what is tested: it takes longer than a small training."""


def save_empty(replace=setattr):
    """From now on in this process, or for as long as ``replace``, such as ``monkeypatch.setattr``, says."""
    from matplotlib.figure import Figure

    savefig = Figure.savefig
    replace(Figure, "savefig", lambda _, file, **options: savefig(Figure((1, 1)), file, **options))
