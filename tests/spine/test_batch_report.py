import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from monai_ext.pages.style import COLOURS
from monai_ext.spine.overlay import overlay_figure
from monai_ext.spine.report import write_batch_report


def drawn(figure):
    """Pixels (Y, X, 3) from 0 to 1."""
    figure.set_dpi(100)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def has_colour(picture, colour):
    return bool((np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.02).any())


@pytest.mark.parametrize("filled", [(True, True), (True, False), (False, True)], ids=["both", "cord", "lesion"])
def test_each_mask_that_has_something_is_outlined_in_its_colour(filled):
    image = np.random.default_rng(0).random((20, 30))
    masks = {"cord": np.zeros((20, 30), bool), "lesion": np.zeros((20, 30), bool)}
    masks["cord"][:, 5:12] = filled[0]  # touches the edges
    masks["lesion"][6:9, 7:9] = filled[1]
    picture = drawn(overlay_figure(image, masks))
    above_legend = picture[: int(0.8 * len(picture))]
    assert tuple(has_colour(above_legend, colour) for colour in COLOURS[:2]) == filled
    assert not any(has_colour(above_legend[:, : picture.shape[1] // 2 - 10], colour) for colour in COLOURS[:2])


def test_pixels_keep_their_aspect_and_names_may_hold_anything():
    image = np.zeros((10, 10))
    high, wide = (overlay_figure(image, {}, "a_$b\\c", aspect=aspect) for aspect in (2.0, 0.5))
    assert wide.get_figwidth() > high.get_figwidth()
    for figure in (high, wide):
        drawn(figure)


def report_of(*series, problems=()):
    return {
        "bundle": "spinal_cord_cascade",
        "dataset_dir": "/data",
        "started": "2026-01-01 10:00:00",
        "finished": "2026-01-01 10:01:00",
        "status": "finished",
        "settings": {"vote": "mean"},
        "stages": {"lesion": "model.ts"},
        "counts": {"series": len(series), "admitted": 0, "refused": 0, "broken": 0, "problems": len(problems)},
        "series": list(series),
        "problems": list(problems),
    }


def test_names_from_files_can_not_become_markup(tmp_path):
    refused = {"patient": "<script>alert(1)</script>", "series": "a&b", "status": "refused", "reason": "is <b>"}
    broken = {"path": "<img src=x>.dcm", "message": "is damaged", "severity": "error"}
    page = write_batch_report(tmp_path, report_of(refused, problems=[broken])).read_text()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)
    parser.feed(page)
    assert not {"script", "img", "b"} & set(tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;/a&amp;b" in page


def test_an_empty_batch_has_a_report_and_nothing_is_fetched_from_outside(tmp_path):
    page = write_batch_report(tmp_path, report_of()).read_text()
    assert "Not for clinical use" in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
