"""Pictures hold what they are given, and refuse what does not fit together."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from distgan.metrics.pictures import SheetCaption, SheetRow, caption_sheet, lit, word_rewards

WORDS = ["a", "nice", "red", "$cat$", "<end>"]
IMAGE = np.full((16, 16, 3), (200, 40, 10), np.uint8)


def attention(words, rows=2, columns=2):
    found = np.zeros((words, rows, columns))
    found[:, 0, 0] = 1
    return found


def texts(figure):
    FigureCanvasAgg(figure).draw()  # so that what cannot be drawn fails here
    return [text.get_text() for text in figure.texts]


def test_a_sheet_says_captions_words_and_rewards():
    mle = SheetCaption("MLE", WORDS[:3], attention(3))
    adversarial = SheetCaption(
        "adversarial", WORDS, attention(5), np.linspace(-1, 1, 5), note="positive"
    )
    figure = caption_sheet(
        [
            SheetRow(IMAGE, [mle, adversarial], "test-7", ["a red cat"]),
            SheetRow(IMAGE, [mle, SheetCaption("adversarial", WORDS)]),
        ]
    )
    said = texts(figure)
    assert said.count("MLE") == 2 and said.count("adversarial") == 2
    assert "a nice red" in said and "a nice red $cat$ <end>    positive" in said
    assert "test-7" in said and "reference  a red cat" in said
    assert [text for text in said if text[0] in "+-"] == [
        "-1.00",
        "-0.50",
        "+0.00",
        "+0.50",
        "+1.00",
    ]
    # An image a row and an overlay a word with attention.
    assert len(figure.axes) == 2 + 3 + 5 + 3


def test_nothing_lies_outside_or_upon_another():
    rows = [SheetRow(IMAGE, [SheetCaption("m", WORDS * 4, attention(20))] * 2, "t")] * 3
    boxes = [axes.get_position() for axes in caption_sheet(rows).axes]
    assert all(0 <= b.x0 < b.x1 <= 1 and 0 <= b.y0 < b.y1 <= 1 for b in boxes)
    for n, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:n])


def test_a_caption_of_no_words_is_drawn():
    empty = SheetCaption("MLE", [], np.zeros((0, 2, 2)), np.zeros(0))
    assert "MLE" in texts(caption_sheet([SheetRow(IMAGE, [empty])]))


def test_equal_rewards_are_drawn():
    same = SheetCaption("MLE", WORDS, None, np.full(5, 0.25))
    assert texts(caption_sheet([SheetRow(IMAGE, [same])])).count("+0.25") == 5


def test_looked_at_places_keep_their_colours():
    seen = lit(IMAGE, attention(1)[0])
    assert seen.shape == IMAGE.shape and seen.dtype == np.uint8
    assert np.array_equal(seen[0, 0], IMAGE[0, 0])
    grey = seen[-1, -1].astype(int)
    assert np.ptp(grey) < 5 and abs(grey[0] - 128) < 30
    assert np.array_equal(lit(IMAGE, np.full((7, 7), 1 / 49)), IMAGE)


def test_rewards_of_a_caption():
    q, baseline = np.linspace(0, 1, 5), np.zeros(5)
    figure = word_rewards(WORDS, q, baseline, q - 0.5)
    FigureCanvasAgg(figure).draw()
    upper, lower = figure.axes
    assert np.array_equal(upper.lines[0].get_ydata(), q)
    assert np.array_equal(upper.lines[1].get_ydata(), baseline)
    assert [bar.get_height() for bar in lower.patches] == pytest.approx(q - 0.5)
    assert [label.get_text() for label in lower.get_xticklabels()] == WORDS


def test_numbers_that_do_not_fit_the_words_are_refused():
    with pytest.raises(ValueError, match="5 words need as many numbers each, got q 4"):
        word_rewards(WORDS, np.zeros(4), np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match="attention of 3 words for 5 words"):
        SheetCaption("MLE", WORDS, attention(3))
    with pytest.raises(ValueError, match="one image or more"):
        caption_sheet([])
