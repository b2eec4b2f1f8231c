# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.errors import BadFormat, DeviceNotFound, InvalidArgument
from powersample.model import (
    KEPT_DTYPE,
    SAMPLE_DTYPE,
    Anchor,
    Channel,
    Energy,
    Kind,
    LaneStats,
    Series,
    Trace,
    Window,
    to_realtime_ns,
)

HEADER = Path(__file__).parents[1] / "csrc" / "include" / "powersample.h"
S = 1_000_000_000
CHANNEL = Channel("gpu0.power.instant", "GPU-0", "gpu", Kind.POWER, "W", 1e-3)
C_TYPES = {"int64_t": "<i8", "uint32_t": "<u4", "uint16_t": "<u2"}


def make(t_ns, raw=None, status=None, channel=CHANNEL):
    t_ns = np.asarray(t_ns, np.int64)
    raw = np.arange(len(t_ns)) if raw is None else raw
    status = np.zeros(len(t_ns)) if status is None else status
    return Series(channel, t_ns, t_ns + 10, raw, status, np.arange(len(t_ns)))


def anchor(mono_s, real_s, boot_s=None):
    boot_s = mono_s if boot_s is None else boot_s
    return Anchor(int(mono_s * S), int(mono_s * S), int(real_s * S), int(boot_s * S), 100)


def test_sample_dtype_equals_the_headers_struct():
    body = re.search(r"typedef struct ps_sample \{(.*?)\}", HEADER.read_text(), re.DOTALL)
    assert body
    fields = [(name, C_TYPES[kind]) for kind, name in re.findall(r"(\w+_t) (\w+);", body.group(1))]
    assert np.dtype(fields) == SAMPLE_DTYPE
    assert SAMPLE_DTYPE.itemsize == 32
    body = re.search(r"typedef struct ps_kept \{(.*?)\}", HEADER.read_text(), re.DOTALL)
    assert body
    more = [(name, C_TYPES[kind]) for kind, name in re.findall(r"(\w+_t) (\w+);", body.group(1))]
    assert "ps_sample sample;" in body.group(1).splitlines()[1]
    assert np.dtype(fields + more) == KEPT_DTYPE
    assert KEPT_DTYPE.itemsize == 40


def test_channel_kinds_equal_the_headers_enum():
    found = dict(re.findall(r"PS_KIND_(\w+) = (\d)", HEADER.read_text()))
    for word, code in found.items():
        assert Channel.from_json(CHANNEL.as_json() | {"kind": int(code)}).kind == Kind[word]


def test_channel_from_json_is_its_own_inverse_and_names_what_is_missing():
    assert Channel.from_json(CHANNEL.as_json() | {"later": 1}) == CHANNEL
    with pytest.raises(BadFormat, match="kind"):
        Channel.from_json({"name": "x"})


def test_series_values_are_si_and_nan_where_the_read_failed():
    found = make([0, 1, 2], [1000, 2000, 3000], [0, 5, 0])
    assert found.value.tolist() == pytest.approx([1.0, np.nan, 3.0], nan_ok=True)
    assert found.t_ns.tolist() == [5, 6, 7]


def test_series_is_read_only_and_leaves_its_makers_array_alone():
    t_ns = np.arange(3)
    found = make(t_ns)
    with pytest.raises(ValueError, match="read-only"):
        found.t0_ns[0] = 1
    t_ns[0] = 0


def test_series_of_unequal_arrays_is_refused():
    with pytest.raises(InvalidArgument, match="raw"):
        make([0, 1, 2], [1])


def test_series_of_floats_keeps_them():
    channel = Channel("wall.power", "meter", "wall", Kind.POWER, "W", raw_dtype="float64")
    found = make([0, 1], [1.5, np.nan], channel=channel)
    assert found.raw.dtype == np.float64
    assert found.good.tolist() == [True, False]


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(-5, 60), st.integers(-5, 60))
def test_series_between_takes_calls_that_touch(times, start_ns, end_ns):
    t_ns = np.sort(np.asarray(times, np.int64))
    found = make(t_ns).between(start_ns, end_ns)
    expected = [int(t) for t in t_ns if t + 10 >= start_ns and t <= end_ns]
    assert found.t0_ns.tolist() == (expected if start_ns <= end_ns else found.t0_ns.tolist())


def test_trace_without_the_channel_lists_those_there_are():
    with pytest.raises(DeviceNotFound, match=r"gpu0\.power\.instant"):
        Trace.of([make([0])]).series("gpu1.power.instant")


def test_trace_extent_leaves_the_truth_out():
    truth = Channel("truth.gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-9)
    trace = Trace.of([make([5, 9]), make([0, 100], channel=truth)])
    assert (trace.start_ns, trace.end_ns) == (5, 19)
    assert Trace.of([]).start_ns is None


def test_trace_chunks_concatenate_to_the_series(monkeypatch):
    monkeypatch.setattr("powersample.model.trace.MEMORY_CHUNK", 3)
    trace = Trace.of([make(np.arange(10) * 100)])
    assert [len(chunk) for chunk in trace.chunks(CHANNEL.name)] == [3, 3, 3, 1]
    assert trace.series(CHANNEL.name, 150, 700).t0_ns.tolist() == [200, 300, 400, 500, 600, 700]


def test_realtime_between_anchors_follows_the_slew():
    anchors = [anchor(0, 1000), anchor(10, 1010.001)]
    found = to_realtime_ns(anchors, np.array([0, 5 * S, 10 * S, 20 * S, -S]))
    assert found.tolist() == [1000 * S, 1005 * S + 500_000, 1010 * S + 10**6, 1020 * S + 10**6, 999 * S]
    assert to_realtime_ns([], np.array([0])) is None


def test_realtime_of_a_clock_that_was_set_jumps_once():
    anchors = [anchor(0, 1000), anchor(10, 2010)]
    found = to_realtime_ns(anchors, np.array([4 * S, 6 * S]))
    assert found.tolist() == [1004 * S, 2006 * S]


def test_to_pandas_has_utc_times_channels_and_values():
    trace = Trace.of([make([0, S], [1000, 0], [0, 3])], anchors=[anchor(0, 1_700_000_000)])
    table = trace.to_pandas()
    assert str(table["time"].dtype) == "datetime64[ns, UTC]"
    assert table["time"][1].isoformat() == "2023-11-14T22:13:21.000000005+00:00"
    assert table["value"].tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    assert table["channel"].tolist() == [CHANNEL.name] * 2
    assert len(Trace.of([]).to_pandas()) == 0
    assert Trace.of([make([0])]).to_pandas()["time"].isna().all()


def test_lane_stats_read_a_spools_event_and_their_own_json():
    event = {
        "name": "nvml:gpu0",
        "mode": 1,
        "state": 3,
        "rate_origin": 2,
        "slots": 5,
        "skipped": 2,
        "later": 1,
    }
    event |= {"error_code": [15, 999], "error_count": [3, 1], "call_hist": [0, 1]}
    found = LaneStats.from_json(event)
    assert (found.mode, found.state, found.errors, found.passes) == ("paced", "hung", {15: 3, 999: 1}, None)
    assert LaneStats.from_json(found.as_json()) == found


def test_window_json_is_its_own_inverse():
    window = Window("a", 1, 2, ("open",), "marks pid 3")
    assert Window.from_json(window.as_json()) == window
    assert window.duration_s == pytest.approx(1e-9)


@pytest.mark.parametrize(
    ("joules", "interval", "shown"),
    [
        (1234.56, (1100.0, 1369.1), "gpu0.energy over 'run': 1234.6 J (95 %: 1100.0 to 1369.1), fair; PSQ-SHORT brief"),
        (0.0123456, (0.0, 1e6), "gpu0.energy over 'run': 0.012346 J (95 %: 0 to 1000000), fair; PSQ-SHORT brief"),
        (5.0, (None, None), "gpu0.energy over 'run': 5.0000 J (without an interval), fair; PSQ-SHORT brief"),
        (None, (None, None), "gpu0.energy over 'run': no energy can be told, fair; PSQ-SHORT brief"),
    ],
)
def test_energy_is_printed_as_one_careful_line(joules, interval, shown):
    one = Energy(joules, *interval, "m", (), "fair", ("PSQ-SHORT brief",), "gpu0.energy", "GPU-0", "gpu", "run")
    assert str(one) == shown
    assert "\n" not in shown


def test_energies_in_a_list_are_short():
    reasons = ("PSQ-GAP one", "PSQ-GAP two", "PSQ-EDGE three")
    one = Energy(1234.5, 1100, 1369, "m", (), "fair", reasons, "gpu0.energy", "GPU-0", "gpu", "run")
    assert str([one]) == "[<Energy 'run' gpu0.energy 1234.5 J (1100.0 to 1369.0) fair PSQ-GAP PSQ-EDGE>]"
