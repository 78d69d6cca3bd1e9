"""Contact sheets of prepared inputs."""

from itertools import combinations

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from monai_ext.data.shown_inputs import shown_inputs
from monai_ext.reports.contact_sheet import _OUTLINE, contact_sheet
from monai_ext.reports.mosaic import TILE


class Marked:
    """Data of one slice with its mask at the left, or after the augmentation at the right."""

    def __init__(self, items, columns):
        self.data, self.columns, self.transform = items, columns, None

    def set_data(self, items):
        self.data = items

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        label = torch.zeros(1, 32, 32)
        label[:, 10:20, self.columns] = 1
        return {"image": torch.rand(1, 32, 32), "label": label}


class Noise(Marked):
    """As in `Marked`, without a mask."""

    def __getitem__(self, index):
        return {"image": torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(index))}


def test_no_text_of_small_images_runs_over_the_next_column():
    items = [{"case": f"BraTS2021_{number:05d}_WXYZ", "image": "a.png", "label": number % 2} for number in range(12)]
    shown = shown_inputs(Noise(items, None), Noise(items, None), items, ["GLIOBLASTOMA", "low grade glioma"])
    figure = contact_sheet(shown)
    FigureCanvasAgg(figure)
    captions = [text for text in figure.axes[0].texts if "augmented" in text.get_text() or ":" in text.get_text()]
    assert len(captions) == 24
    boxes = [text.get_window_extent() for text in captions]
    assert not [
        (first.get_text(), second.get_text())
        for (first, box), (second, other) in combinations(zip(captions, boxes, strict=True), 2)
        if box.overlaps(other)
    ]
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_masks_are_outlined_without_and_with_augmentation():
    items = [{"case": "a", "image": "a.png"}]
    (shown,) = shown_inputs(Marked(items, slice(2, 10)), Marked(items, slice(22, 30)), items)
    (picture,) = contact_sheet([shown]).axes[0].get_images()
    pixels = np.asarray(picture.get_array())[..., :3]
    rows, columns = np.nonzero(np.isclose(pixels, _OUTLINE, atol=0.01).all(axis=-1))
    above, below = columns[rows < rows.min() + TILE], columns[rows > rows.min() + TILE]
    middle = columns.min() + (columns.max() - columns.min()) / 2
    assert len(above)
    assert len(below)
    assert above.max() < middle < below.min()
