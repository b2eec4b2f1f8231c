# SPDX-License-Identifier: Apache-2.0
"""GPU power seen from the wall, and the table of how far methods agree with it."""

import json

import numpy as np
import pytest
from test_meter_energy import CHANNEL, START_NS, cycles, info
from traces import channel, series

from powersample.analysis.agreement_table import agreement_rows, spans_of, spans_of_tables
from powersample.analysis.meter_gpu import Watts, meter_side_gpu, subtract
from powersample.errors import InvalidArgument
from powersample.model import Kind, Response, RunRow, RunTable, SensorModel, Trace, Window
from powersample.report.agreement import agreement_text

BUSY_W = (783.0, 811.0)


@pytest.mark.parametrize(("gpu_w", "pct"), [(146.0, 9.6), (305.0, 4.6)])
def test_subtracted_power_is_no_surer_than_the_uncaptured(gpu_w, pct):
    """The paper's range of GPU power with the paper's two uncaptured powers."""
    total = Watts(gpu_w + 300.0 + 60.0 + sum(BUSY_W) / 2)
    watts, u_w, low_w, high_w = subtract(total, Watts(300.0), Watts(60.0), BUSY_W)
    assert watts == pytest.approx(gpu_w)
    assert u_w == pytest.approx(8.1, abs=0.05)
    assert (high_w - watts, watts - low_w) == pytest.approx((14, 14))
    assert 100 * (high_w - watts) / watts == pytest.approx(pct, abs=0.05)


def test_uncertainties_of_what_is_measured_add_in_quadrature_and_the_bound_linearly():
    _, u_w, low_w, high_w = subtract(Watts(2000.0, 3.0), Watts(300.0, 4.0), Watts(60.0, 12.0), (800.0, 800.0))
    assert u_w == pytest.approx(13.0)
    assert (high_w - low_w) / 2 == pytest.approx(1.96 * 13)
    _, u_w, low_w, high_w = subtract(Watts(2000.0, 3.0), Watts(300.0, 4.0), Watts(60.0, 12.0), BUSY_W)
    assert u_w == pytest.approx((169 + 28**2 / 12) ** 0.5)
    assert (high_w - low_w) / 2 == pytest.approx(1.96 * 13 + 14)


def test_bounds_the_wrong_way_round_are_an_error():
    with pytest.raises(InvalidArgument):
        subtract(Watts(1.0), Watts(0.0), Watts(0.0), (811.0, 783.0))


def recorded(*, dram=True, gpu_w=(200.0, 240.0), rated=True):
    """Return a node of 300 W of CPU, 60 W of DRAM and 797 W that nobody counts, at a meter; GPUs differ by window."""
    t_ns = START_NS + np.arange(0, 20 * 10**9 + 1, 10**7)
    seconds = (t_ns - START_NS) / 1e9
    gpu_j = np.where(seconds < 10, gpu_w[0] * seconds, gpu_w[0] * 10 + gpu_w[1] * (seconds - 10))

    def counter(name, device, domain, joules):
        return series(channel(name, Kind.ENERGY, device, domain), t_ns, np.rint(joules * 1000).astype(np.int64))

    def wall(a, b):
        a, b = (a - START_NS) / 1e9, (b - START_NS) / 1e9
        return 1157 + float(np.diff(np.interp([a, b], seconds, gpu_j))[0] / (b - a))

    parts = [counter("gpu0.energy", "GPU-0", "gpu", gpu_j)]
    parts.append(counter("package-0.energy", "package-0", "package", 300 * seconds))
    if dram:
        parts.append(counter("package-0.dram.energy", "package-0", "dram", 60 * seconds))
    meters = [info().as_json() | {"gaps": [], "gaps_total": 0, "counts": {}}]
    model = SensorModel(Response.COUNTER, 0.01, gain_sd=0.01).as_json()
    models = {one.channel.name: model for one in parts} if rated else {}
    return Trace.of([*parts, cycles(wall, 20)], meta={"meters": meters, "sensor_models": models})


def windows():
    return [
        Window(f"epoch {i}", START_NS + begin * 10**9, START_NS + (begin + 8) * 10**9) for i, begin in ((0, 1), (1, 11))
    ]


def test_meter_side_holds_the_true_power_of_every_window():
    found = meter_side_gpu(recorded(), windows(), BUSY_W)
    for one, truth_w in zip(found, (200, 240), strict=True):
        assert one.watts == pytest.approx(truth_w, abs=0.2)
        assert one.low_w < truth_w < one.high_w
        assert one.counted_w == pytest.approx(truth_w, rel=1e-3)
        assert one.high_w - one.watts > 14
        assert one.total.watts == pytest.approx(1157 + truth_w, rel=1e-3)


def test_memory_that_nobody_counts_is_missing_unless_it_was_calibrated_inside():
    lacking = meter_side_gpu(recorded(dram=False), windows(), BUSY_W)[0]
    assert (lacking.watts, lacking.reason) == (None, "no dram energy")
    inside = meter_side_gpu(recorded(dram=False), windows(), (843.0, 871.0), memory="inside")[0]
    assert (inside.watts, inside.memory) == (pytest.approx(200, abs=0.2), None)
    with pytest.raises(InvalidArgument):
        meter_side_gpu(recorded(), windows(), BUSY_W, memory="guessed")


def test_recording_without_a_meter_has_no_meter_side():
    trace = recorded()
    left = [trace.series(name) for name in trace.channels if name != CHANNEL.name]
    assert meter_side_gpu(Trace.of(left, meta=trace.meta), windows(), BUSY_W)[0].reason == "no wall energy"
    unrated = meter_side_gpu(recorded(rated=False), windows(), BUSY_W)[0]
    assert (unrated.watts, unrated.reason) == (None, "package and dram: no interval is known")


# ---- agreement ----


def test_constant_offset_leaves_correlations_and_shows_in_the_bias():
    """The reason for the bias column: CodeCarbon's deficit is nearly constant."""
    dice = np.random.default_rng(1)
    seconds, watts = dice.uniform(50, 100, 40), dice.uniform(1200, 1500, 40)
    short = spans_of("run", seconds, watts * seconds, {"CodeCarbon": (watts - 100) * seconds})
    joules, power = agreement_rows([short])
    assert (joules.unit, power.unit, power.n, power.level) == ("J", "W", 40, "run")
    assert (power.pearson, power.spearman) == pytest.approx((1, 1))
    assert power.bias == pytest.approx(-100)
    assert (power.low, power.high) == pytest.approx((-100, -100))
    assert power.bias_pct == pytest.approx(-100 * 100 / watts.mean())
    assert power.ks_passes is False


def test_table_has_each_method_level_and_unit_beside_the_papers_figures():
    epoch = spans_of(
        "epoch", [1, 1, 1, 1], [10, 20, 30, 40], {"SMI": [12, 12, np.nan, 30], "powersample": [10, 20, 30, 41]}
    )
    run = spans_of("run", [4, 4, 4, 4], [40, 80, 120, 160], {"NVML": [40, 81, 120, 161]})
    rows = agreement_rows([epoch, run])
    assert [(row.method, row.level, row.unit) for row in rows[::2]] == [
        ("SMI", "epoch", "J"),
        ("powersample", "epoch", "J"),
        ("NVML", "run", "J"),
    ]
    assert (rows[0].n, rows[0].paper_pearson, rows[2].paper_pearson) == (3, 0.64, None)
    assert (rows[4].paper_pearson, rows[4].paper_ks_passes, rows[4].ks_passes) == (0.99, True, True)
    json.dumps([row.as_json() for row in rows], allow_nan=False)
    text = agreement_text(rows)
    assert "0.64" in text
    assert "arXiv 2505.15631" in text


def test_runs_of_tables_are_paired_by_name():
    def table(**joules):
        return RunTable(
            "x", None, tuple(RunRow(name, None, 10.0, {"gpu": one}, 2 * one) for name, one in joules.items())
        )

    reference = table(a=100.0, b=200.0, c=300.0)
    found = spans_of_tables({"SMI": table(c=310.0, a=90.0)}, reference, "gpu")
    assert found.reference_j.tolist() == [100, 200, 300]
    assert np.array_equal(found.methods_j["SMI"], [90, np.nan, 310], equal_nan=True)
    assert spans_of_tables({"SMI": reference}, reference).methods_j["SMI"].tolist() == [200, 400, 600]


def test_energies_of_another_number_are_an_error():
    with pytest.raises(InvalidArgument, match="SMI"):
        spans_of("run", [1, 2], [1, 2], {"SMI": [1, 2, 3]})


def test_what_is_undefined_is_missing():
    rows = agreement_rows([spans_of("run", [1.0, 1.0], [5.0, np.nan], {"SMI": [5.0, 6.0]})])
    assert (rows[0].n, rows[0].pearson, rows[0].ks_passes, rows[0].bias) == (1, None, None, 0.0)
    assert "-" in agreement_text(rows)
