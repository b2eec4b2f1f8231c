# SPDX-License-Identifier: Apache-2.0
"""Parsers on bytes: what is right, what is wrong in a file and kept, and what is refused with file and line."""

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample.errors import BadFormat
from powersample.formats import codecarbon, ecnas, lpm01a, mllog, nvidia_smi, pmd, power_csv
from powersample.formats.parsed import BACKWARDS, BAD_CELL, moment_ns
from powersample.sensors import code_words

S = 1_000_000_000

# ---- nvidia-smi ----

SMI = """timestamp, name, index, driver_version, power.draw [W], power.draw.instant [W]
2026/11/25 20:00:00.000, NVIDIA H100 PCIe, 0, 535.247.01, 101.50 W, 99.00 W
2026/11/25 20:00:00.100, NVIDIA H100 PCIe, 0, 535.247.01, 102.50 W, [Unknown Error]
2026/11/25 20:00:00.200, NVIDIA H100 PCIe, 0, 535.247.01, [GPU is lost], [GPU is lost]
2026/11/25 20:00:00.300, NVIDIA H100 PCIe, 0, 535.247.01, 104.50 W, 98.00 W
"""


def smi(text):
    return nvidia_smi.parse(text.encode(), "smi.csv")


def test_smi_with_units_gives_one_channel_a_power_column_and_codes_for_error_cells():
    found = smi(SMI)
    assert [one.channel.name for one in found.series] == ["gpu0.power.usage", "gpu0.power.instant"]
    usage, instant = found.series
    assert list(usage.status) == [0, 0, 15, 0]
    assert list(instant.status) == [0, 999, 15, 0]
    assert usage.value[0] == 101.5
    assert usage.t_ns[3] - usage.t_ns[0] == 300_000_000
    assert (found.clock, found.meta["driver"]) == ("local", "535.247.01")
    assert found.meta["devices"] == [{"uuid": "gpu0", "index": 0, "name": "NVIDIA H100 PCIe"}]


def test_smi_without_units_reads_the_same():
    bare = smi(SMI.replace(" W,", ",").replace(" W\n", "\n"))
    for one, other in zip(smi(SMI).series, bare.series, strict=True):
        assert np.array_equal(one.raw, other.raw)


def test_smi_cells_of_mixed_units_are_read_by_their_own_and_a_foreign_one_is_refused():
    rows = "2026/11/25 20:00:00.000, 101.5 W\n2026/11/25 20:00:00.100, 98000 mW\n2026/11/25 20:00:00.200, 97.0\n"
    assert list(smi("timestamp, power.draw [W]\n" + rows).series[0].value) == [101.5, 98.0, 97.0]
    with pytest.raises(BadFormat, match=r"smi\.csv: a cell of power\.draw is in 'kW'"):
        smi("timestamp, power.draw [W]\n2026/11/25 20:00:00.000, 101.5 W\n2026/11/25 20:00:00.100, 0.1 kW\n")


def test_smi_of_two_gpus_is_told_apart_by_index():
    rows = "".join(f"2026/11/25 20:00:0{t}.000, {gpu}, {100 * (gpu + 1)}.0 W\n" for t in range(3) for gpu in (0, 1))
    found = smi("timestamp, index, power.draw [W]\n" + rows)
    assert {one.channel.name: one.value.mean() for one in found.series} == {
        "gpu0.power.usage": 100,
        "gpu1.power.usage": 200,
    }


def test_smi_oddities_are_kept_or_counted():
    text = (
        "timestamp, power.draw [W]\n"
        "2026/11/25 20:00:00.000, 100.0 W\n"
        "2026/11/25 20:00:00.000, 101.0 W\n"  # duplicate stamp
        "2026/11/25 19:59:59.000, 102.0 W\n"  # backward step
        "2026/11/25 20:00:01.000, twelve\n"
        "timestamp, power.draw [W]\n"
        "yesterday, 100.0 W\n"
        "2026/11/25 20:00:02.000, 103.0 W\n"
        "2026/11/25 20:00"
    )
    found = smi(text)
    assert list(found.series[0].status) == [0, BACKWARDS, BACKWARDS, BAD_CELL, 0]
    assert np.all(np.diff(found.series[0].t0_ns) >= 0)
    assert set(found.notes) == {
        "1 repeated header lines are left out",
        "1 lines whose timestamp cannot be read are left out",
        "1 cut last line is left out",
    }


def test_smi_column_of_not_available_is_no_channel():
    found = smi(SMI.replace("99.00 W", "[N/A]").replace("98.00 W", "[N/A]").replace("[Unknown Error]", "[N/A]").replace(
        "[GPU is lost], [GPU is lost]", "[GPU is lost], [N/A]"))  # fmt: skip
    assert [one.channel.name for one in found.series] == ["gpu0.power.usage"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("time,watts\n1,2\n", "line 1"),
        ("timestamp, power.draw [hp]\n2026/11/25 20:00:00.000, 1\n", "'hp'"),
        ("timestamp, power.draw [W]\n2026/11/25 20:00:00.000, 101,50\n", "line 2: .*decimal commas"),
        ("timestamp, power.draw [W]\nnever, 1\n", "no line"),
        ("timestamp, power.draw [W]\n2026/11/25 20:00:00.000, [N/A]\n", "not? .*single number|no power column"),
        ("timestamp, power.draw [W]\n2026/11/25 20:00:00.000, 12 kW\n", "'kW'"),
    ],
)
def test_smi_that_cannot_be_understood_is_refused(text, message):
    with pytest.raises(BadFormat, match=message):
        smi(text)


# ---- PMD-USB ----


def pmd_frames(count, step=602, first=65000, volts=1600, amperes=100):
    ticks = (first + step * np.arange(count)) % 65536
    words = np.zeros((count, 9), np.uint16)
    words[:, 0] = ticks
    words[:, 1::2], words[:, 2::2] = volts << 4, amperes << 4
    return words.tobytes()


def test_pmd_sums_four_connectors_and_unwraps_its_counter():
    found = pmd.parse(pmd_frames(1000), "PMD_data.bin")
    (series,) = found.series
    assert series.value == pytest.approx(4 * 1600 * 7.568e-3 * 100 * 48.8e-3)
    assert series.t_ns[-1] == pytest.approx(999 * 602 / 2933.5 * 1e6, abs=1)
    assert np.all(np.diff(series.t_ns) > 0)


def test_pmd_negative_current_counts_as_none():
    words = np.frombuffer(pmd_frames(20), np.uint16).reshape(-1, 9).copy()
    words[:, 2::2] = np.array(-3 << 4, np.int16).view(np.uint16)
    assert np.all(pmd.parse(words.tobytes(), "x").series[0].value == 0)


@pytest.mark.parametrize("junk", [1, 5, 17])
def test_pmd_falls_back_into_step_after_lost_bytes(junk):
    data = pmd_frames(100)
    found = pmd.parse(data[: 40 * 18] + b"\xff" * junk + data[40 * 18 :], "x")
    assert len(found.series[0]) >= 95
    assert found.series[0].value == pytest.approx(4 * 1600 * 7.568e-3 * 100 * 48.8e-3)
    assert any("out of step" in note for note in found.notes)


def test_pmd_cut_last_frame_is_told():
    assert "a cut last frame is left out" in pmd.parse(pmd_frames(50)[:-4], "x").notes


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_pmd_of_any_bytes_is_refused_or_read(data):
    with contextlib.suppress(BadFormat):
        assert len(pmd.parse(data, "x").series[0]) * 18 >= len(data) / 2


# ---- LPM01A, MLLOG ----


def test_lpm01a_is_milliwatts_at_its_rate():
    data = b"\xf1" + struct.pack("<f", 1000.0) + np.array([40.0, np.nan, 42.0], "<f4").tobytes() + b"\x00"
    found = lpm01a.parse(data, "trace.bin")
    (series,) = found.series
    assert list(series.status) == [0, BAD_CELL, 0]
    assert series.value[2] == pytest.approx(0.042)
    assert list(series.t_ns) == [0, 1_000_000, 2_000_000]
    assert found.notes == ("a cut last sample is left out",)


@pytest.mark.parametrize("data", [b"", b"\xf2" + bytes(20), b"\xf1" + struct.pack("<f", float("nan")) + bytes(8)])
def test_lpm01a_of_other_bytes_is_refused(data):
    with pytest.raises(BadFormat, match="0xF1"):
        lpm01a.parse(data, "x")


def mllog_line(key, time_ms, value="null"):
    return f"0: :::MLLOG {json.dumps({'key': key, 'time_ms': time_ms, 'value': value})}\n"


def test_mllog_gives_node_power_and_the_run():
    text = "noise\n" + mllog_line("run_start", 1000) + mllog_line("run_stop", 5000)
    text += "".join(mllog_line("power_reading", t, 2000 + t) for t in (0, 2000, 4000, 6000))
    text += mllog_line("power_measurement_stop", 0) + mllog_line("power_reading", 8000, "none") + ":::MLLOG {cut"
    found = mllog.parse(text.encode(), "ac.txt")
    assert found.windows == (("run", 1 * S, 5 * S),)
    assert list(found.series[0].status) == [0, 0, 0, 0, BAD_CELL]
    assert found.series[0].value[3] == 8000
    assert found.notes[0].startswith("1 MLLOG lines")


def test_mllog_without_anything_is_refused():
    with pytest.raises(BadFormat, match="neither"):
        mllog.parse(b":::MLLOG {}\n", "x")


# ---- CSV ----


def test_csv_with_units_in_its_header_needs_no_declaration():
    found = power_csv.parse(b"t_s,power_mw,channel\n0,1000,a\n0.5,2000,a\n0.5,oops,b\n# note\n1,4000\n", "x.csv")
    assert {one.channel.name for one in found.series} == {"a", "b"}
    a = next(one for one in found.series if one.channel.name == "a")
    assert list(a.value) == [1.0, 2.0]
    assert list(a.t_ns) == [0, S // 2]
    assert found.notes == ("1 lines with too few cells are left out",)


def test_csv_of_declared_columns_and_energy():
    data = b"when,E\n2026-11-25T20:00:00+00:00,1.5\n2026-11-25T21:00:00+01:00,2\n2026-11-25T20:00:02,2.5\n"
    found = power_csv.parse(data, "x.csv", {"when": "time_iso", "E": "energy_kwh"})
    (series,) = found.series
    assert found.clock == "utc"
    assert list(series.value[[0, 2]]) == [1.5 * 3.6e6, 2.5 * 3.6e6]
    assert list(series.status) == [0, BACKWARDS, 0]  # 21:00+01:00 is 20:00 UTC again


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        (b"t_s,watts\n0,1\n", None, "0 columns of power"),
        (b"t_s,t_ns,power_w\n0,0,1\n", None, "2 columns of time"),
        (b"t_s,power_w\n0,1,5\n", None, "line 2: .*decimal commas"),
        (b"t_s,power_w\n", None, "no line"),
        (b"a,b\n0,1\n", {"a": "t_s", "c": "power_w"}, "no column 'c'"),
        (b"a,b\n0,1\n", {"a": "t_s", "b": "horsepower"}, "'horsepower'"),
        (b"\xff\xfe\x00", None, "no text file"),
    ],
)
def test_csv_that_cannot_be_understood_is_refused(data, columns, message):
    with pytest.raises(BadFormat, match=message):
        power_csv.parse(data, "x.csv", columns)


def test_moment_with_a_zone_is_utc_and_without_one_as_written():
    assert moment_ns("1970-01-01T01:00:00+01:00") == 0
    assert moment_ns("1970-01-01T00:00:01.5") == 3 * S // 2


# ---- tables of runs ----

ECNAS = {
    "path": "a/repeat_1",
    "total_time": 150.0,
    "total_energy (kWh)": 0.0159,
    "start_emission": "2022-05-28 13:57:33",
    "avg_power_usages:": {
        "gpu": {"avg_power_usages (W)": [[150.0]], "avg_energy_usages (J)": [[22500.0]]},
        "cpu": {"avg_power_usages (W)": [[40.0, 50.0]], "avg_energy_usages (J)": [[6000.0, 7500.0]]},
    },
    "evaluation_results": [{"epochs": 0.0}, {"epochs": 4.0}],
}


def test_ecnas_run_has_energies_by_domain_and_its_total():
    found = ecnas.parse((json.dumps(ECNAS) + "\n{}\n\nnot json\n").encode(), "runs.jsonl")
    (row,) = found.rows
    assert row.energies_j == {"gpu": 22500.0, "cpu": 13500.0}
    assert row.power_w == {"gpu": 150.0, "cpu": 90.0}
    assert row.total_j == pytest.approx(0.0159 * 3.6e6)
    assert (row.epochs, row.duration_s) == (4.0, 150.0)
    assert found.notes == ("2 lines that are no EC-NAS run are left out",)


def test_ecnas_without_a_run_is_refused():
    with pytest.raises(BadFormat, match="no line"):
        ecnas.parse(b"{}\n", "x")


CARBON = (
    "timestamp,run_id,duration,cpu_power,cpu_energy,gpu_energy,energy_consumed,codecarbon_version,tracking_mode,pue\n"
)


def test_codecarbon_missing_figures_stay_missing():
    rows = "2024-05-31T10:39:13,r1,100,50,0.001,0.002,0.003,2.4.3,machine,1.0\n"
    rows += "2024-05-31T10:44:29,,90,,,,,2.4.3,process,\n"
    found = codecarbon.parse((CARBON + rows + "2024,cut\n").encode(), "emissions.csv")
    first, second = found.rows
    assert first.energies_j == {"cpu": 3600.0, "gpu": 7200.0}
    assert first.total_j == pytest.approx(10800)
    assert (second.name, second.energies_j, second.total_j, second.pue) == ("line 3", {}, None, None)
    assert found.version == "2.4.3"
    assert len(found.notes) == 2


def test_codecarbon_without_its_columns_is_refused():
    with pytest.raises(BadFormat, match="line 1"):
        codecarbon.parse(b"a,b\n1,2\n", "x.csv")


@pytest.mark.parametrize(
    ("text", "watts"),
    [
        ("time (s),power (W)\n0,100\n1,200\n", [100, 200]),
        ("Time [ms];Power [mW]\n0;100000\n1000;200000\n", [100, 200]),
        ("Elapsed Time (s)\tP (kW)\n0\t0.1\n1\t0.2\n", [100, 200]),
        ("T_s,Power_W\n0,100\n1,200\n", [100, 200]),
        ("t (\u00b5s);power_w\n0;100\n1000000;200\n", [100, 200]),
        ('"time (s)","power (W)","note, free"\n0,100,a\n1,200,b\n', [100, 200]),
    ],
)
def test_csv_headers_by_other_peoples_habits(text, watts):
    assert power_csv.looks_like(text)
    (one,) = power_csv.parse(text.encode(), "x").series
    assert list(one.value) == pytest.approx(watts)
    assert list(np.diff(one.t_ns)) == [10**9]


@pytest.mark.parametrize(
    "header", ["time (s),power (MW)", "time,power (W)", "time (s),speed (W)", "time (min),power (W)"]
)
def test_csv_headers_that_say_no_known_quantity_and_unit_are_not_guessed(header):
    """MW is not mW, and a time without a unit is none."""
    assert not power_csv.looks_like(header + "\n")
    assert power_csv.why_not(header + "\n")


def test_csv_with_decimal_commas_says_so():
    with pytest.raises(BadFormat, match=r"line 3: 100,5 has a decimal comma. Write decimal points"):
        power_csv.parse(b"time (s);power (W)\n0;100\n1;100,5\n", "x")


@pytest.mark.parametrize(
    ("sensor", "code", "words"),
    [
        ("nvml.field.186", 15, "15, the GPU is lost"),
        ("nvml.field.186", 60010, "60010, no number"),
        ("powercap.package", 13, "13, permission denied"),
        ("csv", 15, "15"),
        ("nvml.field.186", 77, "77"),
    ],
)
def test_codes_of_failed_reads_have_their_meaning_beside_them(sensor, code, words):
    assert code_words(sensor, code) == words
