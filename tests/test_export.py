# SPDX-License-Identifier: Apache-2.0
"""Traces in other tools' formats, read back by the readers of those."""

import numpy as np
import pytest
from traces import S, channel, polls, series

from powersample import store
from powersample.cli import main
from powersample.errors import InvalidArgument
from powersample.export import spl_lines
from powersample.meters.contract import power_channel
from powersample.model import Anchor, Kind, Trace, Window
from powersample.readers import read

START_NS = 1_750_000_000 * S  # of the time of day at CLOCK_MONOTONIC 0
ANCHOR = Anchor(0, 0, START_NS, 0, 0)


def trace(**more):
    t_ns = polls(0, 10, 1000)
    wall = series(power_channel("wall", "x", span="none"), t_ns, 100.0 + np.arange(len(t_ns)))
    gpu = series(channel(kind=Kind.POWER), t_ns, t_ns)
    return Trace.of([wall, gpu], **{"anchors": [ANCHOR], "windows": [Window("epoch, 1", 2 * S, 5 * S)]} | more)


def test_spl_of_a_trace_reads_back_with_its_times_watts_and_windows(tmp_path):
    path = tmp_path / "spl.txt"
    path.write_text("\n".join(spl_lines(trace(), zone_s=3600)))
    back = read(path)
    found, expected = back.series("wall.power"), trace().series("wall.power")
    assert np.array_equal(found.t0_ns, START_NS + 3600 * S + expected.t_ns)
    assert np.array_equal(found.value, expected.value)
    assert [one.name for one in back.windows] == ["powersample", "epoch; 1", "powersample"]
    assert list(found.value[[0, -1]]) == [100.0, 110.0]


def test_spl_of_missing_values_says_nan_and_of_a_simulation_says_so():
    t_ns = polls(0, 3, 1000)
    wall = series(power_channel("wall", "x", span="none"), t_ns, np.ones(len(t_ns)), status=[0, 5, 0, 0])
    lines = list(spl_lines(Trace.of([wall], anchors=[ANCHOR], meta={"simulated": True}), zone_s=0))
    assert "Watts,nan," in lines[1]
    assert all(line.endswith("Mark,SIMULATED powersample") for line in lines)


@pytest.mark.parametrize(
    ("more", "name", "message"),
    [
        ({"anchors": []}, None, "time of day"),
        ({"meta": {"clock": "start"}}, None, "time of day"),
        ({}, "gpu0.energy", "W"),
    ],
)
def test_spl_of_what_cannot_be_written_is_refused(more, name, message):
    t_ns = polls(0, 3, 1000)
    energy = series(channel("gpu0.energy", kind=Kind.ENERGY), t_ns, t_ns)
    wall = series(power_channel("wall", "x", span="none"), t_ns, np.ones(len(t_ns)))
    with pytest.raises(InvalidArgument, match=message):
        spl_lines(Trace.of([wall, energy], **{"anchors": [ANCHOR]} | more), name)


def test_spl_without_a_wall_asks_which_power():
    t_ns = polls(0, 3, 1000)
    with pytest.raises(InvalidArgument, match="0 of the wall; there are gpu0"):
        spl_lines(Trace.of([series(channel(), t_ns, t_ns)], anchors=[ANCHOR]))


def test_export_verb_writes_what_report_reads_and_does_not_overwrite(tmp_path, capsys):
    log = tmp_path / "log.csv"
    rows = [f"2026-11-25T20:00:{second:02}Z,50" for second in range(30)]
    log.write_text("\n".join(["time_iso,power_w", *rows]))
    out = tmp_path / "spl.txt"
    assert main(["export", str(log), "--format", "ptdaemon", "-o", str(out), "--zone", "+01:00"]) == 0
    assert out.read_text().startswith("Time,11-25-2026 21:00:00.000,Watts,50.000000,")
    assert main(["report", str(out), "--json"]) == 0
    assert '"joules": 1450.0' in capsys.readouterr().out
    assert main(["export", str(log), "--format", "ptdaemon", "-o", str(out)]) == 1
    assert main(["export", str(log), "--format", "ptdaemon", "--zone", "home"]) == 2
    assert main(["export", str(log), "--format", "ptdaemon", "--zone", "Z"]) == 0
    assert "11-25-2026 20:00:00.000" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["csv", "influx"])
def test_export_of_a_simulation_has_its_truth_only_where_it_is_asked_for(form, tmp_path, capsys):
    """A truth has its device's domain: a sum over that would count both."""
    truth = series(channel("truth.gpu0.power", Kind.POWER), polls(0, 10, 1000), np.full(11, 7))
    path = tmp_path / "run.parquet"
    found = [series(channel("gpu0.power", Kind.POWER), polls(0, 10, 1000), np.full(11, 7)), truth]
    store.save(Trace.of(found, anchors=[ANCHOR], meta={"simulated": True}), path)
    assert main(["export", str(path), "-f", form]) == 0
    said = capsys.readouterr().out
    assert "gpu0.power" in said
    assert "truth." not in said
    assert main(["export", str(path), "-f", form, "--channel", "truth.*"]) == 0
    assert "truth.gpu0.power" in capsys.readouterr().out
