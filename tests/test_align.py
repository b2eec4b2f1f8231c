# SPDX-License-Identifier: Apache-2.0
"""Two records on one clock by what both saw: published ones, and made-up ones whose distance is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from traces import S, channel, series

from powersample import store
from powersample.cli import main
from powersample.errors import DeviceNotFound, InvalidArgument
from powersample.fit import align, align_meter
from powersample.loads import random_edges, square
from powersample.model import Channel, Kind, Series, Trace
from powersample.readers import read
from powersample.report.sync import plot, sync_json, sync_text

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured"
CARDS = MEASURED / "gpu_power_benchmark"
needs_measured = pytest.mark.skipif(not CARDS.exists(), reason="the published traces (../shared/data) are not here")
BEGIN = 1000 * S
BOARD = {"uuid": "GPU-0", "name": "NVIDIA A100-PCIE-40GB", "architecture": "ampere"}


def load(seconds=60, pattern=None):
    """Watts of a load as a function of time, exact over any span."""
    edges_s = np.concatenate(
        ([-100.0], (pattern or random_edges(seconds, seed=4, cycle_s=0.4)).edge_s, [seconds + 100.0])
    )
    watts = np.where(np.arange(len(edges_s) - 1) % 2, 300.0, 60.0)
    joules = np.concatenate(([0.0], np.cumsum(watts * np.diff(edges_s))))
    return lambda t_s: np.interp(t_s, edges_s, joules)


def counter(joules, seconds=60, ahead_s=0.0, clock="utc"):
    """An energy counter that moves each 20 ms, stamped by a clock that is ahead."""
    t_s = np.arange(-5, seconds + 5, 0.02)
    t_ns = BEGIN + np.rint((t_s + ahead_s) * S).astype(np.int64)
    one = series(channel("gpu0.energy", Kind.ENERGY), t_ns, np.rint(joules(t_s) * 1000).astype(np.int64) + 10**6)
    return Trace.of([one], meta={"clock": clock})


def meter(joules, seconds=60, ahead_s=0.0, cycle_s=0.5, ppm=0.0, clock="utc", gain=1.1):
    """A wall meter's cycles, stamped at their end by a clock that is ahead, and runs away."""
    end_s = np.arange(-5, seconds + 5, cycle_s)
    watts = 80 + gain * (joules(end_s) - joules(end_s - cycle_s)) / cycle_s
    t_ns = BEGIN + np.rint((end_s * (1 + ppm * 1e-6) + ahead_s) * S).astype(np.int64)
    chan = Channel("wall.power", "wall", "wall", Kind.POWER, "W", raw_dtype="float64", stamp="arrival", span="sample")
    count = len(t_ns)
    watts += np.random.default_rng(1).normal(0, 2, count)
    zeros, spans = np.zeros(count, np.uint16), np.full(count, round(cycle_s * S))
    return Trace.of([Series(chan, t_ns, t_ns, watts, zeros, np.arange(count), spans)], meta={"clock": clock})


def gpu_log(joules, seconds=60, ahead_s=0.0):
    """Polls, each 10 ms, of an A100's field: mean of 25 ms each 102 ms, 10 ms late, behind a lag that is left out."""
    update_s = np.arange(-5, seconds + 5, 0.102)
    watts = (joules(update_s - 0.01) - joules(update_s - 0.035)) / 0.025
    poll_s = np.arange(-4, seconds + 4, 0.01)
    raw = np.rint(watts * 1000).astype(np.int64)[np.searchsorted(update_s, poll_s, "right") - 1]
    t_ns = BEGIN + np.rint((poll_s + ahead_s) * S).astype(np.int64)
    one = series(channel("gpu0.power.instant", sensor="nvml.field.186"), t_ns, raw)
    return Trace.of([one], meta={"clock": "local", "devices": [BOARD], "driver": "535.54.03"})


def within(found, true_s, least_s=0.003):
    assert found.fit.accepted
    assert abs(found.rest_s - true_s) <= max(least_s, 3 * found.fit.lag_se_s)


@pytest.mark.parametrize("ahead_s", [0.0, 0.37, -2.2])
def test_meter_on_a_counter_s_clock(ahead_s):
    joules = load()
    found = align(counter(joules), meter(joules, ahead_s=ahead_s), ("gpu0.energy", "wall.power"))
    assert not found.swapped
    assert found.zone_s == 0
    within(found, ahead_s)
    assert found.fit.gain == pytest.approx(1.1, rel=0.02)


def test_order_of_the_two_does_not_matter():
    joules = load()
    found = align(meter(joules, ahead_s=0.37), counter(joules), ("wall.power", "gpu0.energy"))
    assert found.swapped
    within(found, 0.37)


@pytest.mark.parametrize("zone_s", [3600, -5.5 * 3600])
def test_time_zone_between_two_logs_is_told_from_what_is_left(zone_s):
    joules = load()
    found = align(counter(joules), meter(joules, ahead_s=zone_s + 0.25, clock="local"), ("gpu0.energy", "wall.power"))
    assert found.zone_s == zone_s
    within(found, 0.25)


def test_hour_between_clocks_that_know_no_day_is_no_time_zone():
    joules = load()
    pair = counter(joules, clock=None), meter(joules, ahead_s=3600.25, clock=None)
    found = align(*pair, ("gpu0.energy", "wall.power"))
    assert found.zone_s == 0
    within(found, 3600.25)


def test_sensor_s_windows_and_updates_do_not_pass_for_a_lag():
    """Each update of an A100 tells of 25 ms that ended 10 ms before: polls carry it forward for another 100."""
    joules = load()
    gpu = gpu_log(joules, ahead_s=0.2)
    found = align(counter(joules), gpu, ("gpu0.energy", "gpu0.power.instant"))
    within(found, 0.21)
    assert found.delay_s == pytest.approx(0.01)
    found = align(gpu, meter(joules), ("gpu0.power.instant", "wall.power"))  # and where it is the reference
    within(found, -0.2 + 0.0, least_s=0.02)


def one_recording(ahead_s=0.05):
    """A GPU's sensor, a counter of the CPU that does nothing, and the meter, on one clock."""
    joules = load(pattern=random_edges(60, seed=4, cycle_s=1.0))
    gpu = gpu_log(joules)
    quiet = counter(lambda t_s: 50.0 * t_s)
    cpu = replace(quiet.channels["gpu0.energy"], name="package-0.energy", device="package-0", domain="package")
    seen = quiet.series("gpu0.energy")
    parts = [
        gpu.series("gpu0.power.instant"),
        Series(cpu, seen.t0_ns, seen.t1_ns, seen.raw, seen.status, seen.seq),
        meter(joules, ahead_s=ahead_s).series("wall.power"),
    ]
    return Trace.of(parts, meta={key: gpu.meta[key] for key in ("devices", "driver")})


def test_meter_of_a_recording_without_bursts_is_aligned_by_the_recording_s_own_sensors():
    found = align_meter(one_recording(), "wall.power")
    assert "sum of 2 sensors" in found.fit.reference
    assert not found.fit.own_clock
    assert found.fit.lag_se_s >= 0.025  # a quarter of the sensor's period: so well is known where it looked
    within(found, 0.05)
    assert found.fit.gain == pytest.approx(1.1, rel=0.05)


def test_reference_that_is_unsurer_than_a_tenth_of_the_meter_s_cycle_is_refused():
    """25 ms of a sensor's own are half a cycle of 50 ms: chance alone was asked, and it was accepted."""
    whole = one_recording()
    quick = meter(load(pattern=random_edges(60, seed=4, cycle_s=1.0)), ahead_s=0.05, cycle_s=0.05)
    parts = [whole.series(name) for name in whole.channels if name != "wall.power"]
    found = align_meter(Trace.of([*parts, quick.series("wall.power")], meta=whole.meta), "wall.power")
    assert not found.fit.accepted
    (reason,) = found.fit.reasons
    assert reason.startswith("PSQ-SYNC-UNSURE its standard error is 26 ms")
    assert "the reference's own), more than 5 ms" in reason


def test_meter_of_a_recording_without_sensors_has_nothing_to_be_aligned_by():
    with pytest.raises(InvalidArgument, match=r"no power"):
        align_meter(meter(load()), "wall.power")


def test_meter_that_shows_far_more_than_the_sensors_is_refused():
    whole = one_recording()
    loud = meter(load(pattern=random_edges(60, seed=4, cycle_s=1.0)), gain=3.0)
    parts = [whole.series(name) for name in whole.channels if name != "wall.power"]
    found = align_meter(Trace.of([*parts, loud.series("wall.power")], meta=whole.meta), "wall.power")
    assert any(reason.startswith("PSQ-SYNC-GAIN") for reason in found.fit.reasons)


def test_drift_of_a_long_record_is_told_with_its_error():
    joules = load(3000, random_edges(3000, seed=4, cycle_s=3.0))
    found = align(counter(joules, 3000), meter(joules, 3000, ahead_s=0.1, ppm=50.0), ("gpu0.energy", "wall.power"))
    assert len(found.fit.knots) >= 4
    assert found.fit.skew_ppm == pytest.approx(50, abs=max(3.0, 4 * found.fit.skew_se_ppm))


def test_records_that_saw_different_loads_are_refused():
    other = load(pattern=random_edges(60, seed=99, cycle_s=0.4))
    found = align(counter(load()), meter(other), ("gpu0.energy", "wall.power"))
    assert not found.fit.accepted
    assert found.rest_s is None
    assert "unknown" in sync_text(found, simulated=False)


def test_records_of_a_load_that_repeats_itself_are_refused():
    """A minute of a square wave, of which the meter saw the middle only."""
    wave = load(200, square(200, 2.0))
    part = meter(wave, 60)
    part = Trace.of([part.series("wall.power", BEGIN + 10 * S, BEGIN + 50 * S)], meta=part.meta)
    found = align(counter(wave, 150), part, ("gpu0.energy", "wall.power"))
    assert any(reason.startswith("PSQ-SYNC-AMBIGUOUS") for reason in found.fit.reasons)


def test_records_that_do_not_overlap_where_it_is_searched_are_refused():
    joules = load()
    found = align(counter(joules), meter(joules, ahead_s=900), ("gpu0.energy", "wall.power"), search_s=5)
    assert any(reason.startswith("PSQ-SYNC-RANGE") for reason in found.fit.reasons)
    found = align(counter(joules), meter(joules, ahead_s=900), ("gpu0.energy", "wall.power"), search_s=5, shift_s=901)
    assert found.fit.lag_s == pytest.approx(900, abs=0.01)


def test_channels_that_tell_no_power_are_refused():
    joules = load()
    with pytest.raises(DeviceNotFound):
        align(counter(joules), meter(joules), ("gpu1.energy", "wall.power"))
    chan = channel("gpu0.clock", Kind.AUX)
    aux = Trace.of([series(chan, [1, 2], [1, 2])])
    with pytest.raises(InvalidArgument, match="aligned by power"):
        align(counter(joules), aux, ("gpu0.energy", "gpu0.clock"))


# ---- published records


PUBLISHED = {  # card, field, correlation of the data's README over the part under load, its seconds
    ("square_3090", "NVIDIA GeForce RTX 3090", "gpu0.power.usage"): (0.986, (1.2, 8.9)),
    ("square_3090", "NVIDIA GeForce RTX 3090", "gpu0.power.instant"): (0.996, (1.2, 8.9)),
    ("step_a100", "NVIDIA A100-PCIE-40GB", "gpu0.power.usage"): (0.9995, (0.5, 13.5)),
    ("step_a100", "NVIDIA A100-PCIE-40GB", "gpu0.power.instant"): (0.9996, (0.5, 13.5)),
}


@needs_measured
@pytest.mark.parametrize("name", PUBLISHED, ids=lambda name: f"{name[0]}-{name[2]}")
def test_published_log_on_its_meter_s_clock(name):
    folder, card, field = name
    asked_r, (begin_s, end_s) = PUBLISHED[name]
    pmd = read(CARDS / folder / "PMD_data.bin")
    log = read(CARDS / folder / "gpudata.csv", gpu=card, driver="535.54.03")
    found = align(pmd, log, ("pmd.power", field))
    assert found.fit.accepted
    assert found.zone_s == 3600
    assert abs(found.rest_s) < 0.15
    assert 0.0005 < found.fit.lag_se_s < 0.1
    lag = found.synced.bursts[0]
    at_s = (lag.stamp_ns - lag.lag_ns - pmd.start_ns) * 1e-9
    loaded = (at_s > begin_s) & (at_s < end_s)
    values = found.synced.cycles.value[np.isin(found.synced.cycles.stamp_ns, lag.stamp_ns)]
    r = np.corrcoef(values[loaded], (values - lag.residual_w)[loaded])[0, 1]
    assert r >= asked_r


@needs_measured
def test_both_fields_of_a_card_agree_on_its_clock():
    pmd = read(CARDS / "square_3090" / "PMD_data.bin")
    log = read(CARDS / "square_3090" / "gpudata.csv", gpu="NVIDIA GeForce RTX 3090", driver="535.54.03")
    quick, slow = (align(pmd, log, ("pmd.power", f"gpu0.power.{field}")) for field in ("instant", "usage"))
    clocks = [one.rest_s - one.delay_s for one in (quick, slow)]
    assert abs(clocks[0] - clocks[1]) <= 2 * np.hypot(quick.fit.lag_se_s, slow.fit.lag_se_s)


@needs_measured
def test_published_node_s_alternating_and_direct_current_lie_on_each_other(capsys):
    folder = MEASURED / "mlperf_training_v4.0" / "bert_a"
    assert main(["sync", str(folder / "ac_node.txt"), str(folder / "dc_node.txt"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["accepted"]
    assert told["zone_s"] == 0
    assert abs(told["rest_s"]) < 0.5  # of cycles of 2 s, with identical stamps
    assert told["r_after"] >= 0.986


# ---- the verb


def saved(tmp_path, trace, name):
    store.save(trace, tmp_path / name, replace=True)
    return str(tmp_path / name)


def test_sync_verb_tells_text_json_and_picture(tmp_path, capsys):
    joules = load()
    files = [saved(tmp_path, counter(joules), "a.parquet"), saved(tmp_path, meter(joules, ahead_s=0.3), "b.parquet")]
    picture = tmp_path / "fit.png"
    assert main(["sync", f"{files[0]}:gpu0.energy", files[1], "--png", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "wall.power of b.parquet, on the clock of gpu0.energy of a.parquet" in text
    assert "accepted" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["sync", f"{files[0]}:gpu0.energy", files[1], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    asked = {"lag_s", "lag_se_s", "skew_ppm", "skew_se_ppm", "tau_s", "r2", "second_best_ratio", "accepted", "reasons"}
    assert asked <= set(told)
    assert told["lag_s"] == pytest.approx(0.3, abs=0.02)


def test_sync_verb_and_the_report_of_what_it_kept_say_the_same_of_a_lag(tmp_path, capsys):
    """One said "lag 1228 ms", the other "1228 ms ahead of power", and nobody said on which side that is."""
    joules = load()
    for ahead_s, said in ((0.3, "ahead of"), (-0.3, "behind")):
        slow = meter(joules, ahead_s=ahead_s)
        files = [saved(tmp_path, counter(joules), "a.parquet"), saved(tmp_path, slow, "b.parquet")]
        output = tmp_path / f"{said}.parquet"
        assert main(["sync", *files, "-o", str(output)]) == 0
        assert f"its stamps are {said} the reference's" in capsys.readouterr().out
        assert main(["report", str(output)]) == 0
        words = " ".join(capsys.readouterr().out.split())
        assert f"ms {said} gpu0.energy" in words
        assert "-3" not in words.partition("clock's fit:")[2].partition(said)[0]
    assert main(["sync", saved(tmp_path, one_recording(), "run.parquet")]) == 0
    assert "from a cycle's end to its stamp" in capsys.readouterr().out


def test_legend_of_the_picture_names_the_files(tmp_path):
    """Of two logs whose channels are called alike it said "power, in W of power" and "power"."""
    joules = load()
    found = align(counter(joules), meter(joules, ahead_s=0.3), ("gpu0.energy", "wall.power"))
    plot(found, tmp_path / "fit.svg", simulated=False, names=("b.csv", "a.csv"))
    drawn = (tmp_path / "fit.svg").read_text()
    assert "<!-- wall.power of b.csv -->" in drawn
    assert "<!-- gpu0.energy of a.csv, scaled to the other -->" in drawn


def test_sync_verb_of_what_is_refused_says_why_and_answers_1(tmp_path, capsys):
    other = load(pattern=random_edges(60, seed=99, cycle_s=0.4))
    files = [saved(tmp_path, counter(load()), "a.parquet"), saved(tmp_path, meter(other), "b.parquet")]
    picture = tmp_path / "fit.png"
    assert main(["sync", f"{files[0]}:gpu0.energy", files[1], "--png", str(picture)]) == 1
    assert "PSQ-SYNC-" in capsys.readouterr().out
    assert picture.exists()


def test_sync_verb_of_a_file_with_several_channels_names_them(tmp_path, capsys):
    joules = load()
    whole = Trace.of([counter(joules).series("gpu0.energy"), meter(joules).series("wall.power")])
    file = saved(tmp_path, whole, "run.parquet")
    assert main(["sync", f"{file}:gpu0.energy", f"{file}:wall.power"]) == 0
    assert main(["sync", saved(tmp_path, counter(joules), "a.parquet"), f"{file}:wall.power"]) == 0  # the only counter
    two = Trace.of([counter(joules).series("gpu0.energy"), one_recording().series("package-0.energy")])
    assert main(["sync", saved(tmp_path, two, "a.parquet"), f"{file}:wall.power"]) == 2
    assert "(gpu0.energy, package-0.energy): name one" in capsys.readouterr().err
    assert main(["sync", file, file, "--search", "0"]) == 2


def test_sync_verb_of_one_recording_aligns_its_meter(tmp_path, capsys):
    file = saved(tmp_path, one_recording(), "run.parquet")
    assert main(["sync", file]) == 0
    assert "wall.power of run.parquet, on the clock of the sum of 2 sensors" in capsys.readouterr().out
    assert main(["sync", file, "--shift", "1"]) == 2


def test_simulated_record_is_marked_wherever_it_is_told(tmp_path):
    joules = load()
    found = align(counter(joules), meter(joules), ("gpu0.energy", "wall.power"))
    assert sync_text(found, simulated=True).startswith("SIMULATED NODE")
    assert sync_json(found, simulated=True)["simulated"] is True
    plot(found, tmp_path / "fit.png", simulated=True)
