"""Published and derived sizes of whole models, from the code's own counter."""

from functools import partial

import pytest

from seg_det.metrics.complexity import count
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.ssdlite import SSDLite


@pytest.mark.parametrize(
    ("width", "outputs", "params", "without_norm", "gmadds"),
    [
        (1.0, 81, 4_337_013, 4_286_261, 0.7888),  # MobileNetV2 table 6: 4.3 M, 0.8 B
        (0.5, 91, 1_562_111, 1_536_527, 0.2723),  # MobileNetV3 table 6: 1.54 M, 0.27 B
        (0.35, 91, 947_709, 929_531, 0.1667),  # MobileNetV3 table 6: 0.93 M, 0.16 B
    ],
)
def test_ssdlite_at_320(width, outputs, params, without_norm, gmadds):
    cost = count(SSDLite(partial(MobileNetV2, width=width), num_classes=outputs - 1, width=width), (320, 320))
    assert cost.params == params
    assert cost.params_without_norm == without_norm
    assert cost.madds / 1e9 == pytest.approx(gmadds, abs=5e-5)


def test_ssdlite_predictors_and_extras_alone():
    # MobileNetV2 table 5 counts the heads and extra maps: 2.1 M
    model = SSDLite(MobileNetV2, num_classes=80)
    heads = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("backbone."))
    assert heads / 1e6 == pytest.approx(2.1, abs=0.05)
