# SPDX-License-Identifier: Apache-2.0
"""What `report` prints: the answer first, on one screen, and nothing of it lost to who asks for more."""

import re

import numpy as np
import pytest
from recordings import MS, S, series

from powersample.analysis.interval import EDGES
from powersample.model import Channel, Kind, Trace, Window
from powersample.report import build
from powersample.report.words import reason_cases

EPOCHS = [Window(f"epoch {i}", (2 + 10 * i) * S, (12 + 10 * i) * S) for i in range(5)]
STEPS = [Window("step", (2000 + 500 * i) * MS, (2400 + 500 * i) * MS) for i in range(100)]
RUN = Window("run", 0, 54 * S)
SCREEN = 50  # lines


def node(gpus=1, windows=(), seconds=54, wall=False, simulated=False, dead=()):
    """Counters of 200 W a GPU, 100 W a package and 20 W its memory, and 500 W at the wall, read each 20 ms."""
    t_ns = np.arange(0, seconds * S + 1, 20 * MS)
    rows = [(f"gpu{i}.energy", f"GPU-{i}", "gpu", 200) for i in range(gpus)]
    rows += [("package-0.energy", "package-0", "package", 100), ("package-0.dram.energy", "package-0", "dram", 20)]
    rows += [("psys.energy", "psys", "psys", 400)]
    parts = []
    for name, device, domain, watts in rows:
        status = np.full(len(t_ns), 15 if name in dead else 0, np.uint16)
        parts.append(series(Channel(name, device, domain, Kind.ENERGY, "J", 1e-3), t_ns, t_ns // MS * watts, status))
    if wall:
        parts.append(series(Channel("wall.energy", "wall", "wall", Kind.ENERGY, "J", 1e-3), t_ns, t_ns // MS * 500))
    meta = {"simulated": True, "simulated_node": {"profile": "h100"}} if simulated else {}
    for name, device, domain, watts in rows if simulated else ():
        truth = Channel(f"truth.{name}", device, domain, Kind.ENERGY, "J", 1e-9, stamp="instant")
        parts.append(series(truth, [0, seconds * S], np.array([0, seconds * watts]) * 10**9))
    return Trace.of(parts, windows=windows, meta=meta)


def cells(text):
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_answer_comes_first_the_total_above_its_devices_and_others_beside():
    rows = cells(str(build(node(gpus=2, windows=[RUN]))))
    assert rows[0] == ["run, 54.00 s", "J", "95 %", "mean W", "verdict", "by"]
    assert rows[1] == ["total", "28080.0", "-", "520.0", "unrated", "GPU + CPU + DRAM"]
    assert [row[0] for row in rows[2:6]] == ["gpu0", "gpu1", "package-0", "package-0 dram"]
    assert [row[1] for row in rows[2:7]] == ["10800.0", "10800.0", "5400.0", "1080.0", "21600.0"]
    lines = str(build(node(gpus=2, windows=[RUN]))).splitlines()
    assert [line.startswith("  ") for line in lines[2:7]] == [True, True, True, True, False]  # psys is in no total


def test_windows_are_a_row_each_with_what_their_devices_took_by_domain():
    text = str(build(node(gpus=2, windows=[RUN, *EPOCHS, *STEPS])))
    rows = cells(text)
    (header,) = [row for row in rows if row[:2] == ["window", "s"]]
    assert header[2:] == ["J", "95 %", "mean W", "verdict", "GPU J", "CPU J", "DRAM J"]
    for i in range(5):
        (row,) = [row for row in rows if row[0] == f"epoch {i}"]
        assert row[1:] == ["10.00", "5200.0", "-", "520.0", "unrated", "4000.0", "1000.0", "200.0"]
    (row,) = [row for row in rows if row[0] == "step x 100"]
    assert (row[1:3], row[4:]) == (["0.4000", "208.0"], ["20800.0", "-", "100 unrated"])


@pytest.mark.parametrize(("gpus", "wall"), [(1, False), (1, True), (8, False), (8, True)])
def test_screen_holds_a_node_with_five_epochs_and_a_hundred_steps(gpus, wall):
    lines = str(build(node(gpus, [RUN, *EPOCHS, *STEPS], wall=wall, simulated=True))).splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 100


def test_wall_energy_of_each_window_stands_in_its_row():
    rows = cells(str(build(node(windows=[RUN, *EPOCHS], wall=True))))
    (header,) = [row for row in rows if row[:2] == ["window", "s"]]
    assert header[-2:] == ["node J", "95 %"]
    assert [row[-2] for row in rows if row[0].startswith("epoch")] == ["5000.0"] * 5


def test_total_of_a_simulated_node_is_held_to_the_sum_of_its_parts_truths():
    rows = cells(str(build(node(gpus=2, windows=[RUN, *EPOCHS], simulated=True))))
    (total,) = [row for row in rows if row[0] == "total"]
    assert total[-2:] == ["28080.0", "+0.00"]
    assert [row[-1] for row in rows if row[0].startswith("epoch")] == ["+0.00"] * 5


def test_explained_has_each_window_by_device_and_how_each_channel_was_read():
    """The screen leaves it out; nothing else tells it in words."""
    report = build(node(gpus=2, windows=[RUN, *EPOCHS, *STEPS]))
    rows = [tuple(row[:3]) for row in cells(report.explained())]
    for i in range(5):
        for device in ("gpu0", "gpu1", "package-0", "package-0 dram", "psys"):
            assert (f"epoch {i}", "10.00", device) in rows
    polled = [row for row in cells(report.explained()) if row[0].endswith(".energy") and len(row) == 10]
    assert {row[0] for row in polled} == {channel["name"] for channel in report.data["channels"]}
    assert any(row[:2] == ("step x 100", "0.4000") for row in rows)


def test_windows_that_nothing_holds_come_after_the_whole_record():
    report = build(node(windows=EPOCHS[:2]))
    found = cells(str(report))
    assert found[0][0] == "run, 54.00 s"
    assert found[1] == ["total", "17280.0", "-", "320.0", "unrated", "GPU + CPU + DRAM"]
    assert [row[2] for row in found if row[0] == "epoch 1"] == ["3200.0"]
    assert report.data["record"]["totals"]["joules"] == pytest.approx(17280)
    assert [one["name"] for one in report.data["windows"]] == ["epoch 0", "epoch 1"]  # those that were marked


def test_run_comes_first_where_a_window_that_was_never_ended_goes_on_after_it():
    late = Window("forgotten", 3 * S, 54 * S, ("open",))
    report = build(node(windows=[Window("run", S, 50 * S), late, *EPOCHS]))
    found = cells(str(report))
    assert found[0][0] == "run, 49.00 s"
    assert found[1][:2] == ["total", "15680.0"]
    assert [row[2] for row in found if row[0] == "forgotten (open)"] == ["16320.0"]
    assert report.data["record"] is None


def test_longest_of_windows_that_were_asked_for_comes_first_where_none_holds_the_others():
    windows = [EPOCHS[0], Window("long", 14 * S, 40 * S), EPOCHS[4]]
    found = cells(str(build(node(windows=windows), windows)))
    assert found[0][0] == "long, 26.00 s"
    assert [row[0] for row in found if row[0].startswith("epoch")] == ["epoch 0", "epoch 4"]
    alike = cells(str(build(node(windows=STEPS), STEPS)))
    assert alike[0][0] == "step, 0.4000 s"
    assert any(row[0] == "step x 100" for row in alike)  # it is one of them, and stays in their figures


def test_every_text_of_a_report_can_be_written_whatever_a_window_is_called():
    """A name out of a file system may be no UTF-8; the sentence on what has no energy had it as it is."""
    names = ["bad \udcff\x1b[2J name", "late \udcff"]
    windows = [Window(names[0], 0, 54 * S), Window(names[1], 53 * S, 60 * S)]
    report = build(node(windows=windows, dead=("gpu0.energy",)))
    texts = [str(report), report.brief(), report.explained(), report.every_channel(), report._repr_html_()]
    for text in texts:
        assert "bad ??[2J name" in text
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "no energy by gpu0.energy in run, bad ??[2J name, late ?" in " ".join(texts[0].split())


def test_windows_after_the_end_of_the_record_are_one_note():
    """As when the recorder was killed and its program went on."""
    gone = [Window(f"epoch {i}", 54 * S + i * S, 55 * S + i * S) for i in range(5, 20)]
    report = build(
        node(windows=[Window("run", 0, 54 * S, ("open",)), *EPOCHS, *gone, Window("epoch 20", 80 * S, 80 * S)])
    )
    for text in map(str, (report, report.brief())):
        assert cells(text)[0][0] == "run (open), 54.00 s"
        assert (
            "note: 16 windows were marked after the record's end and cannot be told: epoch 5, epoch 6, epoch 7 and 13"
            in (" ".join(text.split()))
        )
        assert not re.search("no energy by|PSQ-EMPTY|PSQ-UNCOVERED", text)
    assert "epoch 19" in report.explained()  # nothing is lost to who asks


def test_device_without_an_energy_leaves_part_no_total_and_a_reason():
    report = build(node(gpus=2, windows=[RUN, *EPOCHS], dead=("gpu1.energy",)))
    text = str(report)
    rows = cells(text)
    (total,) = [row for row in rows if row[0] == "total"]
    assert (total[1], total[3], total[-1]) == ("6480.0 (part)", "-", "CPU + DRAM")  # and says what is in it
    assert [row[2:5] for row in rows if row[0].startswith("epoch")] == [["-"] * 3] * 5  # as in JSON
    assert [row[0] for row in rows if row[0].startswith("gpu0")] == ["gpu0"]
    assert "no energy by gpu1.energy in run, epoch 0, epoch 1 and 3 more windows" in " ".join(text.split())
    assert "PSQ-PARTIAL run, total: no energy of GPU-1 can be told: no gpu_j" in " ".join(text.split())
    assert "gpu1.energy: reads failed with code 15" in " ".join(text.split())


def test_window_that_a_device_lacks_an_energy_of_has_no_total_no_mean_and_no_error():
    """What is left, such as the GPU's, would look like all."""
    report = build(node(windows=[RUN, *EPOCHS], simulated=True, dead=("package-0.energy",)))
    assert all(window["totals"]["joules"] is None for window in report.data["windows"])
    found = cells(str(report))
    (header,) = [row for row in found if row[:2] == ["window", "s"]]
    for row in (row for row in found if row[0].startswith("epoch")):
        told = dict(zip(header, row, strict=True))
        assert [told[name] for name in ("J", "95 %", "mean W", "verdict", "error %")] == ["-"] * 5
        assert (told["GPU J"], told["DRAM J"]) == ("2000.0", "200.0")


def test_windows_by_the_hundreds_that_lack_an_energy_are_counted_in_their_row():
    late = [Window("step", (60 + i) * S, (61 + i) * S) for i in range(3)]
    text = " ".join(str(build(node(windows=[Window("run", 0, 70 * S), *STEPS, *late]))).split())
    assert "step x 103 (3 without)" in text
    assert "no energy by" not in text


def test_codes_of_other_devices_are_counted_and_those_of_the_answer_are_told():
    text = " ".join(str(build(node(windows=[RUN, *EPOCHS], dead=("psys.energy",)))).split())
    assert re.search(r"also, in --explain: .*PSQ-ERRORS 6 times", text)
    assert "PSQ-ERRORS run" not in text
    text = " ".join(str(build(node(windows=[Window("long", 0, 60 * S)]))).split())
    assert "PSQ-UNCOVERED long, gpu0.energy: 6 s of 60 s are outside the record" in text
    assert "PSQ-PARTIAL long, total: gpu0.energy of GPU-0 speaks for 54 s of 60 s: no gpu_j (and 2 more)" in text


def test_note_that_every_gpu_has_is_told_once():
    trace = node()
    notes = [f"nvml:gpu{i}: no power.driver" for i in range(8)]
    trace = Trace.of([trace.series(name) for name in trace.channels], meta={"notes": notes})
    assert "note: nvml:gpu0: no power.driver (and 7 alike)" in str(build(trace))
    assert str(build(trace).explained()).count("no power.driver") == 8


def test_summary_of_a_recording_is_what_its_report_begins_with():
    report = build(node(gpus=8, windows=[RUN, *EPOCHS, *STEPS], simulated=True))
    brief = report.brief()
    assert brief in str(report)
    assert len(brief.splitlines()) <= 36
    assert "--explain" not in brief


def test_note_that_the_driver_has_no_samples_of_its_own_is_for_who_asks_for_everything():
    notes = ("nvml:gpu0: no power.driver: nvmlDeviceGetSamples says Not Supported", "nvml:gpu0: no energy: x")
    report = build(node(windows=[RUN]).with_meta(notes=notes))
    assert "power.driver" not in str(report)
    assert "no energy: x" in str(report)
    assert "power.driver" in report.explained()


@pytest.mark.parametrize(("steps_j", "told"), [((0.5, 0.4), False), ((0.5, 0.6), True), ((), True)])
def test_edge_between_a_counters_updates_is_told_where_it_makes_a_difference(steps_j, told):
    """A RAPL counter moves at every poll: each of its windows would say so, whatever its length."""
    budget = [{"term": term, "value_j": off_j} for term, off_j in zip(EDGES.values(), steps_j, strict=False)]
    energy = {"channel": "package-0.energy", "primary": True, "joules": 100.0, "budget": budget}
    energy["reasons"] = ["PSQ-EDGE either edge", "PSQ-GAP 2 gaps"]
    window = {"name": "w", "energies": [energy], "totals": {"reasons": []}, "holistic": {"reasons": []}}
    assert ("PSQ-EDGE" in reason_cases({"windows": [window]}, slight=False)) == told
    assert [*reason_cases({"windows": [window]})] == ["PSQ-EDGE", "PSQ-GAP"]
    assert "PSQ-GAP" in reason_cases({"windows": [window]}, slight=False)


def test_gap_that_hides_no_energy_but_whose_it_is_says_both():
    """Both sentences stood on one screen: "no update was missed that could hide energy", and what gaps hide."""
    t_ns = np.delete(np.arange(0, 2000) * MS, np.s_[1000:1040])
    counter = series(
        Channel("package-0.energy", "package-0", "package", Kind.ENERGY, "J", 1e-3), t_ns, t_ns // MS * 100
    )
    words = " ".join(str(build(Trace.of([counter], windows=[Window("half", 0, 1020 * MS)]))).split())
    assert "PSQ-GAP" in words
    assert "1 gap; no missed update could hide energy of the recording, and a window's interval has room" in words
    words = " ".join(str(build(Trace.of([counter], windows=[Window("all", 0, 1999 * MS)]))).split())
    assert "1 gap; no missed update could hide energy of the recording" in words
    assert "PSQ-GAP" not in words
