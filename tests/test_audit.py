# SPDX-License-Identifier: Apache-2.0
"""Audits of recordings and tables: ranges, few updates, clusters, offsets, and what the paper found beside them."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from test_formats import ECNAS
from test_meter_energy import START_NS
from test_meter_gpu import BUSY_W, recorded
from traces import MS, S, channel, series

from powersample import cli
from powersample.analysis.signatures import offset, usage
from powersample.errors import BadFormat
from powersample.formats import zeus
from powersample.model import Kind, RunRow, RunTable, Trace, Window
from powersample.readers import read
from powersample.report import audit
from powersample.report.audit_trace import audit_trace
from powersample.session import measure
from powersample.session.simulate import make_node
from powersample.store import save

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured"
needs_measured = pytest.mark.skipif(not MEASURED.exists(), reason="the published traces (../shared/data) are not here")


def node(watts, *, shown=None, period_ms=100, epoch_s=2.0, gpus=1, limit_w=350.0, truth=True):
    """Return GPUs that draw `watts[epoch]`, a second at 50 W between epochs, polled every 10 ms.

    `shown` is what the sensor says of an epoch's power; None the power itself.
    """
    parts, marks = [], []
    pause_s = 1.0
    t_ns = np.arange(0, int((len(watts) * (epoch_s + pause_s) + pause_s) * S) + 1, 10 * MS)
    for number in range(len(watts)):
        start_ns = round((pause_s + number * (epoch_s + pause_s)) * S)
        marks.append(Window(f"epoch {number}", start_ns, start_ns + round(epoch_s * S)))
    for gpu in range(gpus):
        power = np.full(len(t_ns), 50.0)
        told = power.copy()
        for number, mark in enumerate(marks):
            inside = (t_ns >= mark.start_ns) & (t_ns < mark.end_ns)
            power[inside] = watts[number] + 5 * gpu
            told[inside] = power[inside] if shown is None else shown(watts[number] + 5 * gpu, t_ns[inside])
        device = f"GPU-{gpu}"
        update = t_ns // (period_ms * MS)
        held = told[(update * (period_ms // 10)).clip(max=len(told) - 1)] + 0.01 * (update % 3)
        counted = np.concatenate(([0.0], np.cumsum(power[:-1] * 0.01)))
        shows = channel(f"gpu{gpu}.power.usage", device=device)
        parts.append(series(shows, t_ns, np.rint(held * 1000).astype(np.int64)))
        if truth:
            name = f"truth.gpu{gpu}.energy"
            parts.append(series(channel(name, Kind.ENERGY, device), t_ns, np.rint(counted * 1000).astype(np.int64)))
    devices = [{"index": gpu, "uuid": f"GPU-{gpu}", "power_limit_w": limit_w} for gpu in range(gpus)]
    return Trace.of(parts, windows=marks, meta={"simulated": truth, "devices": devices})


def told(data, code):
    return [one for one in data["checks"] if one["code"] == code]


# ---- signatures ----


def test_usage_is_the_papers_score():
    found = usage([146.0, np.nan, 200.0, 305.0], idle_w=75.0, limit_w=800.0)
    assert (found.n, found.span_w) == (3, 159.0)
    assert found.share == pytest.approx(0.22, abs=0.001)
    assert usage([100.0, 200.0]).share is None
    assert usage([np.nan]) is None


def test_values_at_the_least_are_on_the_floor():
    assert usage([50, 50.5, 50.9, 100, 200, 300]).floor_share == pytest.approx(2 / 5)


def test_offset_is_constant_where_no_difference_crosses_zero():
    dice = np.random.default_rng(1)
    truth = dice.uniform(100, 300, 30)
    assert offset(truth - 30 + dice.normal(0, 3, 30), truth).constant
    assert not offset(truth + dice.normal(0, 30, 30), truth).constant
    assert not offset(truth + 0.1, truth).constant  # negligible
    assert offset([1.0, 2.0], [1.0, 2.0]) is None


# ---- recordings ----


def test_recording_of_epochs_tells_range_few_updates_and_agreement_beside_the_paper():
    data = audit_trace(node([146, 180, 220, 260, 305], epoch_s=0.8), idle_w=75.0)
    (found,) = told(data, "PSA-RANGE")
    assert found["what"].startswith("gpu0: epochs from 14")
    assert found["what"].endswith(" % of 75.00 W at rest to 350.0 W")
    assert data["usage"][0]["share"] == pytest.approx(159 / 275, abs=0.02)
    assert "146 to 305 W" in found["paper"]
    (few,) = told(data, "PSA-UPDATES")
    assert (data["few_updates"]["share"], few["level"]) == (1.0, "warning")
    assert few["paper"].startswith("39 %")
    pearson = {row["method"]: row["pearson"] for row in data["agreement"] if row["unit"] == "W"}
    assert pearson["powersample"] > 0.99
    assert told(data, "PSA-CAPTURED") == []
    json.dumps(data, allow_nan=False)


def test_long_epochs_hold_enough_updates():
    data = audit_trace(node([100, 200], epoch_s=4.0))
    assert data["few_updates"] == {"epochs": 2, "few": 0, "share": 0.0, "most": 10}
    assert audit_trace(node([100, 200], epoch_s=4.0), most=100)["few_updates"]["few"] == 2


def test_several_gpus_are_told_each_and_together():
    data = audit_trace(node([100, 200, 300], gpus=4), idle_w=50.0)
    assert [one["name"] for one in data["usage"]] == ["gpu0", "gpu1", "gpu2", "gpu3", "4 GPUs together"]
    together = data["usage"][-1]
    assert (together["low_w"], together["high_w"]) == (pytest.approx(430, rel=0.01), pytest.approx(1230, rel=0.01))
    assert together["share"] == pytest.approx(800 / (1400 - 200), rel=0.01)


def test_sensor_that_shows_extremes_only_is_bimodal_and_its_load_is_not():
    """The paper's figure 2: readings low or high, the meter's between."""

    def extremes(watts, t_ns):
        high = np.random.default_rng(int(watts)).uniform(size=len(t_ns)) < (watts - 80) / 240
        return np.where(high, 300 + t_ns % 7, 90 + t_ns % 5)

    data = audit_trace(node(list(np.linspace(120, 280, 25)), shown=extremes, epoch_s=1.2))
    (found,) = told(data, "PSA-BIMODAL")
    assert found["level"] == "warning"
    assert "the measurement's, not the load's" in found["fix"]
    assert data["bimodal"][0]["truth"]["p"] > 0.01 >= data["bimodal"][0]["updates"]["p"]


def test_repeated_polls_are_no_values_of_their_own():
    """Of 2 s there are 20 updates however often they are polled."""
    data = audit_trace(node([100, 200], shown=lambda watts, t_ns: watts + np.arange(len(t_ns)) // 10))
    assert data["bimodal"][0]["updates"]["n"] == pytest.approx(42, abs=3)


def test_constant_deficit_is_an_offset_and_leaves_the_correlation():
    data = audit_trace(node([100, 150, 200, 250, 300], shown=lambda watts, t_ns: watts - 30.0))
    offsets = {one["method"]: one for one in data["offset"]}
    assert offsets["powersample"]["bias"] == pytest.approx(-30, abs=1)
    assert {one["level"] for one in told(data, "PSA-OFFSET")} == {"warning"}
    assert {one["level"] for one in told(data, "PSA-AGREEMENT")} == {"info"}


def test_meter_of_a_simulated_node_is_the_reference_and_the_truth_stands_beside_it():
    """The truth is no instrument: what a meter's own error does to the agreement is to be seen."""
    found = recorded()
    epochs = [Window(f"epoch {i}", START_NS + at * S, START_NS + (at + 3) * S) for i, at in enumerate((1, 5, 11, 15))]
    counter = found.series("gpu0.energy")
    exact = series(channel("truth.gpu0.energy", Kind.ENERGY, counter.channel.device), counter.t0_ns, counter.raw)
    parts = [*(found.series(one) for one in found.channels), exact]
    trace = Trace.of(parts, windows=epochs, meta={**found.meta, "simulated": True})
    data = audit_trace(trace, busy_w=BUSY_W)
    assert data["reference"] == "the meter"
    rows = {(row["method"], row["unit"]): row for row in data["agreement"]}
    assert rows["the exact truth", "W"]["n"] == 4
    assert rows["the exact truth", "W"]["pearson"] > 0.99
    assert not any("the exact truth" in one["what"] for one in data["checks"])
    without = audit_trace(trace)
    assert without["reference"] == "the exact truth"
    assert without["notes"] == ["a meter was recorded: with --p-idle and --p-busy, or calibrated, it is the reference"]


def test_meter_is_a_reference_where_the_uncaptured_power_is_known():
    """A counter shows no power, and still an energy that the meter's can stand beside."""
    found = recorded()
    epochs = [
        Window(f"epoch {i}", START_NS + begin * S, START_NS + (begin + 3) * S) for i, begin in enumerate((1, 5, 11, 15))
    ]
    trace = Trace.of([found.series(one) for one in found.channels], windows=epochs, meta=found.meta)
    data = audit_trace(trace)
    assert (data["reference"], data["agreement"]) == (None, [])
    (captured,) = told(data, "PSA-CAPTURED")
    assert data["captured"]["share"] == pytest.approx((220 + 360) / (1157 + 220), rel=0.01)
    assert "783 W idle" in captured["paper"]
    data = audit_trace(trace, busy_w=BUSY_W)
    assert data["reference"] == "the meter"
    rows = {(row["method"], row["unit"]): row for row in data["agreement"]}
    assert rows["powersample", "W"]["pearson"] > 0.99
    assert rows["powersample", "W"]["bias"] == pytest.approx(0, abs=0.5)
    assert rows["mean of readings", "W"]["n"] == 0
    json.dumps(data, allow_nan=False)


def test_recording_without_epochs_or_readings_says_so():
    trace = node([100, 200], truth=False)
    bare = Trace.of([trace.series("gpu0.power.usage")], meta=trace.meta)
    data = audit_trace(bare)
    assert data["few_updates"] is None
    assert "no epochs" in data["notes"][0]
    assert audit_trace(Trace.of([]))["notes"] == ["the recording is empty"]


def test_recordings_of_simulated_nodes_of_one_and_four_gpus(tmp_path, capsys):
    """The real way: a node, its sensors and its truth, recorded and read again."""
    files = []
    for name, gpus in (("h100+none", 1), ("h100x4+none", 4)):
        files.append(str(tmp_path / f"{gpus}.parquet"))
        with make_node(name) as built, measure(simulate=built, output=files[-1]) as run:
            for number, watts in enumerate((90, 160, 230)):
                for gpu in range(gpus):
                    built.load_script(gpu, [(0.0, watts + 5.0 * gpu)])
                time.sleep(0.15)
                with run.window(f"epoch {number}"):
                    time.sleep(0.25)
            time.sleep(0.1)
    assert cli.main(["audit", *files, "--idle", "48", "--json"]) == 0
    one, four = json.loads(capsys.readouterr().out)["files"]
    assert [len(data["usage"]) for data in (one, four)] == [1, 5]
    assert four["usage"][-1]["low_w"] == pytest.approx(4 * 90 + 30, rel=0.05)
    for data in (one, four):
        assert data["few_updates"]["share"] == 1.0
        ours = next(row for row in data["agreement"] if (row["method"], row["unit"]) == ("powersample", "W"))
        assert ours["pearson"] > 0.98
    assert cli.main(["audit", *files]) == 0
    said = capsys.readouterr().out
    assert [said.count(f"SIMULATED NODE {name}, not a measurement") for name in ("h100", "h100x4")] == [1, 1]


# ---- tables ----


def test_table_tells_range_limit_and_floor_of_its_runs():
    watts = [50.0] * 6 + [60.0, 120.0, 180.0, 255.0]
    rows = [RunRow(f"r{i}", None, 10.0, power_w={"gpu": one}, limit_w=250.0) for i, one in enumerate(watts)]
    found = audit(RunTable("zeus", None, tuple(rows)), idle_w=30.0)
    checks = {one["code"]: one for one in found.data["checks"]}
    assert "from 50.00 to 255.0 W: 93 %" in checks["PSA-RANGE"]["what"]
    assert "1 of 10 mean powers exceed their limit, by up to 2.0 %" in checks["PSA-LIMIT"]["what"]
    assert checks["PSA-FLOOR"]["level"] == "warning"
    assert "PSA-MISSING" not in checks  # the tool tells powers, and lacks nothing
    assert "[the paper: 146 to 305 W" in str(found).replace("\n    ", " ")


def test_table_beside_a_reference_has_its_pue_undone():
    """CodeCarbon's energies bear the PUE; the meter's do not."""
    dice = np.random.default_rng(3)
    walls = dice.uniform(1e6, 2e6, 12)
    parts = 1.5 * (walls - 4e5)
    mine = [RunRow(f"r{i}", None, 1000.0, {"gpu": one}, one, pue=1.5) for i, one in enumerate(parts)]
    theirs = tuple(RunRow(f"r{i}", None, 1000.0, {}, one) for i, one in enumerate(walls))
    data = audit(RunTable("codecarbon", "3", tuple(mine)), reference=RunTable("meter", None, theirs)).data
    assert data["offset"]["bias"] == pytest.approx(-400)
    assert data["captured"]["parts_j"] == pytest.approx(walls.sum() - 12 * 4e5)
    assert [row["pearson"] for row in data["agreement"]] == pytest.approx([1, 1])
    nobody = audit(RunTable("x", None, tuple(mine)), reference=RunTable("y", None, (RunRow("z", None, 1.0, {}, 1.0),)))
    assert "no run of the reference" in nobody.data["notes"][-1]


ZEUS = "dataset,network,batch_size,optimizer,power_limit,time_per_epoch,average_power\n"


def test_zeus_row_is_an_epoch_with_a_power_and_a_limit():
    found = zeus.parse((ZEUS + "cifar100,resnet50,32,adam,100,20.5,98.5\nx,y,1,sgd,100,,\n").encode(), "z.csv")
    (row,) = found.rows
    assert (row.name, row.duration_s) == ("cifar100 resnet50 32 adam 100", 20.5)
    assert (row.power_w, row.limit_w) == ({"gpu": 98.5}, 100.0)
    assert found.notes == ("1 lines that are no configuration are left out",)
    for text in ("a,b\n", ZEUS):
        with pytest.raises(BadFormat):
            zeus.parse(text.encode(), "z.csv")


# ---- the verb ----


def test_verb_audits_several_files(tmp_path, capsys):
    save(node([100, 200, 300]), tmp_path / "run.parquet")
    (tmp_path / "runs.jsonl").write_text(json.dumps(ECNAS))
    (tmp_path / "zeus.csv").write_text(ZEUS + "a,b,1,c,250,10,100\na,b,2,c,250,10,200\n")
    files = [str(tmp_path / name) for name in ("run.parquet", "runs.jsonl", "zeus.csv")]
    assert cli.main(["audit", *files, "--idle", "50"]) == 0
    out = capsys.readouterr().out
    assert "SIMULATED NODE, not a measurement\n3 epochs beside the exact truth" in out
    assert all(words in out for words in ("PSA-PUE", "runs by zeus", "[the paper: 39 %"))
    assert cli.main(["audit", *files, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [Path(one["file"]).name for one in data["files"]] == ["run.parquet", "runs.jsonl", "zeus.csv"]
    assert data["simulated"] is True


def test_verb_sets_runs_of_several_recordings_beside_their_truths(tmp_path, capsys):
    files = []
    for watts in (100, 160, 220, 280):
        files.append(str(tmp_path / f"{watts}.parquet"))
        save(node([watts, watts + 20]), files[-1])
    assert cli.main(["audit", *files, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["agreement"]
    assert [(row["level"], row["n"], row["unit"]) for row in rows] == [("run", 4, "J"), ("run", 4, "W")]
    assert rows[0]["pearson"] > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--idle", "-5"), "--idle -5"),
        (("--p-idle", "783"), "go together"),
        (("--few", "0"), "--few 0"),
        (("--reference", "run.parquet"), "a table of runs"),
    ],
)
def test_verb_that_is_used_wrongly_says_how(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    save(node([100, 200]), tmp_path / "run.parquet")
    assert cli.main(["audit", "run.parquet", *options]) == 2
    assert message in capsys.readouterr().err


# ---- what others published ----


@needs_measured
def test_measured_ecnas_epochs_hold_few_samples_and_a_pue():
    found = audit(read(MEASURED / "ecnas/ecnas_4V9E_4epochs.jsonl"), idle_w=15.0, limit_w=260.0).data
    checks = {one["code"]: one for one in found["checks"]}
    assert found["samples_per_epoch"]["few_share"] == 1.0
    assert (found["usage"]["low_w"], found["usage"]["high_w"]) == pytest.approx((124.9, 226.7), abs=0.1)
    assert checks["PSA-RANGE"]["level"] == "warning"
    assert checks["PSA-BIMODAL"]["level"] == "info"
    assert found["factor"]["median"] == pytest.approx(1.59, rel=1e-3)


@needs_measured
def test_measured_zeus_uses_most_of_its_range_and_exceeds_a_limit():
    found = audit(read(MEASURED / "zeus/summary_power_v100.csv"), idle_w=35.0).data
    checks = {one["code"]: one for one in found["checks"]}
    assert found["runs"] == 476
    assert (found["usage"]["low_w"], found["usage"]["high_w"]) == pytest.approx((34.8, 228.4), abs=0.1)
    assert found["usage"]["share"] == pytest.approx(0.90, abs=0.01)
    assert "8 of 476 mean powers exceed their limit, by up to 2.1 %" in checks["PSA-LIMIT"]["what"]
    assert found["bimodal"]["p"] == 0.001


# ---- the page ----

PAGE = Path(__file__).parents[1] / "docs" / "audit.md"


def test_page_tells_codes_that_there_are():
    known = (PAGE.parent / "reasons.md").read_text(encoding="utf-8")
    codes = set(re.findall(r"PSA-[A-Z]+", PAGE.read_text(encoding="utf-8")))
    assert codes
    assert [code for code in codes if f"| {code} |" not in known] == []


@needs_measured
def test_page_shows_what_the_verb_prints_of_the_published_runs():
    found = str(audit(read(MEASURED / "zeus/summary_power_v100.csv"), idle_w=35.0))
    assert f"```\n{found}\n```" in PAGE.read_text(encoding="utf-8")
