# SPDX-License-Identifier: Apache-2.0
"""A recording of external meters alone, on a machine of which nothing else can be read."""

import json

import pytest
from test_meters_http import DEVICE, SWITCH, serving

from powersample.cli import main
from powersample.meters import plugs
from powersample.readers import read
from powersample.report import build


@pytest.fixture
def plug():
    with serving() as made:
        made.answers = {"/rpc/Shelly.GetDeviceInfo": DEVICE, "/rpc/Shelly.GetStatus": SWITCH}
        yield made


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A /sys in which nothing is, and no configuration of this user's; a plug that needs no time after a window."""
    monkeypatch.setitem(plugs.FACTS, "latency_max_s", 0.1)
    (tmp_path / "sys").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return ["--sources", "hwmon", "--sysfs", str(tmp_path / "sys")]


def test_record_of_a_plug_alone_has_its_power_its_windows_and_clock(tmp_path, plug, empty):
    out = tmp_path / "run.parquet"
    meter = f"shelly:{plug.base},period=0.05"
    assert main(["record", *empty, "--meter", meter, "-o", str(out), "--", "sleep", "0.4"]) == 0
    trace = read(out)
    assert list(trace.channels) == ["wall.power"]
    assert set(trace.series("wall.power").value) == {123.4}
    assert trace.anchors
    assert trace.lanes == ()
    assert trace.meta["meters"][0]["model"] == DEVICE["model"]
    (window,) = build(trace).data["windows"]
    energy = window["energies"][0]
    assert energy["joules"] == pytest.approx(123.4 * window["duration_s"], rel=0.05)


def test_real_plug_beside_a_simulated_node_is_not_set_against_that_node_s_truth(tmp_path, plug, empty):
    out, where = tmp_path / "run.parquet", f"shelly:{plug.base},period=0.05"
    assert main(["record", "--simulate", "h100", "--meter", where, "-q", "-o", str(out), "--", "sleep", "0.3"]) == 0
    truths = {one["channel"]: one["truth_j"] for one in build(read(out)).data["windows"][0]["energies"]}
    assert truths["wall.power"] is None
    assert truths["gpu0.energy"] > 0


def test_record_of_a_plug_that_is_not_there_starts_nothing(tmp_path, empty, capsys):
    out = tmp_path / "run.parquet"
    assert main(["record", *empty, "--meter", "shelly:http://127.0.0.1:9", "-o", str(out), "--", "true"]) == 1
    assert "Check its address" in capsys.readouterr().err
    assert list(tmp_path.glob("run.parquet*")) == []


def test_record_without_source_and_meter_is_nothing_measurable(tmp_path, empty, capsys):
    assert main(["record", *empty, "-o", str(tmp_path / "run.parquet"), "--", "true"]) == 3
    assert "nothing here can be measured" in capsys.readouterr().err


def test_meters_alone_are_told_in_json(tmp_path, plug, empty, capsys):
    out = tmp_path / "run.parquet"
    meter = f"rack=shelly:{plug.base},period=0.05"
    assert main(["record", *empty, "--meter", meter, "-o", str(out), "--", "sleep", "0.3"]) == 0
    capsys.readouterr()
    assert main(["report", str(out), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["channels"][0]["name"] == "rack.power"
    assert [one["channel"] for one in data["windows"][0]["energies"]] == ["rack.power"]
