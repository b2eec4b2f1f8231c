# SPDX-License-Identifier: Apache-2.0
"""What a calibration is: it comes back from JSON as it was, and its models are what their terms say."""

import json

import numpy as np
import pytest

from powersample import errors
from powersample.model import Calibration, LinearModel, OperatingPoint

POINT = OperatingPoint(
    "primes 50 %", "primes", 0.5, {"cpu": 200.0, "gpu": 120.0}, {"cpu": 1.0, "gpu": 0.5}, 1130.0, 0.3
)
MODEL = LinearModel(
    kind="node",
    groups=("cpu", "gpu"),
    terms=("1", "cpu", "gpu", "sum^2"),
    coefficients=(700.0, 1.1, 1.05, 2e-5),
    covariance=tuple(map(tuple, np.diag([4.0, 1e-4, 1e-4, 1e-12]).tolist())),
    misfit_w=3.0,
    free=9,
    leave_one_out_max_pct=0.9,
    leave_one_out_p95_pct=0.7,
)
FOUND = Calibration(
    points=(POINT,),
    groups=("cpu", "gpu"),
    p_idle_w=783.0,
    p_idle_u_w=2.0,
    p_busy_w={"primes": (811.0, 2.0)},
    affine=None,
    node=MODEL,
    best="node",
    hull_w={"cpu": (100.0, 700.0), "gpu": (200.0, 1200.0), "sum": (300.0, 1900.0)},
    accuracy_w=2.0,
    accuracy_pct=0.2,
    accepted=True,
    reasons=("PSQ-CAL-SHEET: for the test",),
    host={"name": "a"},
)


def test_calibration_comes_back_from_json_as_it_was():
    text = json.dumps(FOUND.as_json(), allow_nan=False)
    again = Calibration.from_json(json.loads(text))
    assert again.as_json() == FOUND.as_json()
    assert again.node == MODEL
    assert np.isnan(again.points[0].duration_s)
    assert json.loads(text)["leave_one_out_max_pct"] == 0.9


@pytest.mark.parametrize("damage", [{"points": 3}, {"p_busy_w": {"primes": 811.0}}, {"node": {"kind": "node"}}, None])
def test_calibration_of_damaged_json_is_refused(damage):
    data = FOUND.as_json() | damage if damage else {}
    with pytest.raises(errors.BadFormat, match=r"no (calibration|operating point|model)"):
        Calibration.from_json(data)


def test_model_predicts_what_its_terms_say_for_arrays_and_one_instant():
    cpu, gpu = np.array([100.0, 300.0]), np.array([200.0, 900.0])
    watts, u_w = MODEL.predict({"cpu": cpu, "gpu": gpu, "dram": cpu})
    total = cpu + gpu
    np.testing.assert_allclose(watts, 700 + 1.1 * cpu + 1.05 * gpu + 2e-5 * total**2)
    np.testing.assert_allclose(u_w, np.sqrt(4 + 1e-4 * (cpu**2 + gpu**2) + 1e-12 * total**4))
    one, _ = MODEL.predict({"cpu": 100.0, "gpu": 200.0})
    assert one == watts[0]


def test_model_without_a_group_of_its_own_refuses():
    with pytest.raises(errors.InvalidArgument, match="power of gpu"):
        MODEL.predict({"cpu": 100.0})


def test_point_tells_what_nobody_captured():
    assert POINT.uncaptured_w == 1130.0 - 320.0
    assert FOUND.bounds_w == (783.0, 811.0)


def test_outside_says_by_how_much_and_of_what():
    assert FOUND.outside({"cpu": 300.0, "gpu": 700.0}) == {}
    assert FOUND.outside({"cpu": 90.0, "gpu": 1300.0}) == {"cpu": 10.0, "gpu": 100.0}
