# SPDX-License-Identifier: Apache-2.0
"""Numbers and durations as people read them: no exponent, the digits asked for, the unit that suits."""

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from powersample.model import amount, duration
from powersample.report.table import interval, number

SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SIZES = st.floats(1e-9, 1e15) | st.floats(-1e15, -1e-9)


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (1000.0, 3, "1,000"), (999.6, 3, "1,000"), (999.4, 3, "999"), (12345.6, 3, "12,346"), (12.5, 3, "12.5"),
        (1.50, 3, "1.5"), (0.000123456, 3, "0.000123"), (0.0, 3, "0"), (-0.0, 3, "0"), (-1500.0, 2, "-1,500"),
        (100.0, 2, "100"), (99.6, 2, "100"), (2e-5, 2, "0.00002"), (math.nan, 3, "nan"), (math.inf, 3, "inf"),
        (1e-300, 3, "1e-300"),
    ],
)  # fmt: skip
def test_amount_of_a_known_number(value, digits, written):
    assert amount(value, digits) == written


@pytest.mark.parametrize(("value", "written"), [(2.0, "+2"), (0.0, "+0"), (-1234.0, "-1,234")])
def test_signed_amount_has_a_sign_always(value, written):
    assert amount(value, signed=True) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (1.0, "1 s"), (0.9996, "1 s"), (0.0125, "12.5 ms"), (0.001, "1 ms"), (2.5e-5, "25 us"), (3e-9, "3 ns"),
        (59.96, "60 s"), (119.0, "119 s"), (1600.0, "26.7 min"), (7200.0, "2 h"), (0.0, "0 s"), (-0.25, "-250 ms"),
        (math.inf, "inf s"),
    ],
)  # fmt: skip
def test_duration_is_in_the_unit_that_suits_it(seconds, written):
    assert duration(seconds) == written


@given(SIZES, st.integers(1, 6))
def test_amount_is_as_near_as_its_digits_tell_and_has_no_exponent(value, digits):
    written = amount(value, digits)
    assert re.fullmatch(r"-?\d{1,3}(,\d{3})*(\.\d*[1-9])?", written)
    assert math.isclose(float(written.replace(",", "")), value, rel_tol=0.51 * 10 ** (1 - digits))


@given(st.floats(1e-9, 1e9), st.integers(2, 5))
def test_duration_is_as_near_as_its_digits_tell(seconds, digits):
    written, unit = duration(seconds, digits).split(" ")
    size = float(written.replace(",", ""))
    assert math.isclose(size * SECONDS[unit], seconds, rel_tol=0.51 * 10 ** (1 - digits))
    assert size < 1000 or unit == "h"
    assert size >= 1


@given(SIZES)
def test_numbers_of_tables_have_no_exponent(value):
    assert re.fullmatch(r"-?\d+(\.\d+)?", number(value))


@given(st.floats(1e-6, 1e9), st.floats(0, 1e3), st.floats(0, 1e3))
@example(1.0, 0.0, 2.0**-52)
def test_interval_in_percent_has_no_exponent(joules, below, above):
    written = interval({"joules": joules, "low_j": joules * (1 - below), "high_j": joules * (1 + above)})
    assert written.endswith(" %")
    assert "e" not in written
