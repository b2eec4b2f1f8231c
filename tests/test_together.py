# SPDX-License-Identifier: Apache-2.0
"""Two aligned records kept as one: raw stamps stay, every reading of the other clock's goes by the fit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_align import BEGIN, CARDS, counter, gpu_log, load, meter, needs_measured, one_recording, saved
from traces import S

import powersample as ps
from powersample import store
from powersample.cli import main
from powersample.errors import InvalidArgument
from powersample.fit import align, together
from powersample.loads import random_edges
from powersample.model import Accuracy, ClockFit, Extent, Knot, MeterInfo, Trace, Window
from powersample.report import build

AHEAD_S, PPM = 3600.25, 40.0


def watts(joules, from_s, to_s, gain=1.1):
    """Mean of what `meter` shows of a load."""
    return 80 + gain * (joules(to_s) - joules(from_s)) / (to_s - from_s)


def window(from_s, to_s, name="work", ahead_s=0.0):
    return Window(name, BEGIN + round((from_s + ahead_s) * S), BEGIN + round((to_s + ahead_s) * S))


def metered(trace, gap_at_s=None):
    """The same with what a recording tells of its meter."""
    info = MeterInfo("wall", "lmg450", "x", "ZES", "LMG450", "1", "2", tuple(trace.channels.values()), 0.5,
                     latency_s=0.0, latency_max_s=0.05, accuracy=Accuracy(0.07, 0.04, 1500.0))  # fmt: skip
    gaps = (
        [] if gap_at_s is None else [{"start_ns": 0, "end_ns": BEGIN + round(gap_at_s * S), "cause": "x", "missing": 1}]
    )
    return trace.with_meta(meters=[info.as_json() | {"gaps": gaps, "gaps_total": 0, "counts": {}}])


def kept(tmp_path, quick, slow, names=("gpu0.energy", "wall.power")):
    found = align(quick, slow, names)
    store.save(together(quick, slow, found, "rack"), tmp_path / "both.parquet")
    return store.load(tmp_path / "both.parquet"), found


@pytest.mark.parametrize("known", [True, False], ids=["a meter", "cycles of a log"])
def test_meter_of_another_clock_has_its_energy_in_the_first_one_s_windows(tmp_path, known):
    joules = load()
    slow = meter(joules, ahead_s=AHEAD_S, ppm=PPM, cycle_s=0.1)
    whole, _ = kept(tmp_path, counter(joules), metered(slow) if known else slow)
    one = window(7.3, 41.7)
    found = ps.energy(whole, one, "wall", domain="wall")
    true_j = watts(joules, 7.3, 41.7) * 34.4
    assert found.joules == pytest.approx(true_j, rel=2e-3)
    if known:
        assert found.low_j <= true_j <= found.high_j
        assert next(term.value_j for term in found.budget if term.term == "clock fit") > 0
    assert ps.energy(whole, one, "gpu0").joules == pytest.approx(joules(41.7) - joules(7.3), rel=0.01)


def test_stamps_stay_as_they_were_written_and_are_placed_as_they_are_read(tmp_path):
    joules = load()
    slow = meter(joules, ahead_s=AHEAD_S)
    whole, found = kept(tmp_path, counter(joules), slow)
    raw = slow.series("wall.power").t1_ns
    assert np.array_equal(whole.as_stamped().series("wall.power").t1_ns, raw)
    placed = whole.series("wall.power").t1_ns
    assert np.abs((raw - placed) / S - AHEAD_S).max() < 0.01
    assert whole.extent("wall.power") == Extent(len(raw), placed[0], placed[-1])
    assert (whole.end_ns - whole.start_ns) / S < 80
    again = tmp_path / "again.parquet"
    whole.save(again)
    store.save(store.load(again), tmp_path / "third.parquet")
    assert np.array_equal(store.load(tmp_path / "third.parquet").as_stamped().series("wall.power").t1_ns, raw)
    assert whole.clock_fit("wall.power").residual_ns == found.fit.residual_ns


def test_part_of_another_clock_s_record_is_what_that_part_of_the_whole_is(tmp_path):
    joules = load()
    whole, _ = kept(tmp_path, counter(joules), meter(joules, ahead_s=AHEAD_S, ppm=PPM, cycle_s=0.05))
    every = whole.series("wall.power")
    for from_s, to_s in ((3.0, 3.5), (12.34, 40.0), (-100.0, 0.0), (55.0, 500.0)):
        span = BEGIN + round(from_s * S), BEGIN + round(to_s * S)
        assert np.array_equal(whole.series("wall.power", *span).t1_ns, every.between(*span).t1_ns)


def test_windows_and_gaps_of_the_other_record_come_along(tmp_path):
    joules = load()
    slow = metered(meter(joules, ahead_s=AHEAD_S), gap_at_s=AHEAD_S + 5)
    slow = Trace.of([slow.series("wall.power")], windows=[window(10, 20, ahead_s=AHEAD_S)], meta=slow.meta)
    whole, _ = kept(tmp_path, counter(joules), slow)
    (one,) = whole.windows
    assert (one.start_ns - BEGIN) / S == pytest.approx(10, abs=0.01)
    (gap,) = whole.meta["meters"][0]["gaps"]
    assert (gap["end_ns"] - BEGIN) / S == pytest.approx(5, abs=0.01)
    assert gap["end_ns"] in whole.series("wall.power").t1_ns  # by which missing cycles are found
    said = " ".join(str(build(whole)).split())
    assert "wall.power is read by its clock's fit: 1 h and" in said
    assert "ahead of gpu0.energy" in said


def test_channels_that_both_have_bear_the_other_file_s_name(tmp_path):
    joules = load()
    own = [counter(joules).series("gpu0.energy"), meter(joules).series("wall.power")]
    quick = Trace.of(own, windows=[window(0, 10, "run")], meta={"clock": "utc"})
    theirs = Trace.of([meter(joules, ahead_s=0.3).series("wall.power")], windows=[window(1, 9, "run")])
    whole, _ = kept(tmp_path, quick, metered(theirs))
    assert set(whole.channels) == {"gpu0.energy", "wall.power", "rack.wall.power"}
    assert whole.channel("rack.wall.power").device == "rack.wall"
    assert whole.meta["meters"][0]["channels"][0]["name"] == "rack.wall.power"
    assert set(whole.meta["clock_fits"]) == {"rack.wall.power"}
    assert [one.name for one in whole.windows] == ["run", "rack: run"]
    with pytest.raises(InvalidArgument, match="another clock already"):
        together(counter(joules), whole, align(counter(joules), meter(joules), ("gpu0.energy", "wall.power")), "x")


def test_second_record_of_the_same_name_is_kept_beside_the_first(tmp_path):
    joules = load()
    whole = Trace.of([counter(joules).series("gpu0.energy"), meter(joules).series("wall.power")], meta={"clock": "utc"})
    for ahead_s in (0.3, 0.7):
        other = metered(meter(joules, ahead_s=ahead_s))
        whole = together(whole, other, align(whole, other, ("gpu0.energy", "wall.power")), "rack")
    store.save(whole, tmp_path / "all.parquet")
    whole = store.load(tmp_path / "all.parquet")
    assert set(whole.channels) == {"gpu0.energy", "wall.power", "rack.wall.power", "rack2.wall.power"}
    assert whole.clock_fit("rack.wall.power").lag_s == pytest.approx(0.3, abs=0.02)
    assert whole.clock_fit("rack2.wall.power").lag_s == pytest.approx(0.7, abs=0.02)


def test_sensor_s_own_delay_is_taken_off_once(tmp_path):
    """An A100's value is 10 ms old as it is published, which its energies know of."""
    joules = load()
    whole, found = kept(tmp_path, counter(joules), gpu_log(joules, ahead_s=0.2), ("gpu0.energy", "gpu0.power.instant"))
    assert found.delay_s == pytest.approx(0.01)
    fit = whole.clock_fit("gpu0.power.instant")
    assert fit.lag_s == pytest.approx(found.fit.lag_s - 0.01)
    assert fit.knots[0].lag_s == pytest.approx(found.fit.knots[0].lag_s - 0.01)
    one = window(20.0, 30.0)
    (told,) = [one for one in build(whole, [one]).data["windows"][0]["energies"] if one["channel"].endswith("instant")]
    assert "clock fit" in [term["term"] for term in told["budget"]]


FITS = st.builds(
    lambda lags, skew: ClockFit(
        "m", "r", lags[0], 1e-3, skew, 1.0, 0.0, 0.0, False, 1.0, 1.0, 9.0, True, own_clock=True, late_s=0.002,
        knots=tuple(Knot(i * 600 * S, lags[0] + one * 0.01, 1e-3) for i, one in enumerate(lags)),
    ),
    st.lists(st.floats(-1, 1), min_size=1, max_size=4),
    st.floats(-100, 100),
)  # fmt: skip


@given(FITS, st.integers(-(10**13), 10**13))
def test_stamp_of_an_instant_is_the_one_that_is_mapped_to_it(fit, host_ns):
    stamp_ns = fit.to_stamp_ns(host_ns)
    (mapped,) = fit.to_host_ns(np.array([stamp_ns]))
    assert abs(int(mapped) - host_ns) <= 1000
    assert fit.placed().error_s(host_ns) == pytest.approx(fit.error_s(stamp_ns), rel=1e-3)
    assert int(fit.placed().to_host_ns(np.array([host_ns]))[0]) == host_ns


# ---- the verb


def test_sync_verb_keeps_both_records_and_report_reads_them(tmp_path, capsys):
    joules = load()
    files = [
        saved(tmp_path, counter(joules), "a.parquet"),
        saved(tmp_path, metered(meter(joules, ahead_s=AHEAD_S)), "b.parquet"),
    ]
    output = tmp_path / "both.parquet"
    assert main(["sync", *files, "-o", str(output)]) == 0
    assert "next: powersample report" in capsys.readouterr().err
    assert main(["report", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (run,) = told["windows"]
    assert run["duration_s"] < 80
    assert {one["channel"] for one in run["energies"] if one["joules"]} == {"gpu0.energy", "wall.power"}
    assert main(["sync", *files, "-o", str(output)]) == 1  # it is there
    assert "--force" in capsys.readouterr().err
    assert main(["sync", *files, "-o", str(output), "--force"]) == 0
    assert main(["sync", *files, "-o", str(tmp_path / "both.csv")]) == 2


def test_sync_verb_keeps_a_recording_s_own_meter_s_fit(tmp_path, capsys):
    file, output = saved(tmp_path, one_recording(), "run.parquet"), tmp_path / "synced.parquet"
    assert main(["sync", file, "-o", str(output)]) == 0
    whole, before = store.load(output), store.load(file)
    assert whole.clock_fit("wall.power").accepted
    assert not whole.clock_fit("wall.power").own_clock
    assert np.array_equal(whole.series("wall.power").t1_ns, before.series("wall.power").t1_ns)
    assert main(["report", str(output)]) == 0
    assert "after its cycles' ends" in " ".join(capsys.readouterr().out.split())


def test_sync_verb_replaces_a_surer_fit_only_when_asked_and_no_truth_outlives_its_fit(tmp_path, capsys):
    """A fit of bursts, 7.3 +- 0.1 ms, went silently for one of 35 +- 25 ms, and its truth stayed beside that."""
    from_bursts = ClockFit(
        "wall.power", "the bursts", 0.0073, 0.0001, None, None, 0.0, 0.0, False, 1.0, 0.99, 3.0, True,
        knots=(Knot(BEGIN, 0.0073, 0.0001),),
    )  # fmt: skip
    truth = {"bursts": [], "truth": {"wall.power": {"median_error_s": 34e-6, "p95_error_s": 1e-4}}}
    whole = one_recording().with_meta(clock_fits={"wall.power": from_bursts.as_json()}, sync=truth)
    file, output = saved(tmp_path, whole, "run.parquet"), tmp_path / "synced.parquet"
    assert main(["sync", file, "-o", str(output)]) == 0
    assert "7.3 +- 0.1 ms is surer than" in capsys.readouterr().err
    assert store.load(output).clock_fit("wall.power").lag_s == 0.0073
    assert main(["report", str(output)]) == 0
    assert "off by 0.034 ms against" in " ".join(capsys.readouterr().out.split())
    assert main(["sync", file, "-o", str(output), "--force", "--anew"]) == 0
    assert store.load(output).clock_fit("wall.power").lag_s == pytest.approx(0.05, abs=0.05)
    capsys.readouterr()
    assert main(["report", str(output)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "after its cycles' ends" in said
    assert "against the simulated meter's own cycles" not in said
    assert main(["sync", file, "--anew"]) == 2


def test_sync_verb_never_replaces_the_fit_that_placed_a_meter(tmp_path, capsys):
    """What is found then is of placed stamps: kept for the written ones, it put the meter an hour off."""
    joules = load()
    records = {"a.parquet": gpu_log(joules), "b.parquet": metered(meter(joules, ahead_s=AHEAD_S))}
    files = [saved(tmp_path, record, name) for name, record in records.items()]
    both, third = tmp_path / "both.parquet", tmp_path / "third.parquet"
    assert main(["sync", *files, "-o", str(both)]) == 0
    assert main(["sync", str(both)]) == 0  # how far off it is still
    capsys.readouterr()
    for names in ([str(both)], [f"{both}:gpu0.power.instant", f"{both}:wall.power"]):
        assert main(["sync", *names, "-o", str(third)]) == 2
        assert "is read by a fit on" in capsys.readouterr().err
        assert not third.exists()
    assert main(["report", str(both), "--json"]) == 0
    energies = json.loads(capsys.readouterr().out)["windows"][0]["energies"]
    assert {one["channel"] for one in energies if one["joules"]} == {"gpu0.power.instant", "wall.power"}


def test_sync_verb_of_one_record_s_sensors_keeps_nothing(tmp_path, capsys):
    """They bear this machine's stamps: what lies between them is no clock's."""
    joules = load()
    both = Trace.of([counter(joules).series("gpu0.energy"), gpu_log(joules).series("gpu0.power.instant")])
    file, output = saved(tmp_path, both, "run.parquet"), tmp_path / "x.parquet"
    assert main(["sync", f"{file}:gpu0.energy", f"{file}:gpu0.power.instant", "-o", str(output)]) == 2
    assert "on one clock" in capsys.readouterr().err
    assert not output.exists()


def test_sync_verb_writes_nothing_of_a_fit_that_was_refused(tmp_path, capsys):
    other = load(pattern=random_edges(60, seed=99, cycle_s=0.4))
    files = [saved(tmp_path, counter(load()), "a.parquet"), saved(tmp_path, meter(other), "b.parquet")]
    output = tmp_path / "both.parquet"
    assert main(["sync", *files, "-o", str(output)]) == 1
    assert "was not written" in capsys.readouterr().err
    assert not output.exists()


@needs_measured
def test_published_card_and_its_meter_are_kept_in_one_record(tmp_path, capsys):
    folder, output = CARDS / "step_a100", tmp_path / "both.parquet"
    gpu = ["--gpu", "NVIDIA A100-PCIE-40GB"]
    assert main(["sync", str(folder / "PMD_data.bin"), str(folder / "gpudata.csv"), *gpu, "-o", str(output)]) == 0
    assert main(["report", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.split("accepted\n", 1)[1])
    joules = {one["channel"]: one for one in told["windows"][0]["energies"]}
    assert told["windows"][0]["duration_s"] < 20  # and not the hour of the time zone
    assert joules["gpu0.power.instant"]["whole"]
