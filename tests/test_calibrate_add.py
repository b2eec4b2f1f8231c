# SPDX-License-Identifier: Apache-2.0
"""Operating points out of recordings with a meter: steady stretches are points, others are not, closed form."""

from dataclasses import replace

import numpy as np
import pytest
from nodes import FULL, HOST, IDLE, METER, trace, wall_w
from traces import channel, polls, series

from powersample.cli import main
from powersample.errors import InvalidArgument
from powersample.fit import steady_points
from powersample.fit.calibrate import calibrate, from_sheet
from powersample.model import Anchor, OperatingPoint, Trace
from powersample.store import save
from powersample.store.calibrations import load_calibration, save_calibration

GROUPS = ("cpu", "dram", "gpu")
ANCHORS = (Anchor(0, 0, 1_700_000_000 * 10**9, 0, 1),)


def between(share):
    return {group: IDLE[group] + share * (FULL[group] - IDLE[group]) for group in IDLE}


def recording(shares, seconds, meter=1.0, **more):
    powers = {group: [between(share)[group] for share in shares] for group in IDLE}
    return trace(np.array(seconds, float), powers, meter=meter, **more)


def test_steady_stretch_is_a_point_with_the_means_of_its_slices():
    steady = steady_points(recording([0.5], [130]), GROUPS)
    (point,) = steady.points
    powers = between(0.5)
    assert point.components_w == pytest.approx(powers, rel=1e-5)
    assert point.wall_w == pytest.approx(wall_w(**powers), rel=1e-5)
    assert point.duration_s == 60.0  # 130 s less 60 s of settling, in stretches of 30 s
    assert (point.kernel, point.level, steady.stretches) == ("other", None, 2)
    assert point.accuracy_w == pytest.approx(0.0007 * point.wall_w)
    assert point.wall_u_w < 1e-3 * point.wall_w


def test_what_has_not_settled_is_no_point():
    """40 s of each level: fans would still be on their way."""
    assert steady_points(recording([0.2, 0.6, 0.3, 0.8], [40] * 4), GROUPS).points == ()


def test_each_level_is_one_point_however_often_it_comes():
    steady = steady_points(recording([0.2, 0.8, 0.2, 0.8], [100] * 4), GROUPS)
    assert [round(one.sum_w) for one in steady.points] == [round(sum(between(share).values())) for share in (0.2, 0.8)]
    assert steady.stretches == 4


def test_iterations_within_a_slice_are_a_steady_load():
    steady = steady_points(recording([0.3, 0.5] * 75, [1.0] * 150), GROUPS)
    (point,) = steady.points
    assert point.sum_w == pytest.approx(sum(between(0.4).values()), rel=1e-3)


def test_recording_without_a_meter_or_a_component_is_refused():
    powers = {group: [one] for group, one in IDLE.items()}
    with pytest.raises(InvalidArgument, match="no meter at the wall"):
        steady_points(trace([130.0], powers), GROUPS)
    with pytest.raises(KeyError):
        steady_points(trace([130.0], powers, meter=1.0), ("npu",))


def test_point_of_a_component_without_an_interval_says_that_its_chance_is_unknown():
    """Not 0, as if it were known to the joule: the rest is told, and the point bears a mark."""
    made = recording([0.5], [130])
    t_ns = polls(0, 130, 100)
    power = channel("gpu0.power.instant", device="GPU-0", sensor="nobody.knows")
    told = series(power, t_ns, np.full(len(t_ns), round(1000 * between(0.5)["gpu"])))
    others = [made.series(name) for name in made.channels if name != "gpu0.energy"]
    (point,) = steady_points(Trace.of([*others, told], meta=made.meta, anchors=made.anchors), GROUPS).points
    assert point.marks == ("unsure",)
    assert set(point.components_u_w) == {"cpu", "dram"}
    assert point.wall_u_w > 0


# ---- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def kept(home):
    """A calibration without GPU levels, by points of the same node."""
    states = [IDLE, *({**IDLE, "cpu": 100 + 80.0 * i, "dram": 20 + 3.0 * i * (i % 3)} for i in range(1, 6)), IDLE]
    points = [
        OperatingPoint(
            "idle" if i in (0, 6) else f"primes {20 * i} %", "idle" if i in (0, 6) else "primes", 0.2 * i % 1.2,
            powers, dict.fromkeys(powers, 0.01), wall_w(**powers), 0.02, accuracy_w=0.5, duration_s=30.0,
        )
        for i, powers in enumerate(states)
    ]  # fmt: skip
    return save_calibration(calibrate(points, host=HOST, meter="ZES ZIMMER LMG450"))


def test_add_fits_anew_with_points_of_a_recording_and_widens_what_is_calibrated(home, kept, capsys):
    before = load_calibration(kept)
    save(recording([0.2, 0.5, 0.9], [100] * 3, anchors=ANCHORS), home / "run.parquet")
    assert main(["calibrate", "--add", str(home / "run.parquet")]) == 0
    after = load_calibration(kept)
    assert "3 points of 3 steady stretches" in capsys.readouterr().err
    assert len(after.points) == len(before.points) + 3
    assert (after.host, after.meter, after.accepted) == (before.host, before.meter, True)
    assert after.hull_w["gpu"][1] > before.hull_w["gpu"][1] + 200
    slope = dict(zip(after.node.terms, after.node.coefficients, strict=True))["gpu"]
    assert slope == pytest.approx(1.12, abs=0.02)
    assert main(["calibrate", "--add", str(home / "run.parquet")]) == 0
    assert "3 of them were there already" in capsys.readouterr().err
    assert len(load_calibration(kept).points) == len(after.points)


def test_add_of_another_node_or_without_a_calibration_is_refused(home, kept, capsys):
    save(recording([0.2], [100], host_id="9"), home / "other.parquet")
    assert main(["calibrate", "--add", str(home / "other.parquet"), "-o", str(kept)]) == 2
    assert "no recording of the calibrated node: PSQ-CAL-HOST" in capsys.readouterr().err
    assert main(["calibrate", "--add", str(home / "other.parquet")]) == 1
    assert "nothing is kept of the node" in capsys.readouterr().err
    assert main(["calibrate", "--add", str(home / "other.parquet"), "--p-idle", "700"]) == 2
    assert "--p-idle does not go with --add" in capsys.readouterr().err
    assert len(load_calibration(kept).points) == 7


@pytest.mark.parametrize(
    ("other", "source"),
    [
        ({"kind": "dcmi", "maker": "", "model": "DCMI"}, "meter"),
        ({"kind": "wt310", "maker": "Yokogawa", "model": "WT310"}, "meter"),
        ({}, "bmc"),
        ({"kind": "redfish", "maker": "", "model": ""}, "file"),
    ],
)
def test_add_of_another_kind_of_meter_is_refused_and_changes_nothing(home, kept, capsys, other, source):
    """An instrument's points and a management controller's would share the one's limits of error."""
    save_calibration(replace(load_calibration(kept), source=source), kept)
    before = kept.read_text()
    run = recording([0.2, 0.5, 0.9], [100] * 3, anchors=ANCHORS, meters=[{**METER, **other}])
    save(run, home / "run.parquet")
    assert main(["calibrate", "--add", str(home / "run.parquet")]) == 2
    assert "one meter's errors are not the other's" in capsys.readouterr().err
    assert kept.read_text() == before


def test_add_to_a_data_sheet_is_refused_and_its_figures_stay(home, capsys):
    """Points would have been fitted under the sheet's name, and its idle power lost."""
    kept = save_calibration(from_sheet(GROUPS, 783.0, {"primes": 811.0}, host=HOST))
    save(recording([0.2, 0.5, 0.9], [100] * 3, anchors=ANCHORS), home / "run.parquet")
    assert main(["calibrate", "--add", str(home / "run.parquet")]) == 2
    assert "data sheet's figures" in capsys.readouterr().err
    assert load_calibration(kept).p_idle_w == 783.0


def test_add_that_spoils_the_calibration_leaves_it_as_it_was(home, kept, capsys):
    """A meter on another node: it does not follow."""
    before = kept.read_text()
    save(recording([0.2, 0.5, 0.9], [100] * 3, meter=0.3), home / "run.parquet")
    assert main(["calibrate", "--add", str(home / "run.parquet")]) == 1
    assert "what was kept stays as it was" in capsys.readouterr().err
    assert kept.read_text() == before
