# SPDX-License-Identifier: Apache-2.0
"""`report --html`: what stands in the page, and that whatever a name holds, it stays a name."""

import base64
import hashlib
import re

import nodes
import numpy as np
import pytest
from pages import Page
from traces import MS, S, channel, node, polls, series

from powersample.cli import main
from powersample.model import Anchor, Kind, Trace, Window
from powersample.report import build
from powersample.report.curves import Panel
from powersample.report.html import html
from powersample.report.html_parts import opened
from powersample.store import save

HOSTILE = (
    "</script><script>document.documentElement.dataset.broken = 1</script>",
    "<img src=x onerror=alert(1)> & \"quoted\" 'too'",
    "epoch \u202e0 gnp.exe",
    "\u05d0\u05d1\u05d2 epoch",
    "x" * 10_000,
    "broken \udcff byte \x00\x07\n<!-- ",
    "]]> ${js} $data {{}}",
)


def page_of(trace, name="run.parquet", **more):
    text = html(trace, build(trace, **more), name)
    return text, Page(text)


def values(curve):
    """Seconds, watts and the places of gaps of a curve of the page."""
    t, watts, broken = (
        np.frombuffer(base64.b64decode(curve[key]), kind)
        for key, kind in (("t", "<u4"), ("w", "<f4"), ("broken", "<u4"))
    )
    return t * (curve["unit_ns"] / 1e9), watts, broken.tolist()


def test_page_says_in_order_what_a_reviewer_asks():
    windows = [Window("run", 0, 10 * S), *(Window(f"epoch {i}", 2 * i * S, 2 * (i + 1) * S) for i in range(5))]
    _, page = page_of(node(2, windows=windows))
    assert page.headings == [
        "run.parquet", "Power over time", "gpu0", "gpu1", "Energy per window and device", "All devices", "gpu0", "gpu1",
        "What the data are worth", "The whole node", "The sensors, in words", "Checks", "Reasons that figures bear",
        "How each number came about", "Where it comes from",
    ]  # fmt: skip
    seen = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert seen.index("Energy of run, the longest of 6 windows: 10.00 s") < seen.index("3,000.0 J")
    assert seen.index("of GPU") < seen.index("Power over time")
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links[:2] == ["#power", "#energies"]
    assert {link.removeprefix("#") for link in links} <= page.ids.keys()


def test_interval_and_verdict_stand_in_the_head_before_the_picture():
    board = {"uuid": "GPU-0", "name": "NVIDIA A100-SXM4-80GB", "architecture": "ampere", "index": 0}
    t_ns = polls(0, 10, 10)
    power = channel("gpu0.power.instant", sensor="nvml.field.186")
    trace = Trace.of(
        [series(power, t_ns, np.full(len(t_ns), 100_000))],
        windows=[Window("run", 0, 10 * S)],
        meta={"devices": [board], "driver": "535.247.01"},
    )
    _, page = page_of(trace)
    head = page.text.partition("Power over time")[0].replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"1,000\.0 J \N{PLUS-MINUS SIGN} [\d.]+ % of GPU", head)
    assert re.search(r"The true energy lies between [\d,.]+ J and [\d,.]+ J 95 times in 100", head)
    assert "Not the whole node" in head
    ((low, mean, high),) = np.frombuffer(base64.b64decode(page.data["panels"][0]["means"]), "<f4").reshape(-1, 3)
    assert low < mean < high
    assert mean == pytest.approx(100)


def test_windows_mean_powers_are_drawn_in_the_order_of_their_lengths():
    windows = [Window("run", 0, 10 * S), Window("short", 1 * S, 2 * S), Window("epoch 1", 2 * S, 5 * S)]
    _, page = page_of(node(2, windows=windows))
    assert [one["mean"] for one in page.data["windows"]] == [0, 2, 1]
    for gpu, panel in enumerate(page.data["panels"]):
        means = np.frombuffer(base64.b64decode(panel["means"]), "<f4").reshape(-1, 3)
        assert means[:, 1].tolist() == [100 * (gpu + 1)] * 3
        assert np.isnan(means[:, [0, 2]]).all()  # of a sensor that nothing is known of
    assert [one["told"] for one in page.data["windows"]] == ["GPU 3000.0 J", "GPU 300.0 J", "GPU 900.0 J"]


def test_most_windows_have_no_mean_of_their_own_where_there_are_thousands():
    windows = [Window("run", 0, 10 * S), *(Window(f"step {i}", i * MS, (i + 1) * MS) for i in range(2000))]
    _, page = page_of(node(windows=windows))
    assert sum("mean" in one for one in page.data["windows"]) == 1000
    assert page.data["windows"][0]["mean"] == 0


def test_every_energy_of_the_json_stands_in_a_table():
    windows = [Window("run", 0, 10 * S), Window("epoch 1", 2 * S, 5 * S)]
    trace = node(2, windows=windows)
    _, page = page_of(trace)
    together, *each = page.tables[:3]
    assert [row[:3] for row in together] == [
        ["window", "s", "GPU J"],
        ["run", "10.00", "3000.0"],
        ["epoch 1", "3.000", "900.0"],
    ]
    for gpu, table in enumerate(each):
        head, *rows = table
        assert [row[0] for row in rows] == ["run", "epoch 1"]
        assert [float(row[head.index("J")]) for row in rows] == [1000 * (gpu + 1), 300 * (gpu + 1)]


def test_names_stand_as_deep_as_their_windows_lie_in_others():
    spans = {"run": (0, 10), "epoch 0": (1, 5), "step": (1, 2), "epoch 1": (5, 9), "across": (8, 10)}
    text, _ = page_of(node(windows=[Window(name, start * S, end * S) for name, (start, end) in spans.items()]))
    rows = re.findall(r'<th scope="row">(?:<span class="in(\d)">)?<bdi>([^<]+)</bdi>', text)[: len(spans)]
    assert rows == [("", "run"), ("1", "epoch 0"), ("2", "step"), ("1", "epoch 1"), ("1", "across")]


def test_what_counts_into_a_total_is_open_and_not_more_than_a_page_bears():
    def open_of(*domains):
        return opened([Panel(one, one, one, "", (), ()) for one in domains])

    assert open_of("gpu", "package", "dram", "core", "psys") == [True, True, True, False, False]
    assert open_of("psys", "core") == [True, True]
    assert sum(open_of(*["gpu"] * 16)) == 8


def test_without_its_script_the_page_shows_nothing_that_only_the_script_draws():
    _, page = page_of(node(windows=[Window("run", 0, 10 * S)]))
    hidden = [attrs.get("id") or attrs.get("class") for _, attrs in page.tags if "hidden" in attrs]
    assert hidden == ["theme", "keys", "tools", "window", "lane"]
    assert sum(tag == "path" and attrs.get("class") == "c0" for tag, attrs in page.tags) == 1  # the outline


def test_tables_have_headers_with_scopes_and_the_page_a_language():
    _, page = page_of(node(windows=[Window("run", 0, 10 * S)]))
    assert {attrs.get("scope") for tag, attrs in page.tags if tag == "th"} == {"col", "row"}
    assert next(attrs for tag, attrs in page.tags if tag == "html")["lang"] == "en"


def test_page_loads_nothing_and_runs_its_own_two_scripts_only():
    text, page = page_of(node())
    outside = {"src", "href", "srcset", "action", "data", "poster", "background"}
    links = {attrs[key] for _, attrs in page.tags for key in outside & attrs.keys()}
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"@import|url\(", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in page.scripts[1:]]
    assert policy.endswith("script-src " + " ".join(f"'sha256-{one}'" for one in hashes))


def test_uplot_travels_with_its_licence():
    text, _ = page_of(node())
    assert "Copyright (c) 2022 Leon Sorokin" in text
    assert "THE SOFTWARE IS PROVIDED" in text


def test_names_of_any_kind_stay_names():
    windows = [Window(name, i * S, (i + 1) * S) for i, name in enumerate(HOSTILE)]
    board = {"uuid": "GPU-0", "name": "</table><script>", "index": 0}
    text, page = page_of(node(windows=windows, meta={"devices": [board], "host": "<b>&"}), name="</title><b>&.parquet")
    text.encode("utf-8")
    assert len(page.scripts) == 3
    assert {tag for tag, _ in page.tags} & {"img", "b"} == set()
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert "\u202e" not in text
    assert max(map(len, re.findall(r"x+", text))) <= 120
    assert page.data["windows"][0]["name"] == HOSTILE[0]
    assert page.tables[0][1][0] == HOSTILE[0]


def test_simulated_says_so_first_and_in_the_title():
    text, page = page_of(node(meta={"simulated": True, "simulated_node": {"profile": "h100"}}))
    assert page.text.split(" - energy and power ")[1].startswith("SIMULATED NODE h100, not a measurement")
    assert "<title>SIMULATED: " in text
    assert "SIMULATED" not in page_of(node())[0]


def test_curve_leaves_out_repeats_and_nothing_else():
    t_ns = polls(0, 10, 1)
    milliwatts = 100_000 + (t_ns // (100 * MS)) % 7 * 1000
    _, page = page_of(Trace.of([series(channel(), t_ns, milliwatts)]))
    (curve,) = page.data["panels"][0]["curves"]
    seconds, watts, broken = values(curve)
    assert broken == []
    assert curve["width_s"] == 0
    held = watts[np.searchsorted(seconds, t_ns / S, "right") - 1]
    assert (held == milliwatts / 1000).all()
    assert len(seconds) == 101  # every change


def test_gap_is_broken_striped_and_not_drawn_over():
    t_ns = polls(0, 10, 10)
    t_ns = t_ns[(t_ns < 3 * S) | (t_ns > 5 * S)]
    _, page = page_of(Trace.of([series(channel(), t_ns, np.full(len(t_ns), 100_000))]))
    (panel,) = page.data["panels"]
    seconds, _, broken = values(panel["curves"][0])
    assert [at for i in broken for at in (seconds[i - 1], seconds[i])] == pytest.approx([2.99, 5.01])
    assert (panel["missing"][0]["start"], panel["missing"][0]["end"]) == (2.99, 5.01)


def test_suspend_breaks_the_curve_and_is_told_in_words():
    """CLOCK_MONOTONIC stands still meanwhile: the readings alone look like one unbroken hour."""
    t_ns = polls(0, 3600, 100)
    late = t_ns + np.where(t_ns > 1805 * S, 50 * MS, 0)  # the first poll after waking comes a little late
    anchors = [
        Anchor(at * S, at * S, at * S + asleep * S, at * S + asleep * S, 100)
        for at, asleep in ((0, 0), (1800, 0), (1810, 7200), (3600, 7200))
    ]
    parts = [
        series(channel(), late, 100_000 + late // MS % 1000),
        series(channel("package-0.energy", Kind.ENERGY, "package-0", "package"), late, late // MS * 50),
    ]
    _, page = page_of(Trace.of(parts, anchors=anchors))
    assert "The machine slept for 2 h" in page.text
    assert page.data["asleep"] == [{"start": 1800, "end": 1810}]
    assert page.data["start_unix_ms"] is None
    for panel in page.data["panels"]:
        seconds, _, broken = values(panel["curves"][0])
        assert len(broken) == 1
        assert seconds[broken[0]] == pytest.approx(1805.1, abs=1.1)


def test_empty_and_nearly_empty_traces_are_pages_too():
    cases = {
        "no channel": Trace.of([]),
        "no reading": Trace.of([series(channel(), [], np.empty(0, np.int64))]),
        "one reading": Trace.of([series(channel(), [5 * S], [100_000])]),
        "no readable one": Trace.of([series(channel(), polls(0, 1, 10), np.zeros(101), np.full(101, 15, np.uint16))]),
    }  # fmt: skip
    said = {case: page_of(trace)[1].text for case, trace in cases.items()}
    assert "Nothing was recorded." in said["no channel"]
    assert "nothing to draw" in said["no reading"]
    assert "No total can be told." in said["one reading"]
    assert "PSQ-ERRORS" in said["no readable one"]


def test_thousands_of_windows_are_one_row_of_words():
    windows = [Window("run", 0, 10 * S), *(Window(f"step {i}", i * MS, (i + 1) * MS) for i in range(2000))]
    text, page = page_of(node(windows=windows))
    assert "2000 windows step" in page.text
    assert len(page.data["windows"]) == 2001
    assert [row[0] for row in page.tables[0]] == ["window", "run"]
    assert len(text) < 1_000_000


def test_hour_at_1_khz_stays_below_1_5_mb_and_keeps_its_highest_and_lowest_reading():
    t_ns = np.arange(3_600_000, dtype=np.int64) * MS
    milliwatts = np.random.default_rng(1).integers(90_000, 110_000, len(t_ns))
    milliwatts[2_345_678], milliwatts[1_234_567] = 700_000, 1_000
    text, page = page_of(Trace.of([series(channel(), t_ns, milliwatts)]))
    assert len(text.encode()) <= 1_500_000
    seconds, watts, _ = values(page.data["panels"][0]["curves"][0])
    assert (seconds[watts.argmax()], watts.max()) == (pytest.approx(2345.678, abs=1e-6), 700)
    assert (seconds[watts.argmin()], watts.min()) == (pytest.approx(1234.567, abs=1e-6), 1)


def test_two_days_in_times_are_good_to_a_tenth_of_a_millisecond():
    t_ns = polls(0, 172_800, 100_000)
    t_ns[-1] += 123_400_000
    _, page = page_of(Trace.of([series(channel(), t_ns, 100_000 + np.arange(len(t_ns)))]))
    seconds, _, _ = values(page.data["panels"][0]["curves"][0])
    assert np.abs(seconds - t_ns / S).max() < 1e-4


def test_truth_of_a_simulated_node_is_drawn_last():
    t_ns = np.array([0, 4, 6, 10]) * S
    joules = np.array([0, 400, 1000, 1400], np.int64) * 10**9
    truth = channel("truth.gpu0.energy", Kind.ENERGY, stamp="instant")
    truth = type(truth)(**{**truth.as_json(), "kind": Kind.ENERGY, "scale": 1e-9})
    parts = [series(channel(), polls(0, 10, 10), np.full(1001, 140_000)), series(truth, t_ns, joules)]
    _, page = page_of(Trace.of(parts, meta={"simulated": True}))
    curve = page.data["panels"][0]["curves"][-1]
    assert curve["truth"]
    assert values(curve)[0].tolist() == [0, 4, 6, 10]
    assert values(curve)[1].tolist() == [100, 300, 100, 100]  # the last one holds to the end


def test_counters_holes_within_one_of_its_means_are_not_striped():
    """Its gain over them is known, and drawn; a hole that the drawing does not bridge is striped."""
    t_ns = polls(0, 20, 10)
    t_ns = t_ns[~(((t_ns > 3 * S) & (t_ns < 3 * S + 60 * MS)) | ((t_ns > 10 * S) & (t_ns < 13 * S)))]
    counter = channel("package-0.energy", Kind.ENERGY, "package-0", "package")
    _, page = page_of(Trace.of([series(counter, t_ns, t_ns // MS * 50)]))
    (missing,) = page.data["panels"][0]["missing"]
    assert (missing["start"], missing["end"]) == pytest.approx((10, 13), abs=0.02)


# ---- the verb --------------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "run.parquet"
    save(node(windows=[Window("run", 0, 10 * S)]), path)
    return path


def test_verb_writes_the_page_beside_its_text(recording, tmp_path, capsys):
    page = tmp_path / "run.html"
    assert main(["report", str(recording), "--html", str(page)]) == 0
    told = capsys.readouterr()
    assert "gpu0" in told.out
    assert told.err == f"powersample: wrote {page}\n"
    assert Page(page.read_text(encoding="utf-8")).headings[0] == "run.parquet"


def test_verb_keeps_an_output_that_exists_unless_it_is_forced(recording, tmp_path, capsys):
    page = tmp_path / "run.html"
    page.write_text("mine")
    assert main(["report", str(recording), "--html", str(page)]) == 1
    assert "exists; choose another name, or add --force" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main(["report", str(recording), "--html", str(page), "--force"]) == 0
    assert page.stat().st_size > 50_000


def test_verb_never_replaces_the_recording(recording, capsys):
    assert main(["report", str(recording), "--html", str(recording), "--force"]) == 2
    assert "is the recording itself" in capsys.readouterr().err


def test_verb_refuses_a_folder_that_is_missing_before_it_reads_for_long(recording, tmp_path, capsys):
    assert main(["report", str(recording), "--html", str(tmp_path / "no" / "run.html")]) == 1
    assert "is not a folder; create it first" in capsys.readouterr().err


def test_full_disk_leaves_no_half_page(recording, tmp_path, capsys, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["report", str(recording), "--html", str(tmp_path / "run.html")]) == 1
    assert "no space left to write" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"]


def test_table_of_runs_is_refused(tmp_path, capsys):
    path = tmp_path / "emissions.csv"
    path.write_text(EMISSIONS)
    assert main(["report", str(path), "--html", str(tmp_path / "x.html")]) == 2
    assert "has no power over time" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_log_of_nvidia_smi_is_a_page(tmp_path):
    path, page = tmp_path / "smi.csv", tmp_path / "smi.html"
    lines = [f"2026/11/26 07:00:{i / 2:06.3f}, {100 + i % 5}.00 W" for i in range(60)]
    path.write_text("timestamp, power.draw [W]\n" + "\n".join(lines) + "\n")
    assert main(["report", str(path), "--html", str(page)]) == 0
    found = Page(page.read_text(encoding="utf-8"))
    assert values(found.data["panels"][0]["curves"][0])[1].max() == 104


EMISSIONS = """\
timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,\
gpu_energy,ram_energy,energy_consumed
2026-11-26T07:00:00,p,r,e,100,0.01,0.0001,50,100,10,0.001,0.003,0.0003,0.0043
"""


def test_csv_of_a_meter_alone_is_a_page_of_the_wall(tmp_path):
    path, page = tmp_path / "log.csv", tmp_path / "log.html"
    path.write_text("t_s,power_w\n" + "".join(f"{i / 10:.1f},{1000 + i % 3}\n" for i in range(300)))
    assert main(["report", str(path), "--html", str(page)]) == 0
    found = Page(page.read_text(encoding="utf-8"))
    assert "PSQ" in found.text
    assert values(found.data["panels"][0]["curves"][0])[1].max() == 1002


def test_headline_is_the_meters_where_there_is_one():
    trace = nodes.trace([10.0], {"cpu": [100.0], "dram": [20.0], "gpu": [60.0]}, meter=1.0, windows=[("run", 1, 9)])
    _, page = page_of(trace)
    assert re.search(r"J \N{PLUS-MINUS SIGN} [\d.]+ % of the whole node, by the meter", page.text.replace("\xa0", " "))
    assert "The whole node" in page.headings
    assert "Meters" in page.headings
