# SPDX-License-Identifier: Apache-2.0
"""A calibration of a simulated node through the very recorder, meter's driver and files; its faults likewise."""

import json
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from unprivileged import unprivileged_python

from powersample import cli, errors
from powersample.capture import Plan
from powersample.experiments.calibrate.climb import MeterLost
from powersample.experiments.calibrate.ground import NodeGround
from powersample.experiments.calibrate.plan import Times, parse_rungs
from powersample.experiments.calibrate.result import Calibrated
from powersample.experiments.calibrate.run import Asking, Points, lacks, take_points
from powersample.experiments.calibrate.seen import RecordingSeen
from powersample.fit.calibrate import from_sheet
from powersample.model import MeterInfo
from powersample.session.meters import asked_meters
from powersample.session.simulate import make_node, simulated_plan
from powersample.session.syncing import SyncPlan
from powersample.store.calibrations import load_calibration

QUICK = Times(
    window_s=0.3, per_s=0.1, least_s=0.3, settle_s=3.0, dwell_s=0.5, lost_s=1.5
)  # too short for a GPU's counter


@pytest.fixture
def node():
    with make_node("paper-nodex1", node_seed=1, time_scale=200) as made:
        yield made


def asking(node, output, rungs="primes:100,gpu:100", **more):
    plan = simulated_plan(Plan(), node)
    return Asking(
        plan=plan, meters=asked_meters(["sim"], None), rungs=parse_rungs(rungs), times=QUICK, output=output, **more
    )


def take(asked, node, **more):
    return take_points(asked, lambda points: points, node, **more)


def at(name, doing, act):
    """Return what is told, acting once as a rung is at something."""
    done = []

    def tell(progress):
        if progress.rung == name and progress.doing.startswith(doing) and not done:
            done.append(progress)
            act()

    return tell


def test_calibrate_meter_unplugged_for_a_while_costs_time_and_no_point(node, tmp_path):
    """What the meter does not speak for is no point: the next one that it speaks for all of is taken."""
    pulled = []

    def pull():
        node.meter().unplug()
        pulled.append(time.time_ns())
        threading.Timer(0.5, node.meter().plug).start()

    notes = []
    tell = at("primes 100 %", "settling", pull)
    done = take(asking(node, tmp_path / "c.json", "primes:100"), node, tell=tell, note=notes.append)
    assert [point.name for point in done.points] == ["idle", "primes 100 %", "idle"]
    assert done.points[1].start_ns > pulled[0]
    assert done.points[1].wall_w > 1.1 * done.points[0].wall_w


def test_calibrate_meter_that_stays_away_keeps_its_points_and_goes_on_later(node, tmp_path):
    """In life the second run is another process's: nothing but the journal is handed on."""
    output, notes = tmp_path / "c.json", []
    journal = output.with_name("c.json.journal")
    tell = at("gpu 100 %", "settling", lambda: node.meter().unplug())
    with pytest.raises(MeterLost, match="told nothing"):
        take(asking(node, output, "gpu:100"), node, tell=tell, note=notes.append)
    assert notes == [f"{journal} keeps 1 point: the same command goes on from there"]
    node.meter().plug()
    done = take(asking(node, output, "gpu:100"), node, note=notes.append)
    assert notes[1] == f"{journal} keeps 1 point, 3 more to be measured"
    assert [point.name for point in done.points] == ["idle", "idle", "gpu 100 %", "idle"]
    assert not journal.exists()


def test_calibrate_does_not_go_on_with_a_meter_that_was_swapped(node, tmp_path):
    """What the kept points were measured by stands in the journal, by the meter's own serial number."""
    output = tmp_path / "c.json"
    with pytest.raises(KeyboardInterrupt):
        take(asking(node, output, "gpu:100"), node, tell=at("gpu 100 %", "settling", interrupt))
    journal = output.with_name("c.json.journal")
    (devices,) = [line for line in journal.read_text().splitlines() if '"devices"' in line]
    of_it = json.loads(devices)["devices"]
    assert of_it["GPUs"] == list(node.gpu_uuids)
    (meter,) = of_it["meters at the wall"]
    assert "LMG450" in meter
    journal.write_text(journal.read_text().replace(meter, meter + "9"))
    with pytest.raises(errors.StateError, match="differs in meters at the wall"):
        take(asking(node, output, "gpu:100"), node)


def interrupt():
    raise KeyboardInterrupt


def test_calibrate_without_a_meter_says_what_to_name_and_keeps_nothing(node, tmp_path):
    with pytest.raises(errors.InvalidArgument, match=r"no meter measures the wall.*--p-idle"):
        take(replace(asking(node, tmp_path / "c.json"), meters=asked_meters([], None)), node)
    assert list(tmp_path.iterdir()) == []


def test_calibrate_simulated_devices_as_this_machine_is_refused_and_nothing_is_kept(node, tmp_path, monkeypatch):
    """Their counters would pass for this machine's: only a file of their own may hold what comes of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked = replace(asking(node, None), meters=asked_meters([f"{node.address_of_meter()}"], None))
    with pytest.raises(errors.InvalidArgument, match=r"simulated node's.*--simulate NODE"):
        take(asked, None)
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def test_calibrate_some_gpus_leaves_out_the_loads_that_work_on_all(node, tmp_path):
    one_gpu = replace(asking(node, tmp_path / "c.json"), plan=Plan(gpus=("0",)))
    assert "CUDA_VISIBLE_DEVICES" in lacks(one_gpu, NodeGround(node))["gpu"]
    assert lacks(asking(node, tmp_path / "c.json"), NodeGround(node)) == {}


def test_calibrate_whose_sampler_has_ended_ends_with_its_words():
    ended = SimpleNamespace(recorder=SimpleNamespace(failure=lambda: "ended early with signal SIGKILL"))
    with pytest.raises(errors.DeviceError, match="SIGKILL"):
        RecordingSeen(ended).readings(0)


@pytest.mark.parametrize(("kind", "source"), [("lmg450", "meter"), ("dcmi", "bmc"), ("redfish", "bmc")])
def test_calibrate_by_a_management_controller_says_so(kind, source):
    info = replace(MeterInfo("wall", "", "", "", "", "", "", (), 1.0), kind=kind)
    assert Points((), (info,), {}, None, {}, Path(), ()).source == source


def test_calibrate_bursts_too_short_to_synchronise_by_are_refused_at_once(node, tmp_path):
    with pytest.raises(errors.InvalidArgument, match="too short"):
        take(asking(node, tmp_path / "c.json", sync=SyncPlan(duration_s=2.0)), node)


# ---- the verb


VERB = ["-c", "import sys; from powersample.cli import main; sys.exit(main())"]
NODE = ["--simulate", "paper-node", "--time-scale", "100", "--dwell", "0.5", "--rungs", "primes:100,gpu:100"]


@pytest.fixture
def anybodys():
    """A folder that every user may write, and reach: pytest's own lie in a closed one."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_calibrate_killed_half_way_goes_on_and_is_found_as_any_user(anybodys):
    """The paper's 783 W were put into this node, and must come out of its meter and its counters.

    A recording finds the result by itself, and the wall's energy lies in the interval that it is given.
    """
    tmp_path, config = anybodys, anybodys / "config"
    python = unprivileged_python(f"XDG_CONFIG_HOME={config}", f"TMPDIR={tmp_path}", "PYTHONUNBUFFERED=1")
    command = [*python, *VERB, "calibrate", *NODE]
    told = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as first:
        while len(told) < 2:
            told.append(first.stderr.readline())
        first.kill()
    assert [" done, " in line for line in told] == [True, True]
    left = list(tmp_path.glob("powersample-calibrate-*"))
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "keeps 2 points, 3 more to be measured" in again.stderr
    data = json.loads(again.stdout)
    assert [point["name"] for point in data["points"]].count("idle") == 3
    assert data["accepted"]
    assert data["p_idle_w"] == pytest.approx(783, abs=2)
    assert data["p_busy_w"]["primes"] == pytest.approx(811, abs=4)
    assert data["truth"]["wall_max_error_pct"] < 0.05
    (kept,) = (config / "powersample" / "calibrations").rglob("*.json")
    assert kept.parent.name == "simulated"
    found = load_calibration(kept)
    assert found.simulated == "paper-nodex4+intel_sprx2"
    assert len(left) == 1  # what the kill left behind, and the next one took away
    assert not list(tmp_path.glob("powersample-calibrate-*"))
    record = ["record", "--simulate", "paper-node", "--load", "wave:60,200,0.3,0.5", "--duration", "1.2"]
    subprocess.run([*python, *VERB, *record, "-q", "-o", "run.parquet"], check=True, cwd=tmp_path)
    report = [*python, *VERB, "report", "run.parquet", "--json"]
    told = subprocess.run(report, capture_output=True, check=True, text=True, cwd=tmp_path)
    node = json.loads(told.stdout)["windows"][0]["holistic"]
    assert node["level"] == "model"
    assert node["low_j"] < node["truth_j"] < node["high_j"]


@pytest.mark.parametrize(
    ("output", "told"), [(None, "where `record` finds it"), ("c.json", "for `--calibration FILE`")]
)
def test_calibrate_says_where_record_looks_and_where_it_has_to_be_told(monkeypatch, capsys, tmp_path, output, told):
    path = tmp_path / "c.json"
    done = Calibrated(from_sheet(("cpu",), 700.0, {"primes": 800.0}), path, ())
    monkeypatch.setattr("powersample.cli.calibrate.run_live", lambda _: done)
    assert cli.main(["calibrate", "--meter", "dcmi:", *(["-o", str(tmp_path / output)] if output else [])]) == 0
    assert f"kept in {path}, {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--time-scale", "20"], "belongs to --simulate"),
        (["--short", "--rungs", "fma:50", "--meter", "dcmi:"], "--rungs another"),
        (["--tries", "0", "--meter", "dcmi:"], "1 or more"),
        (["--sync", "-1", "--meter", "dcmi:"], "seconds"),
        (["--rungs", "linpack:50", "--meter", "dcmi:"], "no load"),
        (["--settle", "1", "--meter", "dcmi:"], "40 s or more"),
        (["--meter-name", "x"], "leave them out"),
        (["--from", "t.csv", "--wall", "w", "--component", "cpu=c", "--dwell", "3"], "--dwell is for measuring here"),
        (["--p-busy", "8"], "belongs to --p-idle"),
    ],
)
def test_arguments_of_measuring_that_do_not_fit_are_told(capsys, arguments, why):
    assert cli.main(["calibrate", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_dry_run_as_json_is_one_object_with_the_ladder(capsys):
    command = ["calibrate", "--meter", "lmg450:/dev/nowhere", "--rungs", "fma:50%,stream:25%", "--dry-run", "--json"]
    assert cli.main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema_version"], told["simulated"]) == (1, False)
    assert sorted(str(one["levels"]) for one in told["ladder"]) == ["{'fma': 0.5}", "{'stream': 0.25}", "{}", "{}"]
    assert told["least_s"] < told["most_s"]


def test_dry_run_shows_the_ladder_and_its_time_and_opens_nothing(capsys):
    assert cli.main(["calibrate", "--meter", "lmg450:/dev/nowhere", "--rungs", "fma:50,primes:100", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:4]][0::3] == ["idle", "idle"]
    assert lines[4] == "4 points: 2 min 44 s at least, 16 min 04 s at most if none has to be measured again"
