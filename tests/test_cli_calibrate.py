# SPDX-License-Identifier: Apache-2.0
"""`powersample calibrate` of a table: the verb as typed, what it tells and keeps, and tables that are damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from powersample import cli, errors
from powersample.fit.calibrate import calibrate, from_sheet, weighted
from powersample.formats.points import PointColumns, parse
from powersample.model import OperatingPoint
from powersample.report.calibration import calibration_json, calibration_text
from powersample.store.calibrations import find_calibration, load_calibration, this_host

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured"
COLUMNS = PointColumns("wall", {"cpu": ("p0", "p1"), "gpu": ("g",)}, load="load")
TABLE = "load,p0,p1,g,wall\n" + "".join(
    f"{load},{cpu / 2},{cpu / 2},{gpu},{650 + 1.2 * (cpu + gpu)}\n"
    for load, cpu, gpu in [
        ("idle", 100, 60),
        ("primes 25 %", 250, 60),
        ("primes 50 %", 400, 60),
        ("primes 100 %", 700, 60),
        ("gpu 30 %", 120, 300),
        ("gpu 60 %", 120, 600),
        ("gpu 100 %", 120, 1000),
        ("Idle", 100, 60),
    ]
)
ASKED = ["--wall", "wall", "--component", "cpu=p0", "--component", "cpu=p1", "--component", "gpu=g"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "t.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return cli.main(["calibrate", *map(str, arguments)])


# ---- the table ---------------------------------------------------------------------------------------------------


def test_points_of_a_table_have_their_load_level_and_sums():
    points = parse(TABLE.encode(), "t", COLUMNS).points
    assert [one.kernel for one in points] == ["idle", *["primes"] * 3, *["gpu"] * 3, "idle"]
    assert [one.level for one in points] == [0, 0.25, 0.5, 1, 0.3, 0.6, 1, 0]
    assert points[3].components_w == {"cpu": 700, "gpu": 60}
    assert points[3].wall_w == 650 + 1.2 * 760


def test_rows_that_are_no_point_are_left_out_and_named_with_their_reason():
    read = parse((TABLE + "fma,1,,3,900\nfma,1,2,3,n/a\n" + "mix,1,,1,1\n" * 7).encode(), "t", COLUMNS)
    assert len(read.points) == 8
    assert read.notes == (
        "lines 10, 12, 13, 14, 15 and 3 more are left out: p1 is empty",
        "line 11 is left out: wall is no number",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("load;p0;p1;g\nidle;1;2;3\n", "there is no column 'wall'"),
        ("load;p0;p1;g;wall\nidle;1;2;3;9,5\n", r"line 2: 9,5 has a decimal comma.*decimal points"),
        ("load,p0,p1,g,wall\nidle,1,2,3,9,5\n", "6 cells under 5 columns"),
        ("load,p0,p1,g,wall,wall\n", "several columns 'wall'"),
        ("load,p0,p1,g,wall\n\n", "no operating point below the header$"),
        ("load,p0,p1,g,wall\nidle,1,2,3,\n", "no operating point below the header; line 2 is left out: wall is empty"),
        ("", "t is empty"),
        ("\n \n", "t is empty"),
    ],
)
def test_table_that_is_not_what_it_should_be_says_where(text, why):
    with pytest.raises(errors.BadFormat, match=why):
        parse(text.encode(), "t", COLUMNS)


def test_rows_of_more_readings_weigh_more():
    """One far-off row of a single reading moves the line less than when all rows weigh alike."""
    wrong = TABLE + "fma 70 %,600,0,60,1700\n"
    lines = [wrong.splitlines()[0] + ",n", *(line + ",400" for line in wrong.splitlines()[1:-1])]
    counted = "\n".join([*lines, wrong.splitlines()[-1] + ",1"])
    columns = PointColumns("wall", COLUMNS.components, load="load", samples="n")
    read = parse(counted.encode(), "t", columns)
    alike, by_count = (
        calibrate(points, source="file").affine for points in (read.points, weighted(read.points, read.samples))
    )
    assert abs(by_count.coefficients[1] - 1.2) < 0.3 * abs(alike.coefficients[1] - 1.2)


# ---- the verb ----------------------------------------------------------------------------------------------------


def test_json_has_what_the_design_promises(own, capsys):
    assert run("--from", "t.csv", *ASKED, "--load-column", "load", "--accuracy", "0.1,0.05,2000", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema_version"] == 1
    assert data["accepted"]
    assert data["p_idle_w"] == pytest.approx(650 + 0.2 * 160)
    assert data["p_busy_w"] == {"primes": pytest.approx(650 + 0.2 * 760)}
    assert set(data["model"]) >= {"kind", "coefficients", "covariance"}
    assert data["leave_one_out_max_pct"] < 0.5
    assert data["leave_one_out_p95_pct"] <= data["leave_one_out_max_pct"]
    assert data["source"] == "file"
    assert data["points"][0]["accuracy_w"] == pytest.approx(0.001 * 842 + 1.0)
    assert [one["left_out_w"] for one in data["points"]] == pytest.approx(
        [one["wall_w"] for one in data["points"]], rel=5e-3
    )


def test_text_has_points_bounds_models_and_picture(own, capsys):
    assert run("--from", "t.csv", *ASKED, "--load-column", "load", "--png", "fit.png") == 0
    text = capsys.readouterr().out
    assert "primes 50 %" in text
    assert "wall = 650 W + 1.2 sum" in text
    assert "accepted" in text
    assert (own / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_table_that_is_fitted_and_not_kept_says_so(own, capsys):
    assert run("--from", "t.csv", *ASKED, "--load-column", "load") == 0
    assert "nothing is kept: -o FILE.json keeps it" in capsys.readouterr().err
    assert sorted(one.name for one in own.iterdir()) == ["t.csv"]
    assert run("--from", "t.csv", *ASKED, "--load-column", "load", "-o", "node.json") == 0
    assert "nothing is kept" not in capsys.readouterr().err


def test_calibration_is_kept_where_it_is_asked_and_found_for_this_host(own, capsys):
    assert run("--from", "t.csv", *ASKED, "--load-column", "load", "-o", "node.json", "--this-host") == 0
    found, path = find_calibration(own / "config" / "powersample" / "calibrations", this_host())
    assert load_calibration(own / "node.json").as_json() == found.as_json()
    assert found.host == this_host()
    assert str(path) in capsys.readouterr().err


def test_refused_calibration_is_not_kept(own, capsys):
    (own / "flat.csv").write_text("p0,p1,g,wall\n" + "".join(f"{50 + 9 * n},0,0,281\n" for n in range(9)))
    assert run("--from", "flat.csv", *ASKED, "-o", "node.json") == 1
    said = capsys.readouterr()
    assert "PSQ-CAL-FLAT" in said.out
    assert "not kept" in said.err
    assert not (own / "node.json").exists()


def test_data_sheet_gives_bounds_that_say_what_they_are(own, capsys):
    assert run("--p-idle", 783, "--p-busy", "primes=811", "--component", "cpu", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["p_idle_w"], data["p_busy_w"], data["best"]) == (783, {"primes": 811}, "bounds")
    assert data["p_busy_u_w"] == {"primes": None}
    assert data["reasons"][0].startswith("PSQ-CAL-SHEET")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "what to calibrate by"),
        (["--from", "t.csv", "--component", "gpu=g"], "--wall COLUMN"),
        (["--from", "t.csv", "--wall", "wall"], "what do counters see"),
        (["--from", "t.csv", "--wall", "wall", "--component", "fpga=g"], "no component 'fpga'"),
        (["--from", "t.csv", "--wall", "wall", "--component", "gpu"], "GROUP=COLUMN"),
        (["--from", "t.csv", *ASKED, "--accuracy", "good"], "RANGE_PCT"),
        (["--from", "t.csv", "--p-idle", "9"], "exclude each other"),
        (["--p-idle", "9", "--component", "gpu", "--wall", "w"], "--wall belongs to --from"),
        (["--p-idle", "-9", "--component", "gpu"], "watts above 0"),
        (["--p-idle", "9", "--component", "fpga", "--p-busy", "8"], "no component 'fpga'"),
    ],
)
def test_arguments_that_do_not_fit_are_told(own, capsys, arguments, why):
    assert run(*arguments) == 2
    assert why in capsys.readouterr().err


def test_lower_bound_alone_is_not_accepted():
    found = from_sheet(("gpu",), 783.0, {})
    assert not found.accepted
    assert found.reasons[-1].startswith("PSQ-CAL-FEW")


# ---- what is told ------------------------------------------------------------------------------------------------


def test_simulated_calibration_says_so_first_and_long_tables_show_the_farthest():
    dice = np.random.default_rng(0)
    points = [
        OperatingPoint(f"row {n}", "other", None, {"gpu": 60.0 + 10 * n}, {}, 300 + 11.0 * n + dice.normal(0, 1), 0.0)
        for n in range(60)
    ]
    points[30] = OperatingPoint("far", "other", None, {"gpu": 360.0}, {}, 660.0, 0.0)
    text = calibration_text(calibrate(points, simulated="h100x1-node3"))
    assert text.startswith("SIMULATED NODE h100x1-node3, not a measurement")
    assert "60 points; these 12 are the farthest off" in text
    assert "\n  far " in text


def test_refused_calibration_tells_no_power_that_could_be_used():
    points = [OperatingPoint(f"row {n}", "other", None, {"gpu": 60.0 + 10 * n}, {}, 300.0, 0.0) for n in range(9)]
    found = calibrate(points)
    assert "no counter sees" not in calibration_text(found)
    assert calibration_json(found)["model"] is None


def test_published_tables_by_the_verb(own, capsys):
    if not MEASURED.exists():
        pytest.skip(f"{MEASURED} is not there")
    ripper, l4 = MEASURED / "codecarbon" / "threadripper_all_cores.csv", MEASURED / "dos_gpu_power" / "L4.csv"
    idle = "Load for 0 threads or % load on all_cores"
    named = ["--load-column", "task_name", "--level-column", "cpu_load", "--idle", idle]
    assert run("--from", ripper, "--wall", "tapo_power", "--component", "cpu=rapl_power", *named, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["affine"]["coefficients"] == pytest.approx((127.6, 0.929), rel=1e-3)
    assert data["p_idle_w"] == pytest.approx(115 - 1.3767, abs=1e-3)
    card = ["--component", "gpu=power_draw_watts_mean", "--samples-column", "samples_per_config"]
    assert run("--from", l4, "--wall", "power_meter_active_power_w_mean", *card) == 1
    assert "does not follow the load" in capsys.readouterr().out
