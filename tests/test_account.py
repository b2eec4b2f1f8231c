# SPDX-License-Identifier: Apache-2.0
"""A running account against sums that are known, however the readings come in pieces and processes end and begin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import S, channel

from powersample.analysis.account import STALE_S, Account
from powersample.model import SAMPLE_DTYPE, Kind

POWER = channel()
USAGE = channel("gpu0.power.usage")
COUNTER = channel("gpu0.energy", Kind.ENERGY, sensor="nvml.total_energy")
RAPL = channel("package-0.energy", Kind.ENERGY, "package-0", "package", modulus=262_143_000, lane="rapl:package-0")
PERF = channel("package-0.energy", Kind.ENERGY, "package-0", "package", lane="rapl:package-0")
PERIOD = {"rapl:package-0": S // 10}
UNIX_S, BOOTED_S = 1_000_000.0, 900_000.0  # this machine has slept


def records(t_s, raw, status=0):
    made = np.zeros(len(t_s), SAMPLE_DTYPE)
    made["t1_ns"] = made["t0_ns"] = np.rint(np.asarray(t_s) * S)
    made["raw"], made["status"] = raw, status
    return made


def account(*pieces, kept=None):
    made = Account(UNIX_S, kept, BOOTED_S)
    for one in pieces:
        made.add([one], PERIOD)
    return made


def only(made, at_s):
    (one,) = made.balances(round(at_s * S))
    return one


TENTHS = np.arange(0, 10.05, 0.1)


def test_power_of_a_ramp_is_its_integral_and_its_newest_reading():
    got = only(account((POWER, records(TENTHS, 100e3 + 20e3 * TENTHS))), 10.0)
    assert got.joules == pytest.approx(100 * 10 + 20 * 10**2 / 2)
    assert got.power_w == pytest.approx(300.0)
    assert (got.name, got.domain, got.energy_from) == ("gpu0", "gpu", "gpu0.power.instant")
    assert got.created_unix_s == UNIX_S
    assert got.unseen_s == 0.0


@given(st.lists(st.integers(1, len(TENTHS) - 1), max_size=8))
def test_account_does_not_depend_on_how_readings_come_in_pieces(cuts):
    raw = np.cumsum(np.arange(len(TENTHS))) * 1000  # mJ: up to 1 kW
    for one in (POWER, RAPL, COUNTER):
        parts = zip(np.split(TENTHS, sorted(cuts)), np.split(raw, sorted(cuts)), strict=True)
        pieces = account(*((one, records(t, r)) for t, r in parts if len(t)))
        assert only(pieces, 10.0).joules == pytest.approx(only(account((one, records(TENTHS, raw))), 10.0).joules)


def test_counter_of_the_device_itself_is_shown_as_it_stands_and_begins_at_the_boot():
    got = only(account((COUNTER, records([1, 2, 3], [5_000_000, 5_100_000, 5_200_000]))), 3.0)
    assert got.joules == pytest.approx(5200.0)
    assert got.created_unix_s == BOOTED_S


def test_counter_of_the_device_that_goes_on_from_another_boot_began_with_that():
    """A beginning that moved would make all of it an increase of now."""
    before = account((COUNTER, records([1, 2], [5_000_000, 5_100_000])))
    made = Account(UNIX_S, before.as_json(), BOOTED_S + 1e6)
    made.add([(COUNTER, records([3, 4], [7_000, 8_000]))], PERIOD)
    assert only(made, 4.0).joules == pytest.approx(5108.0)
    assert only(made, 4.0).created_unix_s == BOOTED_S


def test_counter_of_the_device_that_the_driver_resets_goes_on_from_what_it_had():
    got = only(account((COUNTER, records([1, 2, 3], [5_000_000, 5_100_000, 7_000]))), 3.0)
    assert got.joules == pytest.approx(5107.0)


def test_counter_that_wraps_counts_on():
    raw = (RAPL.modulus - 250_000 + np.arange(11) * 50_000) % RAPL.modulus
    assert np.any(np.diff(raw) < 0)
    got = only(account((RAPL, records(np.arange(11) / 10, raw))), 1.0)
    assert got.joules == pytest.approx(500.0)
    assert got.unseen_s == 0.0


@pytest.mark.parametrize("stood_at", [1_000_000, 100_000_000, 200_000_000, 260_000_000])
@pytest.mark.parametrize("cuts", [(), (20, 21, 40)], ids=["at once", "in pieces"])
def test_counter_that_begins_again_adds_nothing_but_unseen_time(stood_at, cuts):
    """Below half a turn or above: no processor takes in a tenth of a second what a wrap from there would be."""
    raw = np.concatenate((stood_at + np.arange(21) * 5_000, np.arange(30) * 5_000))
    t_s = np.arange(51) / 10
    parts = zip(np.split(t_s, cuts), np.split(raw, cuts), strict=True)
    made = account(*((RAPL, records(t, r)) for t, r in parts))
    got = only(made, 5.0)
    assert got.joules == pytest.approx(49 * 5.0)
    assert got.unseen_s == pytest.approx(0.1)


def test_power_of_a_counter_that_began_again_is_absent_until_a_second_of_it_is_known():
    raw = np.concatenate((100_000_000 + np.arange(21) * 5_000, np.arange(15) * 5_000))
    made, told = account(), []
    for i, one in enumerate(raw):
        made.add([(RAPL, records([i / 10], [one]))], PERIOD)
        told.append(only(made, i / 10).power_w)
    assert told[20] == pytest.approx(50.0)
    assert told[21:31] == [None] * 10
    assert told[33] == pytest.approx(50.0)


def test_counter_that_may_have_turned_unseen_adds_nothing_but_unseen_time():
    """262 kJ at the 10 kW that nothing exceeds is a turn in 26 s: over 20 s nobody knows how many there were."""
    got = only(account((RAPL, records([0, 1, 21, 22], [0, 200_000, 50, 100_050]))), 22.0)
    assert got.joules == pytest.approx(300.0)
    assert got.unseen_s == pytest.approx(20.0)


def test_counter_without_a_modulus_that_falls_adds_nothing_but_unseen_time():
    got = only(account((PERF, records([0, 1, 2, 3], [9_000, 10_000, 500, 1_500]))), 3.0)
    assert got.joules == pytest.approx(2.0)
    assert got.unseen_s == pytest.approx(1.0)


def test_power_over_a_hole_is_unseen_and_not_filled_in():
    t_s = np.concatenate((np.arange(0, 3.05, 0.1), np.arange(8, 10.05, 0.1)))
    got = only(account((POWER, records(t_s, np.full(len(t_s), 100_000)))), 10.0)
    assert got.joules == pytest.approx(500.0)
    assert got.unseen_s == pytest.approx(5.0)


def test_power_that_is_read_seldom_has_no_holes():
    slow = channel(lane="slow")
    made = Account(UNIX_S)
    made.add([(slow, records([0, 10, 20, 30], [100_000] * 4))], {"slow": 10 * S})
    assert only(made, 30.0).joules == pytest.approx(3000.0)


@pytest.mark.parametrize(
    ("t_s", "status", "at_s"), [([1, 2, 3], 15, 3.0), ([1, 2, 3], 0, 3.0 + STALE_S + 0.01)], ids=["error", "stale"]
)
def test_power_in_error_or_stale_is_absent_and_the_energy_stays(t_s, status, at_s):
    good = records(np.arange(-3, 1.05, 0.1), [100_000] * 41)
    bad = records(t_s, [7] * 3, status)
    if status == 0:
        bad["raw"] = 100_000
    got = only(account((POWER, good), (POWER, bad)), at_s)
    assert got.power_w is None
    assert got.joules == pytest.approx(400.0 if status else 600.0, abs=60)


def test_power_falls_back_to_the_next_channel_that_answers():
    made = account((USAGE, records(TENTHS, [90_000] * 101)), (POWER, records(TENTHS, [0] * 101, 3)))
    got = only(made, 10.0)
    assert (got.power_w, got.power_from) == (90.0, "gpu0.power.usage")


def test_power_of_a_counter_is_its_mean_over_the_newest_second():
    raw = np.concatenate((np.zeros(50), np.cumsum(np.full(51, 20_000))))
    got = only(account(*((RAPL, records([t], [r])) for t, r in zip(TENTHS, raw, strict=True))), 10.0)
    assert got.power_w == pytest.approx(200.0)


def test_counter_wins_over_power_whichever_comes_first():
    early = (POWER, records([0, 0.1], [100_000, 100_000]))
    made = account(early, (COUNTER, records([0.2, 0.3], [1_000, 2_000])))
    assert only(made, 0.3).energy_from == "gpu0.energy"


def test_power_waits_for_a_counter_before_it_counts_and_then_has_all():
    made = account((COUNTER, records([0], [0], 3)), (POWER, records([0, 0.5], [100_000] * 2)))
    assert only(made, 0.5).joules is None
    made.add([(POWER, records([1.0, 1.5, 2.0], [100_000] * 3))], {})
    assert only(made, 2.0).joules == pytest.approx(200.0)


def test_other_quantities_are_no_energy():
    assert account((channel("gpu0.temperature", Kind.AUX), records([0], [40]))).balances(0) == []


def restarted(made, *pieces):
    return account(*pieces, kept=made.as_json())


def test_restart_goes_on_and_counts_the_time_between_as_unseen():
    before = account((RAPL, records([0, 1], [0, 100_000])))
    got = only(restarted(before, (RAPL, records([31, 32], [900_000, 950_000]))), 32.0)
    assert got.joules == pytest.approx(150.0)
    assert got.unseen_s == pytest.approx(30.0)
    assert got.created_unix_s == UNIX_S


def test_restart_of_a_devices_own_counter_has_what_happened_between():
    before = account((COUNTER, records([0, 1], [5_000_000, 5_100_000])))
    got = only(restarted(before, (COUNTER, records([31], [8_000_000]))), 31.0)
    assert got.joules == pytest.approx(8000.0)
    assert got.unseen_s == 0.0


def test_restart_after_the_devices_own_counter_was_reset_goes_on_from_what_it_had():
    before = account((COUNTER, records([0, 1], [5_000_000, 5_100_000])))
    got = only(restarted(before, (COUNTER, records([31], [8_000]))), 31.0)
    assert got.joules == pytest.approx(5108.0)


def test_battery_that_is_charged_takes_nothing_back():
    """A counter that falls is read as one that began anew: its whole sum would be counted again."""
    battery = channel("battery.power", device="battery", domain="battery")
    made = account((battery, records(TENTHS, np.where(TENTHS < 5, 10e3, -10e3))))
    assert only(made, 10.0).joules == pytest.approx(50.0, abs=1.0)
    assert only(made, 10.0).power_w == pytest.approx(-10.0)


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), min_size=1, max_size=6))
def test_energy_never_falls_over_readings_resets_and_restarts(lives):
    """Whatever a counter says, with a process ended and begun between each list of readings."""
    shown, kept, at_s = 0.0, None, 0.0
    for raw in lives:
        made = Account(UNIX_S, kept, BOOTED_S)
        for value in raw:
            at_s += 0.1
            made.add([(COUNTER, records([at_s], [value]))], {})
            assert only(made, at_s).joules >= shown - 1e-9
            shown = only(made, at_s).joules
        kept = made.as_json()


def test_device_that_is_gone_for_a_while_keeps_its_account():
    before = account((RAPL, records([0, 1], [0, 100_000])), (POWER, records([0, 1, 2.5], [100_000] * 3)))
    between = restarted(before, (POWER, records([40, 41, 42.5], [100_000] * 3)))
    last = restarted(between, (RAPL, records([81, 82], [0, 1_000])))
    assert only(last, 82.0).joules == pytest.approx(101.0)
