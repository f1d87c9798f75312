"""What cannot work is said in one line that names key and value, before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_captioning import JOINT, TEXT_CRITIC, tiny

from distgan.methods.training import check

CONFIG = {  # said when the config is read
    "method.baseline=leave_one_out": "method.baseline=leave_one_out needs method.captions",
    "method.rollouts=0": "method.baseline=prefix needs method.rollouts of at least 1, got 0",
    "method.generator.max_length=1": "method.generator.max_length must be at least 2, got 1",
    "method.encoder.learns=false": "method.encoder.weights=random needs method.encoder.learns",
    "method.critic.sees_image=false": "heads=separate needs method.critic.sees_image=true",
    "method.critic.penalty=10": "method.critic.penalty=10.0 needs method.critic.loss=wasserstein",
    "method.pool=-1": "method.pool must be at least 0, got -1",
    "init_networks=[generator]": r"init_networks=\('generator',\) needs init_from",
}
DATA = {  # said when the data are opened
    "data.style=angry": "data.style must be all, a text file or one of .*, got 'angry'",
    "data.style=nowhere.txt": r"data.style=nowhere.txt: text file nowhere.txt does not exist",
    "data.styled_split=nowhere": "has no split 'nowhere'",
    "method.images=nowhere": "has no split 'nowhere'",
}


@pytest.mark.parametrize("word", CONFIG)
def test_a_config_that_contradicts_itself(word, shapes):
    with pytest.raises(ValueError, match=CONFIG[word]):
        tiny(shapes, word)


def test_a_pretrained_resnet_does_not_learn(shapes):
    words = ("method.encoder.name=resnet18", "method.encoder.weights=imagenet")
    with pytest.raises(ValueError, match=r"encoder\.learns=true needs .*random, got 'imagenet'"):
        tiny(shapes, *words)


@pytest.mark.parametrize("word", DATA)
def test_data_that_are_not_there(word, shapes):
    with pytest.raises(ValueError, match=DATA[word]):
        check(tiny(shapes, word), 1)


def test_a_dataset_without_styles(plain):
    with pytest.raises(ValueError, match=r"data.style=all: .*plain has no styles"):
        check(tiny(plain), 1)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "grand.txt"
    path.write_text("a most splendid circle\n\n  behold the square of squares\n")
    return path


def test_a_critic_of_pairs_without_pairs(shapes, lines):
    given = (f"data.style={lines}", "method.text_weight=1", "method.factual_weight=0")
    said = r"method.critic.heads=joint with sees_image=True needs images .* grand.*heads=separate"
    with pytest.raises(ValueError, match=said):
        check(tiny(shapes, *given, *JOINT), 1)
    check(tiny(shapes, *given, *TEXT_CRITIC), 1)


def test_a_style_with_nothing_to_learn_it_from(shapes, lines):
    given = (f"data.style={lines}", "method.text_weight=0", "method.factual_weight=0")
    with pytest.raises(ValueError, match=r"nothing to learn the style from.*text_weight=0\.0"):
        check(tiny(shapes, *given), 1)


def test_a_text_file_named_like_a_style(shapes, tmp_path):
    for name in ("positive", "factual"):
        path = tmp_path / f"{name}.txt"
        path.write_text("so nice\n")
        with pytest.raises(ValueError, match=f"the data have a style '{name}' already"):
            check(tiny(shapes, f"data.style={path}"), 1)


def test_a_text_file_without_lines(shapes, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty.txt: no lines"):
        check(tiny(shapes, f"data.style={tmp_path / 'empty.txt'}"), 1)


@pytest.mark.parametrize(("workers", "accumulate"), [(1, 7), (7, 1), (2, 4)])
def test_a_batch_that_cannot_be_shared(workers, accumulate, shapes):
    said = (
        rf"a batch of 6 from discriminator/\w+ is too small for .*workers={workers} .*={accumulate}"
    )
    with pytest.raises(ValueError, match=said):
        check(tiny(shapes, f"engine.accumulate={accumulate}"), workers)


def test_a_stage_that_is_not_there(shapes):
    with pytest.raises(ValueError, match="stages: 'warmup' is not one of factual, style, critic"):
        check(tiny(shapes, "stages=[warmup]"), 1)


def test_a_start_that_is_not_there(shapes, tmp_path):
    with pytest.raises(ValueError, match=rf"init_from={tmp_path}: .* is neither a checkpoint nor"):
        check(tiny(shapes, f"init_from={tmp_path}"), 1)
