# SPDX-License-Identifier: Apache-2.0
"""What is asked for by names: all devices together, and every window of a name at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import S, channel, polls, series

from powersample.analysis import energies, energies_in, energy, relative, total, totals
from powersample.analysis.primary import Measured
from powersample.errors import InvalidArgument, PowerSampleError
from powersample.model import BudgetTerm, Energy, Response, SensorModel, Series, Trace, Window

MODEL = SensorModel(Response.CONTIGUOUS, 0.1, 0.1, gain_sd=0.04, offset_sd_w=2.0).as_json()
WATTS = {"gpu0": 100, "gpu1": 200, "package-0": 50}
STEPS = tuple(Window("step", i * 2 * S, i * 2 * S + S) for i in range(2, 12))
WINDOWS = (Window("run", 2 * S, 28 * S), *STEPS)


def recording(windows=WINDOWS, watts=WATTS, empty=()):
    """Devices that draw a constant power each, all with one sensor's gain and offset."""
    t_ns = polls(0, 30, 10)
    parts = []
    for name, each_w in watts.items():
        domain = "package" if name.startswith("package") else "gpu"
        one = channel(f"{name}.power.instant", device=name.upper(), domain=domain)
        parts.append(Series.empty(one) if name in empty else series(one, t_ns, np.full(len(t_ns), each_w * 1000)))
    models = {f"{name}.power.instant": MODEL for name in watts}
    return Trace.of(parts, windows=windows, meta={"sensor_models": models})


def half_j(joules, seconds):
    return np.hypot(0.04 * 1.96 * joules, 2 * 1.96 * seconds)


# ---- all together ----------------------------------------------------------------------------------------------


def test_total_is_the_sum_of_all_devices_with_their_errors_in_quadrature():
    found = energy(recording(), "run", "total")
    assert found.joules == pytest.approx(350 * 26)
    expected_j = np.hypot.reduce([half_j(each_w * 26, 26) for each_w in WATTS.values()])
    assert found.high_j - found.joules == pytest.approx(expected_j, rel=0.02)
    assert str(found).startswith("total over 'run': 9100.0 J (95 %: 86")
    assert found.method == "sum of gpu0.power.instant, gpu1.power.instant, package-0.power.instant"
    assert (found.device, found.domain) == ("total", "gpu+package+dram")


def test_total_says_the_same_as_the_report():
    trace, window = recording(), Window("w", 3 * S, 7 * S)
    report = totals(energies_in(trace, window), window)
    found = energy(trace, window, "total")
    assert (found.joules, found.low_j, found.high_j, found.verdict) == tuple(
        report[key] for key in ("joules", "low_j", "high_j", "verdict")
    )
    assert report["joules"] == pytest.approx(report["gpu_j"] + report["cpu_j"])


def test_total_of_a_domain_is_that_of_all_its_devices():
    trace = recording()
    assert energy(trace, "run", "total", domain="gpu").joules == pytest.approx(300 * 26)
    assert energy(trace, "run", "total", domain="package").joules == pytest.approx(50 * 26)
    with pytest.raises(InvalidArgument, match="no dram energy"):
        energy(trace, "run", "total", domain="dram")
    with pytest.raises(InvalidArgument, match="no total of 'wall'"):
        energy(trace, "run", "total", domain="wall")


def test_total_with_a_device_that_tells_nothing_has_no_joules_and_says_which():
    found = energy(recording(empty=("gpu1",)), "run", "total")
    assert (found.joules, found.low_j, found.verdict) == (None, None, "unusable")
    assert found.reasons[0] == "PSQ-PARTIAL no energy of GPU1 can be told: no total"
    assert "no energy can be told" in str(found)


def test_total_tells_a_reason_of_many_devices_once():
    def part(i, *reasons):
        one = Energy(10.0, 9.0, 11.0, "", (), "fair", reasons, f"gpu{i}.energy", f"GPU-{i}", "gpu", covered_s=1.0)
        return Measured(one, True, "", None)

    found = total([part(0, "PSQ-GAP 2 gaps"), part(1, "PSQ-GAP 1 gap", "PSQ-ALIAS hides")], Window("w", 0, S))
    assert found.reasons == ("PSQ-GAP gpu0.energy (and of 1 more): 2 gaps", "PSQ-ALIAS gpu1.energy: hides")


NUMBERS = st.floats(0, 100)
PART = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@given(st.lists(PART, min_size=1, max_size=4))
def test_total_budget_comes_to_its_interval(parts):
    """Whoever adds totals, or takes their mean, goes by the terms."""
    measured, squares = [], 0.0
    for i, (gain, offset, chance, bound) in enumerate(parts):
        half = np.sqrt(gain**2 + offset**2 + (chance + bound) ** 2)
        terms = zip(("gain", "offset", "gaps", "uncovered"), ("gain", "gain", "standard", "bound"), strict=True)
        budget = tuple(BudgetTerm(*term, value) for term, value in zip(terms, parts[i], strict=True))
        one = Energy(
            1e4, 1e4 - half, 1e4 + half, "", budget, "fair", (), f"gpu{i}.energy", f"GPU-{i}", "gpu", covered_s=1.0
        )
        measured.append(Measured(one, True, "", None))
        squares += half**2
    found = total(measured, Window("w", 0, S))
    by_kind = {
        kind: [term.value_j for term in found.budget if term.kind == kind] for kind in ("gain", "standard", "bound")
    }
    own = np.hypot.reduce([0.0, *by_kind["standard"]]) + sum(by_kind["bound"])
    assert np.hypot.reduce([own, *by_kind["gain"]]) == pytest.approx(np.sqrt(squares), abs=1e-6)
    assert found.high_j - found.joules == pytest.approx(np.sqrt(squares), abs=1e-6)


def test_total_makes_no_ratio_for_its_devices_do_not_share_their_gain():
    found = energy(recording(), "run", "total")
    with pytest.raises(InvalidArgument, match="do not share one error"):
        relative(found, found)


def test_device_that_is_called_total_is_that_device():
    """A meter may bear any name."""
    parts = [series(channel("total.power", device="total", domain="wall"), polls(0, 30, 10), np.full(3001, 70_000))]
    trace = Trace.of(parts, windows=[Window("run", 2 * S, 28 * S)])
    assert energy(trace, "run", "total", domain="wall").joules == pytest.approx(70 * 26)


def test_several_devices_without_a_name_are_told_of_the_total():
    with pytest.raises(InvalidArgument, match=r'2 devices have gpu energy.*take all together: "total"'):
        energy(recording(), "run")


def test_device_that_is_no_gpu_is_asked_for_by_its_name_alone():
    """What it measures itself is meant: a package has its memory beside."""
    watts = {"gpu0.power": 100, "psys.power": 300, "package-0.power": 50, "package-0.dram.power": 7, "wall.power": 400}
    domains = {"gpu0": "gpu", "psys": "psys", "package-0": "package", "wall": "wall"}
    parts = []
    for name, each_w in watts.items():
        device = name.partition(".")[0]
        one = channel(name, device=device, domain="dram" if ".dram." in name else domains[device])
        parts.append(series(one, polls(0, 30, 10), np.full(3001, each_w * 1000)))
    trace = Trace.of(parts, windows=WINDOWS)
    for device, each_w in (("psys", 300), ("package-0", 50), ("wall", 400), (None, 100), ("gpu0", 100)):
        assert energy(trace, "run", device).joules == pytest.approx(each_w * 26)
    assert energy(trace, "run", "package-0", domain="dram").joules == pytest.approx(7 * 26)
    assert energies(trace, "step", "psys").joules == pytest.approx(np.full(10, 300.0))
    with pytest.raises(InvalidArgument, match="'psys' has no gpu power or energy, it has psys"):
        energy(trace, "run", "psys", domain="gpu")


def test_device_of_several_domains_none_of_which_is_its_own_is_asked_for_with_one():
    names = ("chip.in.power", "chip.out.power")
    parts = [series(channel(one, device="chip", domain=one.split(".")[1]), [0, S], [1, 1]) for one in names]
    with pytest.raises(InvalidArgument, match=r"'chip' has no gpu power.*it has in, out.*Name the domain"):
        energy(Trace.of(parts, windows=WINDOWS), "run", "chip")


def test_energy_of_a_pattern_of_windows_names_what_takes_one():
    epochs = [Window(f"epoch {i}", (5 + i) * S, (6 + i) * S) for i in range(3)]
    with pytest.raises(InvalidArgument, match=r"energies\('epoch \*'\) has all 3 windows like it"):
        energy(recording(epochs), "epoch *", "gpu0")
    with pytest.raises(InvalidArgument, match="Did you mean 'epoch 1'"):
        energy(recording(epochs[1:2]), "epoch1", "gpu0")


# ---- every window of a name ------------------------------------------------------------------------------------


def test_energies_of_a_name_are_those_of_each_of_its_windows():
    trace = recording()
    found = energies(trace, "step", "gpu1")
    assert found.windows == STEPS
    assert list(found) == [energy(trace, one, "gpu1") for one in STEPS]
    assert found.joules == pytest.approx(np.full(10, 200.0))
    assert found.duration_s.tolist() == [1.0] * 10
    assert (found.low_j < found.joules).all()
    assert (found.joules < found.high_j).all()
    assert (len(found), found[3], found[:2]) == (10, found.each[3], found.each[:2])


def test_energies_mean_and_sum_keep_what_the_board_is_off_by():
    found = energies(recording(), "step", "gpu1")
    mean, whole = found.mean(), found.sum()
    assert (mean.joules, whole.joules) == (pytest.approx(200), pytest.approx(2000))
    assert mean.high_j - mean.joules == pytest.approx(half_j(200, 1), rel=0.15)
    assert whole.high_j - whole.joules == pytest.approx(half_j(2000, 10), rel=0.15)
    assert str(mean).startswith("200.00 J (95 %: 18")
    assert "mean of 10, one scatters by " in str(mean)
    assert str(whole).startswith("2000.0 J (95 %: 1")
    assert repr(found).startswith("<Energies of 10 windows, 'step', gpu1.power.instant: 200.00 J")


def test_energies_of_all_devices_together():
    assert energies(recording(), "step", "total").joules == pytest.approx(np.full(10, 350.0))


def test_energies_take_a_pattern_where_no_window_bears_it_as_its_name():
    epochs = [Window(f"epoch {i}", (5 + i) * S, (6 + i) * S) for i in range(3)]
    odd = Window("epoch *", 20 * S, 21 * S)
    assert [one.window for one in energies(recording(epochs), "epoch *", "gpu0")] == ["epoch 0", "epoch 1", "epoch 2"]
    assert [one.window for one in energies(recording([*epochs, odd]), "epoch *", "gpu0")] == ["epoch *"]


def test_energies_without_such_windows_list_those_there_are():
    with pytest.raises(
        InvalidArgument, match=r"no window is called 'epoch \*'; the trace has 'run', 'step' \(10 times\)"
    ):
        energies(recording(), "epoch *")


def test_energies_that_cannot_be_told_are_not_numbers():
    windows = [STEPS[0], Window("step", 100 * S, 101 * S)]
    found = energies(recording(windows), "step", "gpu0")
    assert np.isnan(found.joules).tolist() == [False, True]
    assert np.isnan(found.low_j).tolist() == [False, True]
    assert found.mean().runs == 1
    with pytest.raises(InvalidArgument, match="cannot be told"):
        found.sum()


def test_energies_of_windows_that_touch_sum_to_their_stretch():
    laps = [Window(f"lap {i}", (5 + i) * S, (6 + i) * S) for i in range(9)]
    trace = recording(laps)
    found = energies(trace, "lap *", "gpu0")
    (whole,) = found.stretches
    assert whole == energy(trace, Window(whole.window, 5 * S, 14 * S), "gpu0")
    assert (whole.window, len(found)) == ("lap 0 + lap 1 + ... + lap 8", 9)


def test_energies_as_a_table():
    table = energies(recording(), "step", "gpu0").to_pandas()
    assert list(table.columns) == [
        "window", "start_ns", "duration_s", "channel", "joules", "low_j", "high_j", "verdict", "codes",
    ]  # fmt: skip
    assert table.joules.mean() == pytest.approx(100)
    assert table.start_ns.tolist() == [one.start_ns for one in STEPS]
    assert set(table.window) == {"step"}


def test_window_of_many_of_its_name_is_refused_with_what_takes_them_all():
    with pytest.raises(InvalidArgument, match=r"10 windows are called 'step'. energies\('step'\) has all of them"):
        energy(recording(), "step", "gpu0")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (lambda trace: energy(trace, "runn", "gpu0"), "run"),
        (lambda trace: energy(trace, "run", "package0", domain="package"), "package-0"),
        (lambda trace: trace.series("gpu0.powr.instant"), "gpu0.power.instant"),
    ],
)
def test_mistyped_name_is_told_what_is_like_it(asked, meant):
    with pytest.raises(PowerSampleError, match=f"Did you mean '{meant}'?"):
        asked(recording())


def test_energies_that_processes_marked_at_once_have_the_mean_of_one_of_them():
    t_ns = polls(0, 20, 10)
    meter = channel("gpu0.power.instant")
    raw = np.random.default_rng(1).integers(90_000, 110_000, len(t_ns))
    trace = Trace.of([series(meter, t_ns, raw)], meta={"sensor_models": {meter.name: MODEL}})
    alone = [Window("step", k * S, (k + 1) * S) for k in range(2, 18)]
    assert energies(trace, alone * 4).mean().high_j == pytest.approx(energies(trace, alone).mean().high_j, rel=0.01)
