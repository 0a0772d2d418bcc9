"""Altered cards, sidecars and configurations run nothing: a few hundred here, 10,000 where there is time."""

import pytest
from fuzz_cards import KINDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_altered_files_end_in_success_or_one_sentence(kind):
    pytest.importorskip("onnxruntime")
    outcomes, _, _ = fuzz([kind], 100)
    assert sum(outcomes[kind].values()) == 100
    assert outcomes[kind]["refused"] > 40 and outcomes[kind]["used"] > 5  # both sides of the border are reached


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_altered_files():
    pytest.importorskip("onnxruntime")
    outcomes, _, _ = fuzz(KINDS, 500, seed=1)
    assert sum(sum(found.values()) for found in outcomes.values()) == 2_000
