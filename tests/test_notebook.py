# SPDX-License-Identifier: Apache-2.0
"""What a prompt and a notebook show of a run, a trace, a report and an energy."""

import math
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from traces import S, channel, node, polls, series

import powersample as ps
from powersample.model import MeterInfo, Trace, Window
from powersample.report.notebook import MOST

NAMED = Window("epoch <1>", 2 * S, 8 * S)


class Read(HTMLParser):
    """Reads text and tags, and holds that every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "|"


def test_report_in_a_notebook_has_the_total_first_and_names_that_are_no_markup():
    page = Read(ps.make_report(node(2, windows=[NAMED], meta={"host": "<script>"}))._repr_html_())
    assert page.tags == ["div", "pre"]
    assert page.text.startswith("epoch <1>, 6.000 s")
    assert "total" in page.text.splitlines()[1]
    assert "1800.0" in page.text.splitlines()[1]


def test_report_of_many_windows_in_a_notebook_is_small():
    windows = [Window(f"w{i} {'x' * i}", (1 + i % 7) * S, (2 + i % 7) * S) for i in range(MOST + 5)]
    windows += [Window("step", i * S // 100, (i + 1) * S // 100) for i in range(100, 300)]
    html = ps.make_report(node(windows=windows))._repr_html_()
    assert len(Read(html).text.splitlines()) < MOST + 15
    assert "step x 200" in html
    assert len(html) < 20_000


def test_report_of_nothing_in_a_notebook_says_so():
    assert "Nothing was recorded." in Read(ps.make_report(Trace.of([]))._repr_html_()).text


def test_energy_in_a_notebook_says_what_it_is_worth():
    trace = node(windows=[NAMED, Window("later", 100 * S, 101 * S)])
    found = ps.energy(trace, NAMED)
    assert "gpu0.energy over 'epoch <1>': |600.00 J| (without an interval), unrated" in Read(found._repr_html_()).text
    page = Read(ps.energy(trace, "later")._repr_html_())
    assert "no energy can be told|, un" in page.text
    assert "li" in page.tags


@pytest.mark.parametrize("device", [None, "total"])
def test_energy_of_a_simulated_trace_says_so_however_it_is_shown(device):
    found = ps.energy(node(windows=[NAMED], meta={"simulated": True}), NAMED, device)
    assert str(found).startswith("SIMULATED ")
    assert repr(found).startswith("<Energy SIMULATED ")
    assert Read(found._repr_html_()).text.startswith("SIMULATED, not a measurement|")
    assert "SIMULATED" not in str(ps.energy(node(windows=[NAMED]), NAMED, device))


def test_energy_of_a_simulated_meter_says_so_beside_real_devices():
    wall, t_ns = channel("wall.power", device="wall", domain="wall"), polls(0, 10, 10)
    meter = MeterInfo("wall", "sim", "", "", "LMG450", "", "", (wall,), math.nan, simulated=True).as_json()
    trace = Trace.of([series(wall, t_ns, np.full(len(t_ns), 500_000))], windows=[NAMED], meta={"meters": [meter]})
    assert ps.energy(trace, NAMED, domain="wall").simulated


def test_trace_is_one_line():
    assert repr(node(2, windows=[NAMED])) == "<Trace 10 s, 4 channels, 1 window>"
    assert repr(Trace.of([])) == "<Trace empty, 0 channels, 0 windows>"
    meta = {"simulated": True, "simulated_node": {"profile": "h100"}}
    assert repr(node(meta=meta)).startswith("<Trace SIMULATED h100 10 s, ")


def test_run_is_one_line_at_any_time_and_a_table_once_it_has_ended(tmp_path):
    run = ps.measure(simulate="h100", output=tmp_path / "run.parquet")
    assert repr(run) == "<Run SIMULATED h100, not started, to run.parquet>"
    with run:
        time.sleep(0.2)
        assert repr(run).startswith("<Run SIMULATED h100, recording for 0.")
        assert run._repr_html_() is None
    assert repr(run) == f"<Run, ended: {run.trace!r}>"
    assert repr(run.trace).startswith("<Trace SIMULATED h100 run.parquet, 0.")
    assert Read(run._repr_html_()).text.startswith("SIMULATED NODE h100, not a measurement|")
