"""The twenty faults of faults.py can still be applied: each names a text that stands once in its file."""

from pathlib import Path

import pytest
from faults import FAULTS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_applied(fault):
    assert (ROOT / fault.file).read_text().count(fault.right) == 1


def test_there_are_twenty():
    assert len({fault.name for fault in FAULTS}) == 20
