import json

import pytest
from traces import channel, series

from powersample.errors import BadFormat
from powersample.model import Response, SensorModel, Trace
from powersample.sensors import field_of, look_up, model_of
from powersample.sensors.lookup import CONDITIONS, FIGURES, _rows, _table

MS = 1e-3


# Architecture, board, driver, field -> T, W and response of arXiv 2312.02741's workbook.
@pytest.mark.parametrize(
    ("architecture", "name", "driver", "field", "period_ms", "window_ms", "response"),
    [
        ("hopper", "NVIDIA H100 PCIe", "535.247.01", "instant", 100, 25, Response.PART_TIME),
        ("hopper", "NVIDIA H100 PCIe", "535.247.01", "usage", 100, 1000, Response.AVERAGE),
        ("hopper", "NVIDIA H100 PCIe", "525.105.17", "usage", 100, 1000, Response.AVERAGE),
        ("hopper", "NVIDIA GH200 480GB", "550.54.15", "module", 100, 20, Response.PART_TIME),
        ("ada", "NVIDIA GeForce RTX 4090", "525.60", "usage", 100, 1000, Response.AVERAGE),
        ("ada", "NVIDIA GeForce RTX 4090", "530.41.03", "usage", 100, 100, Response.CONTIGUOUS),
        ("ada", "NVIDIA GeForce RTX 4090", "535.54.03", "usage", 100, 1000, Response.AVERAGE),
        ("ampere", "NVIDIA GeForce RTX 3090", "535.54.03", "instant", 100, 100, Response.CONTIGUOUS),
        ("ampere", "NVIDIA A100-PCIE-40GB", "535.54.03", "usage", 102, 25, Response.PART_TIME),
        ("ampere", "NVIDIA A30", "470.82", "usage", 102, 25, Response.PART_TIME),
        ("turing", "NVIDIA GeForce RTX 2080 Ti", "470.82", "usage", 100, 100, Response.CONTIGUOUS),
        ("turing", "Quadro RTX 8000", "470.82", "usage", 100, 20, Response.PART_TIME),
        ("volta", "Tesla V100-PCIE-16GB", None, "usage", 20.2, 10.5, Response.PART_TIME),
        ("pascal", "NVIDIA GeForce GTX 1080 Ti", None, "usage", 20.2, 10.5, Response.PART_TIME),
        ("maxwell", "Tesla M40", None, "usage", 31, 14, Response.PART_TIME),
        ("maxwell", "Quadro K620", None, "usage", 100, 0, Response.LOGARITHMIC),
        ("kepler", "Tesla K40m", None, "usage", 15, 0, Response.LOGARITHMIC),
    ],
)
def test_look_up_of_measured_boards_gives_the_workbooks_figures(
    architecture, name, driver, field, period_ms, window_ms, response
):
    model = look_up(field, name=name, architecture=architecture, driver=driver)
    assert (round(model.period_s / MS, 6), round(model.window_s / MS, 6)) == (period_ms, window_ms)
    assert (model.response, model.known) == (response, True)


def test_look_up_of_a_new_board_is_wide_and_says_so():
    unknown, hopper = look_up("instant", architecture="rubin", name="R100"), look_up("instant", architecture="hopper")
    assert not unknown.known
    assert unknown.gain_sd > hopper.gain_sd
    assert unknown.offset_sd_w > hopper.offset_sd_w
    assert "no table knows" in unknown.origin["period_s"]


def test_look_up_without_a_driver_version_takes_the_current_meaning():
    assert look_up("usage", architecture="ada").response is Response.AVERAGE


def test_table_every_figure_names_a_known_source_and_every_condition_is_known():
    sources = _table()["source"]
    for row in _rows():
        assert set(row) <= {*CONDITIONS, *FIGURES, "response", "known", "same_as"}, row
        if "same_as" in row:
            continue
        Response(row["response"])
        assert all(row[key][1] in sources for key in FIGURES if key in row), row
        assert {"period_ms", "gain", "gain_sd", "offset_w", "offset_sd_w"} <= set(row), row
    cited = {row[key][1] for row in _rows() for key in FIGURES if key in row}
    assert cited == set(sources)


def test_model_of_a_channel_takes_board_and_driver_from_the_trace():
    chan = channel("gpu0.power.usage", sensor="nvml.power_usage", device="GPU-1")
    board = {"uuid": "GPU-1", "name": "NVIDIA A100-PCIE-40GB", "architecture": "ampere"}
    trace = Trace.of([series(chan, [0], [1])], meta={"devices": [board], "driver": "535.54.03"})
    assert model_of(trace, chan) == look_up("instant", name=board["name"], architecture="ampere", driver="535.54.03")


def test_model_of_a_channel_that_the_trace_stores_goes_before_the_table():
    chan = channel(sensor="nvml.field.186")
    own = SensorModel(Response.PART_TIME, 0.05, 0.01, origin={"period_s": "characterized"})
    trace = Trace.of(
        [series(chan, [0], [1])], meta={"sensor_models": {chan.name: json.loads(json.dumps(own.as_json()))}}
    )
    assert model_of(trace, chan) == own


def test_model_of_a_sensor_that_the_table_does_not_speak_of_is_none():
    chan = channel(sensor="dowsing rod")
    assert field_of(chan) is None
    assert model_of(Trace.of([series(chan, [0], [1])]), chan) is None


def test_model_of_a_meter_is_its_own_word_and_a_wide_default():
    rail = channel(sensor="hwmon.ina3221.in1*curr1")
    meter = channel(sensor="hwmon.power_meter.power1_average", span="fixed", span_ns=1_000_000_000)
    trace = Trace.of([series(rail, [0], [1])])
    assert model_of(trace, rail).response is Response.POINT
    found = model_of(trace, meter)
    assert (found.response, found.period_s, found.window_s, found.known) == (Response.CONTIGUOUS, 1.0, 1.0, False)


def test_sensor_model_of_malformed_json_says_what_is_wrong():
    with pytest.raises(BadFormat, match="malformed"):
        SensorModel.from_json({"response": "quick", "period_s": 0.1})
