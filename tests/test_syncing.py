# SPDX-License-Identifier: Apache-2.0
"""Bursts around a recorded program, and each meter's clock by them: in memory, and by the command for real."""

from dataclasses import replace

import numpy as np
import pytest
from test_sync_live import logged

from bench import sync as made_up
from powersample import store
from powersample.cli import main
from powersample.errors import NotSupported
from powersample.loads import random_edges
from powersample.meters.contract import power_channel
from powersample.model import Anchor, MeterInfo, Series, Trace, Window
from powersample.report import build
from powersample.report.clock_fits import clock_fit_line, clock_fits
from powersample.session import bursts, recording, syncing

S = made_up.S
CHANNELS = (power_channel("wall", "fake.P"), power_channel("wall", "fake.P", part="ch2"))
INFO = MeterInfo("wall", "fake", "fake:", "nobody", "none", "", "", CHANNELS, 0.05)


def recorded(starts_s=(0, 60), ppm=0.0, anchors=(), change=lambda value: value):
    """What a meter recorded of bursts, the bursts, and the instants at which its cycles ended."""
    patterns = [random_edges(30, seed=i) for i in range(len(starts_s))]
    logs = [logged(one, made_up.BEGIN_NS + s * S) for one, s in zip(patterns, starts_s, strict=True)]
    loads = [made_up.reference_of(one, made_up.BEGIN_NS + s * S) for one, s in zip(patterns, starts_s, strict=True)]
    meter = made_up.Meter(20.0, 0.012, ppm=ppm, jitter_s=0.0)
    cycles, lag_s = made_up.watch(meter, loads, 1)
    count = len(cycles.value)
    zeros, spans = np.zeros(count, np.uint16), cycles.span_ns.astype(np.int64)
    values = change(cycles.value)
    series = Series(CHANNELS[0], cycles.stamp_ns, cycles.stamp_ns, values, zeros, np.arange(count), spans)
    since = cycles.stamp_ns - made_up.BEGIN_NS
    ends_ns = cycles.stamp_ns - np.rint(lag_s * S + ppm * 1e-6 * since).astype(np.int64)
    trace = Trace.of([series], anchors=anchors, meta={"simulated": False})
    quiet = syncing.Syncing(syncing.SyncPlan(), (INFO,), None)
    quiet.logs.extend(logs)
    return trace, quiet, ends_ns


def told(trace, quiet, ends=None):
    return syncing.told_by_bursts(trace, (INFO,), quiet, {} if ends is None else {"wall": ends})


@pytest.mark.parametrize("starts_s", [(0, 40), (0, 3600)], ids=["close together", "an hour apart"])
def test_bursts_around_a_program_tell_the_meter_s_lag_and_skew(starts_s):
    """Also where what is read around one burst reaches into the next: no value may count twice."""
    trace, quiet, ends = recorded(starts_s, ppm=5.0)
    meta = told(trace, quiet, ends)
    fit = meta["clock_fits"]["wall.power"]
    assert fit["accepted"]
    assert fit["skew_ppm"] == pytest.approx(5, abs=4 * fit["skew_se_ppm"] + 0.1)
    assert meta["sync"]["truth"]["wall.power"]["median_error_s"] < 0.001
    assert [one["edges"] for one in meta["sync"]["bursts"]] == [2 * len(log) for log in quiet.logs]


def test_every_channel_of_a_meter_has_its_clock():
    meta = told(*recorded()[:2])
    assert set(meta["clock_fits"]) == {"wall.power", "wall.power.ch2"}
    assert meta["clock_fits"]["wall.power.ch2"]["channel"] == "wall.power.ch2"
    assert meta["sync"]["truth"] == {}


def test_clock_set_during_the_run_changes_nothing_of_the_fit():
    """Bursts and arrivals are stamped by CLOCK_MONOTONIC: the time of day may jump."""
    begin = made_up.BEGIN_NS
    stepped = [
        Anchor(begin + t * S, begin + t * S, 10**18 + t * S + (3600 * S if t > 30 else 0), begin + t * S, 100)
        for t in range(0, 120, 10)
    ]
    plain = told(*recorded()[:2])["clock_fits"]["wall.power"]
    assert told(*recorded(anchors=stepped)[:2])["clock_fits"]["wall.power"] == plain
    assert plain["accepted"]


def test_meter_that_does_not_follow_the_bursts_is_refused_and_its_stamps_stay(tmp_path):
    trace, quiet, ends = recorded(change=lambda value: np.random.default_rng(1).normal(200, 5, len(value)))
    meta = told(trace, quiet, ends)
    assert not meta["clock_fits"]["wall.power"]["accepted"]
    assert meta["sync"]["truth"] == {}
    whole = Trace.of([trace.series("wall.power")], windows=[run_window()], meta={"simulated": False, **meta})
    report = build(whole)
    codes = [check["code"] for check in report.data["checks"]]
    assert codes.count("PSQ-SYNC-UNEXPLAINED") == 2  # once a channel, and not once a burst of it
    why = {check["what"].partition(":")[2] for check in report.data["checks"] if check["code"] == codes[0]}
    assert len(why) == 1
    assert " bursts 1 and 2 of 2: the load explains" in next(iter(why))
    assert (
        whole.clock_fit("wall.power").apply(whole.series("wall.power")).t1_ns[0] == trace.series("wall.power").t1_ns[0]
    )


def run_window():
    return Window("run", made_up.BEGIN_NS + 32 * S, made_up.BEGIN_NS + 58 * S)


def test_report_tells_the_fit_without_its_residuals():
    trace, quiet, ends = recorded()
    meta = told(trace, quiet, ends)
    whole = Trace.of([trace.series("wall.power")], windows=[run_window()], meta={"simulated": False, **meta})
    report = build(whole)
    fit = report.data["clock_fits"]["wall.power"]
    assert fit["lag_s"] == pytest.approx(0.012, abs=0.002)
    assert fit["truth"]["median_error_s"] < 0.001
    assert "residual_w" not in str(report.data)
    assert "after its cycles' ends" in " ".join(str(report).split())


def test_line_of_a_refused_fit_says_why():
    trace, quiet, _ = recorded(change=lambda value: np.full(len(value), 230.0))
    (line, _) = [clock_fit_line(fit) for fit in clock_fits(told(trace, quiet)).values()]
    assert "not synchronised" in line
    assert "do not move" in line


def test_recording_without_bursts_or_without_values_has_no_fit():
    trace, quiet, _ = recorded()
    quiet.logs.clear()
    assert told(trace, quiet)["clock_fits"] == {}
    empty = Trace.of([trace.series("wall.power", 0, 1)])
    _, quiet, _ = recorded()
    assert told(empty, quiet)["clock_fits"] == {}


@pytest.mark.parametrize(
    "error", [NotSupported("this torch sees no GPU"), RuntimeError("out of memory: torch sees no GPU")]
)
def test_burst_that_cannot_be_made_is_told_and_costs_nothing_else(monkeypatch, error):
    def refuse(pattern, stop):
        raise error

    monkeypatch.setattr(syncing, "gpu_load", refuse)
    quiet = syncing.Syncing(syncing.SyncPlan(load="gpu"), (INFO,), None)
    quiet.burst(0.0, lambda: False)
    assert quiet.logs == []
    assert "sees no GPU" in quiet.trouble[0]


def test_burst_on_a_busy_machine_is_a_note_and_no_trouble(monkeypatch):
    """Its edges were logged as they were: the fit goes by them."""
    monkeypatch.setattr(syncing, "cpu_load", lambda pattern, stop: replace(logged(pattern, 0), missed=3))
    quiet = syncing.Syncing(syncing.SyncPlan(), (INFO,), None)
    quiet.burst(0.0, lambda: False)
    assert quiet.trouble == []
    assert quiet.notes == ["burst 1 to synchronise by: 3 bursts of the load came to nothing: the machine was too busy"]


@pytest.mark.parametrize(("cycle_s", "duration_s"), [(0.05, 30.0), (1.0, 60.0)])
def test_burst_is_as_long_as_the_slowest_meter_needs(monkeypatch, cycle_s, duration_s):
    seen = []
    monkeypatch.setattr(syncing, "cpu_load", lambda pattern, stop: seen.append(pattern) or logged(pattern, 0))
    quiet = syncing.Syncing(syncing.SyncPlan(), (INFO, replace(INFO, cycle_s=cycle_s)), None)
    quiet.burst(0.0, lambda: False)
    quiet.burst(0.0, lambda: False)
    assert seen[0].duration_s == pytest.approx(duration_s, abs=3.5 * cycle_s + 0.2)
    assert not np.array_equal(seen[0].edge_s, seen[1].edge_s)  # each burst its own edges


def test_fit_that_breaks_costs_the_recording_nothing(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(syncing, "told_by_bursts", broken)
    monkeypatch.setattr(syncing, "node_load", lambda node: lambda pattern, stop: logged(pattern, 0))
    monkeypatch.setattr(recording, "REST_S", 0.0)
    output = tmp_path / "run.parquet"
    command = ["--simulate", "h100", "--meter", "sim", "--sync", "11", "-o", str(output), "--", "true"]
    assert main(["record", *command]) == 0
    assert "could not be told: SVD did not converge" in " ".join(store.load(output).meta["trouble"])
    assert len(store.load(output).series("wall.power"))


def test_record_of_the_paper_s_node_has_wall_and_components_on_one_clock_with_its_error(tmp_path, monkeypatch, capsys):
    """As a user types it; with a real meter only its address differs."""
    monkeypatch.setattr(bursts, "LEAST_BURST_S", 2.0)
    monkeypatch.setattr(bursts, "NODE_REST_S", 0.3)
    monkeypatch.setattr(recording, "REST_S", 0.2)
    output = tmp_path / "run.parquet"
    node = ["--simulate", "paper-node", "--load", "wave:100,250,0.2,0.5"]
    command = [*node, "--meter", "sim", "--sync", "2.2", "-o", str(output), "--", "sleep", "0.6"]
    assert main(["record", *command]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "powersample: bursts of load for 2.2 s, to synchronise by; then the program begins" in shown
    assert "powersample: the program has ended; bursts of load for 2.2 s again" in shown
    assert "wall.power comes" in shown
    assert "against the simulated meter's own cycles" in shown
    trace = store.load(output)
    assert trace.meta["trouble"] == []
    assert len(trace.meta["sync"]["bursts"]) == 2
    assert trace.clock_fit("wall.power").accepted
    assert trace.meta["sync"]["truth"]["wall.power"]["median_error_s"] <= 0.002
    (window,) = build(trace).data["windows"]
    joules = {(one["domain"], one["device"]): one for one in window["energies"] if one["primary"]}
    assert [domain for domain, _ in joules].count("gpu") == 4
    assert {domain for domain, _ in joules} >= {"wall", "gpu", "package"}
    parts = [one for (domain, _), one in joules.items() if domain in ("gpu", "package", "dram")]
    for one in (*parts, joules["wall", "wall"]):
        assert one["joules"] == pytest.approx(one["truth_j"], rel=0.1), one["channel"]
    components_j = sum(one["joules"] for one in parts)
    assert components_j < joules["wall", "wall"]["joules"] < 3 * components_j


@pytest.mark.parametrize(
    "options",
    [
        ["--sync", "--", "true"],
        ["--meter", "sim", "--sync", "-1", "--", "true"],
        ["--meter", "sim", "--sync", "1", "--", "true"],
        ["--meter", "sim", "--sync", "--duration", "1"],
        ["--meter", "sim", "--sync-load", "gpu", "--", "true"],
        ["--meter", "sim", "--sync", "--sync-load", "gpu", "--", "true"],
    ],
)
def test_sync_around_a_program_used_wrongly_is_a_usage_error_and_records_nothing(options, tmp_path, capsys):
    output = tmp_path / "run.parquet"
    assert main(["record", "--simulate", "h100", "-o", str(output), *options]) == 2
    assert capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
