# SPDX-License-Identifier: Apache-2.0
"""`--keep changes` loses nothing: energies, updates, gaps and errors are those of the recording with every poll."""

import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import powersample as ps
from powersample import errors, store
from powersample._native import api
from powersample.analysis import channel_energy, quality
from powersample.model import Channel, Kind, LaneStats, Series, Trace, Window
from powersample.store.writer import TraceWriter

GRID_NS = 1_000_000
KINDS = {
    "averaging": Channel("p", "GPU-0", "gpu", Kind.POWER, "W", 1e-3, lane="l", sensor="nvml.field.186"),
    "point": Channel("p", "box", "wall", Kind.POWER, "W", 1e-3, lane="l"),
    "counter": Channel("e", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-3, lane="l"),
    "wrapping": Channel("e", "package-0", "package", Kind.ENERGY, "J", 1e-6, lane="l", modulus=1000),
    "aux": Channel("a", "GPU-0", "gpu", Kind.AUX, "%", 1.0, lane="l"),
}


def kept(series, newest, borders, grid_ns=GRID_NS):
    """The rows of csrc/core/keep.c: `newest`, `borders`: polls that are kept for their time, or begin a part."""
    t_ns = series.t_ns
    ordinary = (np.diff(t_ns) > 0) & (np.diff(t_ns) <= 1.5 * grid_ns) & (np.diff(series.seq) == 1)
    failed = series.status != 0
    same = (np.diff(series.status.astype(int)) == 0) & (failed[1:] | (np.diff(series.raw) == 0))
    apart = ~(ordinary & same)
    keep = np.zeros(len(series), bool)
    keep[[0, -1]] = True
    keep[1:] |= apart
    keep[:-1] |= apart
    keep[newest] = True
    for border in borders:
        keep[max(0, border - 1) : border + 1] = True
    rows = np.flatnonzero(keep)
    omitted = np.diff(rows, prepend=-1) - 1
    taken = series.take(rows)
    return Series(taken.channel, taken.t0_ns, taken.t1_ns, taken.raw, taken.status, taken.seq, None, omitted)


class Recording(tuple):
    """Short where hypothesis prints it."""

    __slots__ = ()

    def __repr__(self):
        everything, changes, windows, _ = self
        return f"{everything.channel.name}: {len(changes)} of {len(everything)} polls, windows {windows}"


@st.composite
def recordings(draw):
    """Polls on a grid with late wake-ups, skipped slots, dropped records, repeats, waves, errors and long gaps."""
    channel = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(40, 400))
    jump = chance.random(count) < draw(st.sampled_from([0, 0.02, 0.1]))
    slots = np.cumsum(1 + jump * chance.integers(1, draw(st.sampled_from([2, 5, 300])), count))
    t0_ns = 10**12 + slots * GRID_NS + chance.integers(0, draw(st.sampled_from([1, 200_000])), count)
    run = draw(st.sampled_from([1, 2, 7, 25, 60, 1000]))
    level = (slots // run if draw(st.booleans()) else np.arange(count) // run) + draw(st.integers(0, run))
    shape = draw(st.sampled_from(["wave", "noise", "constant"]))
    raw = {"wave": 1000 + 500 * (level % 2), "noise": chance.integers(0, 5, level.max() + 1)[level]}.get(
        shape, np.full(count, 7)
    )
    if channel.kind is Kind.ENERGY:
        raw = np.cumsum(np.concatenate(([0], np.diff(level) * chance.integers(0, 400, count - 1))))
        if draw(st.booleans()):
            raw[chance.integers(0, count)] += 10**6  # a glitch
        if channel.modulus:
            raw = raw % channel.modulus
        elif draw(st.booleans()):
            raw[count // 2 :] -= raw[count // 2]  # a reset
    failed = chance.random(count) < draw(st.sampled_from([0, 0.05]))
    if draw(st.booleans()):
        begin = draw(st.integers(0, count - 1))
        failed[begin : begin + draw(st.integers(0, 100))] = True
    status = np.where(failed, chance.choice([7, 15], count) if draw(st.booleans()) else 15, 0)
    lost = chance.random(count) < draw(st.sampled_from([0, 0.05]))
    there = ~lost
    there[:2] = True
    seq = (np.arange(count) + draw(st.sampled_from([0, 2**32 - 50]))) % 2**32
    everything = Series(channel, t0_ns, t0_ns + 20_000, raw, status, seq).take(there)
    newest = chance.integers(0, len(everything), draw(st.integers(0, 5)))
    borders = chance.integers(0, len(everything), draw(st.integers(0, 2)))
    span_ns = int(t0_ns[-1] - t0_ns[0])
    edges = st.integers(int(t0_ns[0]) - span_ns // 8, int(t0_ns[-1]) + span_ns // 8)
    windows = [Window("w", *sorted((draw(edges), draw(edges)))) for _ in range(4)]
    lane = LaneStats("l", mode="paced", period_ns=GRID_NS, rate_hz=1e9 / GRID_NS)
    return everything, kept(everything, newest, borders), windows, lane


@given(recordings().map(Recording))
@settings(max_examples=150, deadline=None)
def test_changes_only_tell_what_every_poll_tells(recording):
    everything, changes, windows, lane = recording
    whole, less = (Trace.of([one], lanes=[lane]) for one in (everything, changes))
    name = everything.channel.name
    assert quality(less, name) == quality(whole, name)
    assert less.extent(name).polls == whole.extent(name).polls
    if everything.channel.kind is Kind.AUX:
        return
    for window in windows:
        expected, found = (channel_energy(trace, name, window) for trace in (whole, less))
        assert found.joules == expected.joules
        assert (found.covered_s, found.updates) == (expected.covered_s, expected.updates)
        assert (found.low_j, found.high_j, found.verdict) == (expected.low_j, expected.high_j, expected.verdict)
        if window.end_ns - window.start_ns > 20 * GRID_NS:  # counts of reads are good to one at either edge
            assert (found.method, found.codes) == (expected.method, expected.codes)


def test_integral_is_exact_far_into_a_long_record_and_in_any_chunks():
    """Two days at 700 W in uW: the sums leave 64 bits behind, and a second's energy keeps its last digit."""
    t_ns = 10**15 + np.arange(0, 2 * 86400 * 4, dtype=np.int64) * 250_000_000
    raw = np.where(np.arange(len(t_ns)) % 2, 700_000_001, 700_000_000)
    channel = Channel("p", "box", "wall", Kind.POWER, "W", 1e-6, sensor="")
    zeros = np.zeros(len(t_ns))
    trace = Trace.of([Series(channel, t_ns, t_ns, raw, zeros, np.arange(len(t_ns)))])
    end_ns = int(t_ns[-1])
    assert channel_energy(trace, "p", Window("all", int(t_ns[0]), end_ns)).joules == pytest.approx(
        700.0000005 * (end_ns - int(t_ns[0])) / 1e9, rel=4e-16
    )
    late = Window("late", end_ns - 3_000_000_000, end_ns - 1_000_000_000)
    assert channel_energy(trace, "p", late).joules == pytest.approx(1400.000001, rel=3e-16)


def wave(folder, keep, passes=30_000):
    """Record a scripted device that steps, fails for a while and stands still, in simulated time."""
    steps = [(0, 0, 0, 100_000, 0, 0), (37, 0, 0, 220_000, 0, 0), (90, 0, 15, 0, 0, 0), (97, 0, 0, 150_000, 0, 0)]
    steps += [(0, 1, 0, 0, 3, 0), (150, 1, 0, 450, 0, 0)]
    script = api.Script(channels=2, steps=tuple(steps), repeat_passes=1000)
    options = api.LaneOptions(mode="virtual", rate_hz=1000, max_passes=passes, virtual_start_ns=10**12)
    spool = folder / f"{keep}.parquet.spool"
    spool.mkdir()
    with api.Sampler() as sampler:
        sampler.add(api.scripted_source("box", script), options)
        sampler.start()
        with api.Spool(spool, sampler, keep=keep, part_bytes=1 << 18) as writer:
            writer.start()
            while sampler.running:
                time.sleep(0.01)
            sampler.stop()
            writer.stop()
            stats = writer.stats()
    assert stats["records"] + stats["omitted"] == 2 * passes
    return store.recover(spool), stats


def test_spool_of_changes_gives_the_energies_of_the_spool_of_everything(tmp_path):
    (whole, _), (less, stats) = wave(tmp_path, "all"), wave(tmp_path, "changes")
    assert stats["records"] < 60_000 / 6
    assert (whole.meta["keep"], less.meta["keep"]) == ("all", "changes")
    assert "omitted" in pq.read_schema(less.path).names
    assert "omitted" not in pq.read_schema(whole.path).names
    for name in whole.channels:
        assert quality(less, name) == quality(whole, name)
        for start_ms, end_ms in ((0, 30_000), (1, 2), (95, 20_011), (12_345, 12_789)):
            window = Window("w", 10**12 + start_ms * GRID_NS + 77, 10**12 + end_ms * GRID_NS)
            assert channel_energy(less, name, window).joules == channel_energy(whole, name, window).joules
    again = less.path.with_name("again.parquet")
    store.save(Trace.of([less.series(name) for name in less.channels]), again)
    assert store.load(again).extent("box.power0") == less.extent("box.power0")
    assert less.to_pandas()["omitted"].sum() == stats["omitted"]


def test_writer_without_a_place_for_what_was_left_out_refuses(tmp_path):
    series = Series(KINDS["point"], [1, 9], [2, 10], [5, 5], [0, 0], [0, 8], None, [0, 7])
    with TraceWriter(tmp_path / "x") as writer, pytest.raises(errors.InvalidArgument, match="7 polls are left out"):
        writer.add(series)


def test_measure_of_changes_tells_how_many_polls_it_made(tmp_path):
    with ps.measure(simulate="h100", load="idle", rate_hz=500, keep="changes", output=tmp_path / "x.parquet") as run:
        time.sleep(0.3)
        assert run.trace.meta["keep"] == "changes"
    report = run.report()
    power = next(one for one in report.data["channels"] if one["name"] == "gpu0.power.instant")
    assert power["polls"] > 4 * power["stored"] > 0
    assert power["polls"] == run.trace.extent("gpu0.power.instant").polls
    assert "only changes were kept" in str(report)
    with pytest.raises(errors.InvalidArgument, match="keep 'some'"):
        ps.measure(keep="some")
