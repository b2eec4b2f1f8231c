# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon's files read and put right: memory rules, exact corrections, refusals, the meter beside, the verb."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_calibrate import LADDER, ladder, point
from test_calibrate import wall_of as wall_w
from test_meter_energy import START_NS, cycles, traced

from powersample import cli
from powersample.analysis.codecarbon import Asked, Uncaptured, correct
from powersample.errors import BadFormat, InvalidArgument
from powersample.fit.calibrate import calibrate
from powersample.fit.codecarbon import uncaptured_of
from powersample.formats.codecarbon import KWH_J, memory_rule_w, parse_rows
from powersample.model import Anchor, Trace
from powersample.report.codecarbon_meter import wall_of
from powersample.store.calibrations import save_calibration, this_host

V2 = next(
    csv.reader(
        [
            "timestamp,project_name,run_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,"
            "gpu_energy,ram_energy,energy_consumed,country_name,country_iso_code,region,cloud_provider,cloud_region,os,"
            "python_version,codecarbon_version,cpu_count,cpu_model,gpu_count,gpu_model,longitude,latitude,"
            "ram_total_size,tracking_mode,on_cloud,pue"
        ]
    )
)
V3 = [
    *V2[:3], "experiment_id", *V2[3:13], "water_consumed", *V2[13:29], "cpu_utilization_percent",
    "gpu_utilization_percent", "ram_utilization_percent", "ram_used_gb", *V2[29:], "wue",
]  # fmt: skip
RAPL = Asked(cpu_mode="rapl", interval_s=1.0)
PAPER = Uncaptured(783.0, {"primes": 811.0}, "the paper's figures")


def text_of(*runs, columns=V3):
    """Return a file as CodeCarbon writes it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(runs)
    return out.getvalue()


def cells(*, cpu_w=300.0, gpu_w=500.0, seconds=600.0, version="3.3.2", gib=2048.0, pue=1.0, **more):
    """Return the cells of a run of known mean powers, energies as CodeCarbon makes them: times PUE, in kWh."""
    ram_w = memory_rule_w(int(version[0]), gib, arm=False)
    inside = pue or 1.0
    kwh = {name: watts * seconds * inside / KWH_J for name, watts in (("cpu", cpu_w), ("gpu", gpu_w), ("ram", ram_w))}
    return {
        "timestamp": "2026-11-26T03:00:00",
        "run_id": "aaaa-1",
        "duration": seconds,
        "emissions": 0.4 * sum(kwh.values()),
        **{f"{name}_energy": value for name, value in kwh.items()},
        "energy_consumed": sum(kwh.values()),
        "os": "Linux-5.15.0-x86_64-with-glibc2.31",
        "codecarbon_version": version,
        "gpu_count": 4,
        "ram_total_size": gib,
        "tracking_mode": "machine",
        "pue": pue,
    } | more


def row_of(**changes):
    (row,), _ = parse_rows(text_of(cells(**changes)).encode(), "e.csv")
    return row


def refusals(row, added=PAPER, asked=RAPL):
    found = correct(row, added, asked)
    assert (found.low_j, found.high_j, found.load_j, found.model_j) == (None, None, None, None)
    return [one.code for one in found.refused]


# ---- the file ----


@pytest.mark.parametrize(("columns", "version"), [(V2, "2.4.3"), (V3, "3.3.2")])
def test_rows_of_both_versions_are_read_by_name(columns, version):
    (row,), notes = parse_rows(text_of(cells(version=version, pue=1.2), columns=columns).encode(), "e.csv")
    assert (row.line, row.name, row.version, row.major, row.mode) == (2, "aaaa-1", version, int(version[0]), "machine")
    assert row.cpu_j / 600 == pytest.approx(360, rel=1e-12)
    assert (row.gpu_count, row.ram_gib, row.arm, row.pue, notes) == (4, 2048.0, False, 1.2, ())


def test_run_begins_its_duration_before_its_stamp():
    """CodeCarbon writes a line at the end of a run."""
    row = row_of(seconds=600.5)
    assert (row.end_ns - row.start_ns) / 1e9 == 600.5


def test_cell_over_two_lines_is_one_cell():
    (first, second), _ = parse_rows(text_of(cells(project_name="a\nb"), cells(run_id="bbbb")).encode(), "e.csv")
    assert (first.name, second.name) == ("aaaa-1", "bbbb")


def test_odd_lines_and_cells_are_counted_and_nothing_is_invented():
    body = text_of(cells(gpu_energy="nan"), cells(cpu_energy="-1", run_id="")) + text_of(cells()) + "2026,cut\n"
    found, notes = parse_rows(body.encode(), "e.csv")
    assert [row.gpu_j is None for row in found] == [True, False, False]
    assert found[1].cpu_j is None
    assert found[1].name == "line 3"
    assert len(notes) == 4


def test_version_without_pue_says_so():
    (row,), notes = parse_rows(text_of(cells(), columns=[one for one in V2 if one != "pue"]).encode(), "e.csv")
    assert row.pue == 1.0
    assert "PUE" in notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp;duration;energy_consumed\n1;2,5;3\n", "semicolons"),
        ("timestamp,duration\n1,2\n", "energy_consumed is missing"),
        ("timestamp,duration,duration,energy_consumed\n", "duration stands twice"),
        ("timestamp,duration,energy_consumed\n", "no run"),
        ("", "line 1"),
    ],
)
def test_file_that_is_none_says_what_is_wrong_with_it(text, message):
    with pytest.raises(BadFormat, match=message):
        parse_rows(text.encode(), "e.csv")


@pytest.mark.parametrize(
    ("gib", "version_3_w", "version_2_w"),
    [
        (2, 10, 0.75),
        (16, 10, 6),
        (24, 20, 9),
        (64, 20, 24),
        (128, 38, 48),
        (1024, 38, 384),
        (1536, 54, 576),
        (2048, 70, 768),
        (4096, 126, 1536),
    ],
)
def test_memory_rules_are_those_of_the_versions(gib, version_3_w, version_2_w):
    """As codecarbon 3.3.2's own code answers; of an ARM three tenths, and at least 3 W."""
    assert memory_rule_w(3, gib, arm=False) == pytest.approx(version_3_w)
    assert memory_rule_w(3, gib, arm=True) == pytest.approx(max(3, 0.3 * version_3_w))
    assert memory_rule_w(2, gib, arm=False) == pytest.approx(version_2_w)


# ---- corrections ----

watts = st.floats(1, 5000)


@given(
    cpu_w=watts,
    gpu_w=watts,
    idle_w=watts,
    more_w=st.floats(0, 500),
    seconds=st.floats(10, 1e6),
    pue=st.floats(1, 3),
    version=st.sampled_from(["2.4.3", "3.3.2"]),
    gib=st.floats(1, 4096),
)
def test_corrected_run_is_the_truth_to_1e_9(cpu_w, gpu_w, idle_w, more_w, seconds, pue, version, gib):
    """Whatever the version took for memory, it is gone, and so is the PUE; emissions keep theirs."""
    row = row_of(cpu_w=cpu_w, gpu_w=gpu_w, seconds=seconds, pue=pue, version=version, gib=gib)
    found = correct(row, Uncaptured(idle_w, {"primes": idle_w + more_w}, "x"), Asked("rapl", 1.0, load="primes"))
    assert found.refused == ()
    low_j, high_j = (cpu_w + gpu_w + idle_w) * seconds, (cpu_w + gpu_w + idle_w + more_w) * seconds
    assert found.low_j == pytest.approx(low_j, rel=1e-9)
    assert found.high_j == found.load_j == pytest.approx(high_j, rel=1e-9)
    assert found.rule_w == pytest.approx(row.ram_j / pue / seconds, rel=1e-9)
    assert found.emissions_kg(found.low_j) == pytest.approx(0.4 * pue * low_j / KWH_J, rel=1e-9)


def test_emissions_take_the_pue_that_is_asked_for():
    found = correct(row_of(pue=1.5), PAPER, Asked("rapl", 1.0, pue=1.1))
    assert found.emissions_kg(found.low_j) == pytest.approx(0.4 * 1.1 * (300 + 500 + 783) * 600 / KWH_J, rel=1e-9)


def test_constant_that_is_kept_stays_inside():
    kept = correct(row_of(), Uncaptured(783.0, {"primes": 811.0}, "x", "kept"), RAPL)
    assert kept.low_j == pytest.approx((300 + 500 + 70 + 783) * 600, rel=1e-9)


def test_model_gets_mean_powers_without_pue():
    class Wall:
        def predict(self, components_w):
            assert components_w == pytest.approx({"cpu": 300.0, "gpu": 500.0})
            return 700 + 1.1 * sum(components_w.values()), (1570.0, 1595.0)

    found = correct(row_of(pue=1.3), Uncaptured(783.0, {"primes": 811.0}, "x", model=Wall()), RAPL)
    told = (found.model_j, found.model_low_j, found.model_high_j)
    assert told == pytest.approx((1580 * 600, 1570 * 600, 1595 * 600))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tracking_mode": "process"}, "PSC-MODE"),
        ({"tracking_mode": ""}, "PSC-MODE"),
        ({"gpu_energy": ""}, "PSC-MISSING"),
        ({"duration": ""}, "PSC-MISSING"),
        ({"pue": ""}, "PSC-MISSING"),
        ({"pue": 0}, "PSC-MISSING"),
        ({"seconds": 9.9}, "PSC-SHORT"),
        ({"energy_consumed": 1.0}, "PSC-SUM"),
        ({"os": "Linux-6.1-aarch64"}, "PSC-CPU"),
    ],
)
def test_run_that_cannot_be_corrected_says_why(changes, code):
    assert refusals(row_of(**changes)) == [code]


@pytest.mark.parametrize("mode", [None, "load", "constant"])
def test_cpu_that_was_not_measured_is_refused(mode):
    """No column tells: unless somebody says that it was RAPL, it may have been a guess."""
    assert refusals(row_of(), asked=Asked(mode, 1.0)) == ["PSC-CPU"]


def test_ten_intervals_of_the_default_are_150_s():
    assert refusals(row_of(seconds=149.0), asked=Asked("rapl")) == ["PSC-SHORT"]
    assert correct(row_of(seconds=150.0), PAPER, Asked("rapl")).refused == ()


def test_other_gpus_than_were_calibrated_are_refused():
    four = Uncaptured(783.0, {"primes": 811.0}, "x", gpus=4)
    assert correct(row_of(), four, RAPL).refused == ()
    assert refusals(row_of(gpu_count=1), four) == ["PSC-GPUS"]
    assert refusals(row_of(), four, Asked("rapl", 1.0, gpus=1)) == ["PSC-GPUS"]


def test_power_below_that_of_idle_devices_is_refused():
    """`gpu_count` is the machine's even where `gpu_ids` chose one; four idle H100s draw more than one at work."""
    idle = Uncaptured(783.0, {"primes": 811.0}, "x", gpus=4, idle_parts_w={"cpu": 200.0, "gpu": 280.0})
    assert correct(row_of(), idle, RAPL).refused == ()
    assert refusals(row_of(gpu_w=250.0), idle) == ["PSC-GPUS"]
    assert refusals(row_of(cpu_w=8.0), idle) == ["PSC-CPU"]


def test_bounds_the_wrong_way_round_are_told_and_put_in_order():
    found = correct(row_of(), Uncaptured(811.0, {"primes": 783.0}, "x"), RAPL)
    assert [one.code for one in found.remarks] == ["PSC-BUSY"]
    assert found.low_j < found.high_j


def test_powers_outside_the_calibrated_and_forced_memory_are_remarks():
    hull = Uncaptured(783.0, {"primes": 811.0}, "x", hull_w={"gpu": (280.0, 400.0)})
    row = row_of(ram_energy=0.1, energy_consumed=(800 * 600 / KWH_J) + 0.1)
    assert [one.code for one in correct(row, hull, RAPL).remarks] == ["PSC-HULL", "PSC-MEMORY"]


# ---- by a calibration ----


def test_calibration_that_knows_dram_is_seen_without_it():
    """Idle: 30 W of DRAM; under the heaviest load 150 W. CodeCarbon measures neither."""
    calibration = calibrate(ladder(), host={"gpus": ["a", "b", "c", "d"]})
    inside = uncaptured_of(calibration, "inside", "x")
    assert inside.idle_w == pytest.approx(wall_w(100, 30, 200) - 300)
    assert inside.busy_w["stream"] == pytest.approx(wall_w(400, 150, 200) - 600)
    assert (inside.gpus, inside.idle_parts_w) == (4, {"cpu": 100.0, "gpu": 200.0})
    assert inside.hull_w == {"cpu": (100.0, 700.0), "gpu": (200.0, 1200.0)}
    kept = uncaptured_of(calibration, "kept", "x")
    assert (kept.idle_w, kept.model) == (pytest.approx(wall_w(100, 30, 200) - 330), None)


def test_dram_inside_the_cpus_is_calibrated_likewise():
    """With rapl_include_dram the row's CPU holds DRAM: the model of exact points is then exact for it."""
    points = [point(*rung, wall=650 + 1.2 * sum(rung[2:])) for rung in LADDER]
    rapl = uncaptured_of(calibrate(points), "rapl", "x")
    assert rapl.idle_parts_w == {"cpu": 130.0, "gpu": 200.0}
    found = correct(row_of(cpu_w=460.0, gpu_w=500.0), rapl, RAPL)
    assert found.refused == ()
    assert found.model_j == pytest.approx((650 + 1.2 * 960) * 600, rel=1e-6)


def test_model_of_a_calibration_is_nearer_than_its_bounds_and_holds_the_truth():
    """GPUs at work cost more at the wall than the bounds know: the paper's calibration leaves them idle."""
    dice = np.random.default_rng(2)
    points = [point(*rung, wall=wall_w(*rung[2:]) + dice.normal(0, 2), accuracy_w=2.0) for rung in LADDER]
    found = correct(row_of(cpu_w=150.0, gpu_w=1200.0), uncaptured_of(calibrate(points), "inside", "x"), RAPL)
    truth_j = wall_w(150, 33, 1200) * 600
    assert found.model_low_j < truth_j < found.model_high_j
    assert abs(found.model_j - truth_j) < abs(found.high_j - truth_j)
    assert found.model_high_j - found.model_low_j < 0.15 * truth_j


def test_run_of_which_the_mean_alone_is_known_may_have_varied():
    """Of exact, quadratic points, a run half idle and half at full load takes more than the model of its mean says."""
    exact = calibrate([_without_dram(one) for one in ladder()])
    wall = uncaptured_of(exact, "inside", "x").model
    watts = {"idle": {"cpu": 100.0, "gpu": 200.0}, "busy": {"cpu": 150.0, "gpu": 1200.0}}
    each = {name: wall.predict(one)[0] for name, one in watts.items()}
    told, (low, high) = wall.predict({name: (watts["idle"][name] + watts["busy"][name]) / 2 for name in ("cpu", "gpu")})
    truth = sum(each.values()) / 2
    assert told + 15 < truth < high
    assert high - truth < 3 * (truth - told)
    assert told - low < truth - told


def test_mean_beyond_the_calibrated_powers_widens_the_models_interval():
    wall = uncaptured_of(calibrate([_without_dram(one) for one in ladder()]), "inside", "x").model
    widths = [high - low for low, high in (wall.predict({"cpu": 400.0, "gpu": watts})[1] for watts in (1200.0, 2200.0))]
    assert widths[1] > widths[0] + 2 * 0.2 * 1000


def test_meter_of_which_no_accuracy_is_known_leaves_the_model_without_an_interval():
    found = correct(row_of(), uncaptured_of(calibrate(ladder()), "inside", "x"), RAPL)
    assert found.model_j > found.measured_j
    assert (found.model_low_j, found.model_high_j) == (None, None)


def _without_dram(one):
    """Return a point of a node without memory whose wall power is exactly quadratic, by a meter good to 1 W."""
    watts = {name: value for name, value in one.components_w.items() if name != "dram"}
    total_w = sum(watts.values())
    wall = 650 + 1.1 * total_w + 1e-4 * total_w**2
    return replace(one, components_w=watts, wall_w=wall, accuracy_w=1.0)


def test_calibration_that_does_not_fit_is_an_error():
    calibration = calibrate(ladder())
    cpus = [point(*rung, wall=900 + 1.1 * rung[2]) for rung in LADDER[:7]]
    bare = calibrate([replace(one, components_w={"cpu": one.components_w["cpu"]}) for one in cpus])
    refused = replace(calibration, accepted=False, reasons=("PSQ-CAL-REFUSED: flat",))
    for wrong, memory, message in (
        (calibration, "guessed", "inside, rapl, kept"),
        (refused, "inside", "refused: PSQ-CAL-REFUSED"),
        (bare, "rapl", "no component"),
        (calibrate(ladder()[7:]), "inside", "no bounds"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            uncaptured_of(wrong, memory, "x")
    assert uncaptured_of(bare, "inside", "x").gpus == 0


# ---- a meter beside ----


def metered(seconds=60, at_s=0, **meta):
    """Return a recording of a meter at 1000 W + 10 W/s, whose clock said 02:00:00 UTC at its begin + at_s."""
    begin = 1_795_831_200 * 10**9  # 2026-11-28T02:00:00Z
    anchor = Anchor(START_NS + at_s * 10**9, 0, begin, 0, 0)
    found = traced(cycles(lambda a, b: 1000 + 10 * ((a + b) / 2 - START_NS) / 1e9, seconds), **meta)
    return Trace.of([found.series("wall.power")], meta=found.meta, anchors=[anchor])


@pytest.mark.parametrize(("zone", "hour"), [(UTC, 2), (timezone(timedelta(hours=1)), 3)])
def test_meter_is_cut_where_the_run_was_with_room_for_its_whole_seconds(zone, hour):
    """The stamp's second is cut off: of a rising power the later window holds more, and the interval has both."""
    row = row_of(timestamp=f"2026-11-28T{hour:02}:00:40", seconds=20.0)
    found = wall_of(metered(), row, zone, "run.parquet")
    assert found.joules == pytest.approx((1000 + 305) * 20, rel=1e-3)
    assert found.low_j < (1000 + 300) * 20 < (1000 + 310) * 20 < found.high_j


def test_meter_that_does_not_cover_the_run_tells_nothing():
    found = wall_of(metered(), row_of(timestamp="2026-11-28T03:30:00", seconds=20.0), UTC, "run.parquet")
    assert found.joules is None
    assert found.reasons[-1].startswith("the run lies at 5379.9 to 5400.9 s of a record of 59.9 s: is it the right one")


def test_recording_without_a_meter_is_an_error():
    with pytest.raises(InvalidArgument, match="no meter"):
        wall_of(Trace.of([]), row_of(), UTC, "run.parquet")


# ---- the verb ----

POWER = ("--p-idle", "783", "--p-busy", "primes=811")


def check(tmp_path, capsys, *options, runs=None):
    path = tmp_path / "emissions.csv"
    path.write_text(text_of(*(runs or [cells()])))
    code = cli.main(["codecarbon", "check", str(path), *options])
    return code, capsys.readouterr()


def test_verb_prints_every_run_beside_the_meter(tmp_path, capsys):
    options = (*POWER, "--cpu-mode", "rapl", "--load", "primes", "--wall-kwh", "0.27")
    code, told = check(tmp_path, capsys, *options)
    assert code == 0
    for words in (
        "CodeCarbon  0.1450   870.0          -46.30",
        "low         0.2638",
        "load known  0.2685",
        "memory: inside",
    ):
        assert words in told.out
    code, told = check(tmp_path, capsys, *options, "--json")
    (row,) = json.loads(told.out)["rows"]
    assert row["error_pct"]["low"] == pytest.approx(100 * (1583 * 600 / KWH_J / 0.27 - 1))
    assert row["wall"]["joules"] == pytest.approx(0.27 * KWH_J)


def test_verb_corrects_what_it_can_of_several_runs(tmp_path, capsys):
    runs = (cells(), cells(run_id="bbbb", tracking_mode="process"), cells(run_id="cccc", pue=1.2))
    code, told = check(tmp_path, capsys, *POWER, "--cpu-mode", "rapl", "--json", runs=runs)
    assert code == 0
    assert [len(row["refused"]) for row in json.loads(told.out)["rows"]] == [0, 1, 0]
    code, told = check(tmp_path, capsys, *POWER, "--cpu-mode", "rapl", "--run", "bbbb", runs=runs)
    assert code == 1
    assert "refused: PSC-MODE" in told.out


def test_verb_takes_a_calibration_by_file_or_the_hosts_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    code, told = check(tmp_path, capsys, "--cpu-mode", "rapl")
    assert (code, "Calibrate this machine" in told.err) == (2, True)
    save_calibration(calibrate(ladder(), host=this_host()))
    path = save_calibration(calibrate(ladder(), simulated="paper-nodex4"), tmp_path / "node.json")
    code, told = check(tmp_path, capsys, "--cpu-mode", "rapl", "--load", "primes")
    assert code == 0
    assert "model " in told.out
    assert "SIMULATED" not in told.out
    simulated = ("--cpu-mode", "rapl", "--calibration", str(path))
    code, told = check(tmp_path, capsys, *simulated)
    assert (code, "it is of the simulated node paper-nodex4" in told.err) == (2, True)
    code, told = check(tmp_path, capsys, *simulated, "--simulated")
    assert code == 0
    assert told.out.startswith("SIMULATED NODE paper-nodex4, not a measurement")
    code, told = check(tmp_path, capsys, *POWER, "--calibration", str(path))
    assert (code, "exclude" in told.err) == (2, True)


def test_simulated_runs_are_not_corrected_by_a_real_machines_calibration(tmp_path, capsys):
    path = save_calibration(calibrate(ladder(), host={"name": "node001"}), tmp_path / "node.json")
    options = ("--cpu-mode", "rapl", "--calibration", str(path))
    code, told = check(tmp_path, capsys, *options)
    assert (code, "(calibration node.json of node001)" in told.out) == (0, True)
    code, told = check(tmp_path, capsys, *options, "--simulated")
    assert (code, "it is of a real machine" in told.err) == (2, True)
    code = cli.main(["codecarbon", "live", "--calibration", str(path)])
    assert (code, "it is of a real machine" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("groups", [("cpu", "gpu"), ("cpu", "dram", "gpu")])
def test_data_sheet_without_points_gives_bounds_alone(tmp_path, capsys, groups):
    """A sheet of a node with DRAM as a component cannot be fitted anew without it, and says so by name."""
    path = tmp_path / "sheet.json"
    components = [word for group in groups for word in ("--component", group)]
    assert cli.main(["calibrate", "--p-idle", "783", "--p-busy", "primes=811", *components, "-o", str(path)]) == 0
    capsys.readouterr()
    options = ("--cpu-mode", "rapl", "--calibration", str(path))
    code, told = check(tmp_path, capsys, *options)
    if "dram" in groups:
        assert (code, "no points" in told.err) == (2, True)
        code, told = check(tmp_path, capsys, *options, "--memory", "kept")
    assert code == 0
    assert "low " in told.out
    assert "model " not in told.out


def test_verb_without_a_word_about_the_cpu_corrects_nothing(tmp_path, capsys):
    code, told = check(tmp_path, capsys, *POWER)
    assert code == 1
    assert "--cpu-mode rapl" in told.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--p-idle", "783"), "go together"),
        (("--p-idle", "-1", "--p-busy", "811"), "--p-idle -1"),
        (("--p-idle", "783", "--p-busy", "primes=much"), "LOAD=W"),
        ((*POWER, "--load", "firestarter"), "primes"),
        ((*POWER, "--run", "zzzz"), "no such run"),
        ((*POWER, "--pue", "0.5"), "1 or more"),
        ((*POWER, "--simulated"), "goes with --calibration"),
        ((*POWER, "--meter", "x", "--zone", "noon"), "--zone"),
    ],
)
def test_verb_that_is_used_wrongly_says_how(tmp_path, capsys, options, message):
    path = tmp_path / "x"
    np.savetxt(path, [[0, 1], [1, 1]], delimiter=",", header="t_s,power_w", comments="")
    code, told = check(tmp_path, capsys, *(str(path) if one == "x" else one for one in options))
    assert code == 2
    assert message in told.err
