"""Cards and configurations of other formats than today's."""

import re

import pytest
import torch
import yaml
from commands import run

from seg_det.errors import UserError
from seg_det.migrations import CARD_STEPS, CONFIG_STEPS, FORMAT, marked, upgraded
from seg_det.types import Category, ModelCard

CARD = ModelCard("detection", "x", {}, {}, (Category(1, "cat"),), (64, 64), (0, 0, 0), (1, 1, 1))


def test_every_format_has_its_step():
    assert set(CARD_STEPS) == set(CONFIG_STEPS) == set(range(1, FORMAT))


def test_a_card_carries_the_present_format_and_comes_back():
    plain = CARD.replace(score_thresholds=(0.25,)).to_dict()
    assert plain["format"] == FORMAT
    assert ModelCard.from_dict(plain).score_thresholds == (0.25,)


def test_a_card_without_a_number_is_of_the_first_format():
    plain = {key: value for key, value in CARD.to_dict().items() if key not in ("format", "score_thresholds")}
    assert ModelCard.from_dict(plain) == CARD


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            FORMAT + 1,
            rf"was written by a later version of seg_det \(format {FORMAT + 1}, this one reads up to {FORMAT}\)",
        ),
        (0, "has the format '0', which is no format number"),
        (True, "has the format 'True', which is no format number"),
        ("2", "has the format '2', which is no format number"),
    ],
)
def test_numbers_that_cannot_be_read(number, sentence):
    with pytest.raises(UserError, match=f"^The card of x.ckpt {sentence}"):
        ModelCard.from_dict({**CARD.to_dict(), "format": number}, "The card of x.ckpt")


def test_the_present_format_replaces_any_other_number():
    assert marked({"format": 7, "seed": 0}) == {"format": FORMAT, "seed": 0}


def test_a_configuration_of_the_first_format_gets_what_it_lacks():
    old = {"data": {"size": 64}, "seed": 0}
    assert upgraded(old, CONFIG_STEPS, "x")["data"] == {"size": 64, "max_pixels": None}
    assert upgraded(marked(old), CONFIG_STEPS, "x") == old
    assert old == {"data": {"size": 64}, "seed": 0}


def test_a_run_of_a_later_version_says_so(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(
        {"card": {**CARD.to_dict(), "format": FORMAT + 1}, "state_dict": {}}, folder / "checkpoints" / "best.ckpt"
    )
    (folder / "config.yaml").write_text(yaml.safe_dump({"format": FORMAT + 1}))
    for command in ("evaluate", "export"):
        done = run(tmp_path, command, "model=run", check=False)
        assert done.returncode == 1
        assert re.search(
            r"^error: The card of run/checkpoints/best.ckpt was written by a later version", done.stderr, re.M
        )
