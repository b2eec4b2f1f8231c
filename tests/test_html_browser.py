# SPDX-License-Identifier: Apache-2.0
"""A report's page in Debian's Chromium: what its script draws, and that nobody complains meanwhile.

The page itself notes errors, rejections and what its policy forbade at its root element, where the dumped page shows
them. Where there is no browser, these tests are skipped and say so; test_html.py reads the page without one.
"""

import re

import numpy as np
import pytest
from pages import Page, browse
from test_html import HOSTILE
from traces import S, channel, node, polls, series

from powersample.model import Anchor, Trace, Window
from powersample.report import build
from powersample.report.html import html


def driven(text, script):
    """The page with a script of the test's own, which its policy is widened for."""
    text = re.sub('script-src [^"]*', "script-src 'unsafe-inline'", text, count=1)
    return text.replace("</body>", f"<script>{script}</script></body>")


def looked_at(trace, tmp_path, *, change=str, name="run.parquet", width=1200):
    """Return the page once its script has run, and the attributes of its root."""
    path = tmp_path / "page.html"
    path.write_text(change(html(trace, build(trace), name)), encoding="utf-8")
    page = Page(browse(path, width))
    return page, next(attrs for tag, attrs in page.tags if tag == "html")


def test_page_draws_every_panel_without_a_complaint_whatever_names_hold(tmp_path):
    windows = [Window("run", 0, 10 * S), *(Window(name, i * S, (i + 1) * S) for i, name in enumerate(HOSTILE))]
    page, root = looked_at(node(3, windows=windows), tmp_path, name=HOSTILE[0])
    assert root.get("data-errors") is None
    assert root.get("data-broken") is None
    assert root["data-panels"] == "3"
    assert len([attrs for tag, attrs in page.tags if tag == "canvas"]) == 4
    assert len([attrs for tag, attrs in page.tags if tag == "option"]) == 2 + len(HOSTILE)
    assert "power.instant" in page.text


def test_what_is_wrong_with_a_page_is_noted_and_what_was_planted_does_not_run(tmp_path):
    """The net under the escaping: were a name to come through, it would neither run nor load.

    And the fake must be able to fail: the complaints of this page stand where the other tests look for some.
    """
    planted = "<script>document.documentElement.dataset.broken = 1</script><img src='http://127.0.0.1:9/x.png'>"

    def damage(text):
        text = re.sub(r'(id="data">).*?(</script>)', r"\1{\2", text, flags=re.DOTALL)
        return text.replace(
            "</body>", f"{planted}</body>"
        )  # behind the script that notes: what came before it may be missed

    _, root = looked_at(node(), tmp_path, change=damage)
    assert root.get("data-broken") is None
    assert all(word in root["data-errors"] for word in ("script-src", "img-src", "JSON"))


ACTIONS = """
addEventListener("load", () => setTimeout(() => {
  const said = [], root = document.documentElement;
  const view = () => said.push(root.dataset.view);
  const plot = document.querySelector(".plot");
  const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  document.querySelector("[data-move=in]").click(); view();
  press("ArrowRight"); view();
  document.querySelector("[data-move=all]").click(); view();
  const select = document.getElementById("window");
  select.value = "1"; select.dispatchEvent(new Event("change")); view();
  press("0"); view();
  document.querySelectorAll(".panel:not([open]) > summary").forEach((one) => one.click());
  document.getElementById("theme").click(); said.push(root.dataset.theme);
  document.getElementById("theme").click(); said.push(root.dataset.theme);
  const over = document.querySelector(".u-over"), box = over.getBoundingClientRect();
  const at = (type, share) => over.dispatchEvent(new MouseEvent(type, {
    bubbles: true, button: 0, movementX: 9, clientX: box.left + share * box.width, clientY: box.top + 20 }));
  at("mouseenter", 0.2); at("mousedown", 0.2); at("mousemove", 0.7);
  setTimeout(() => {
    said.push([...document.querySelectorAll(".now")].slice(0, 2).map((one) => one.textContent).join(" and "));
    said.push(document.getElementById("now").textContent);
    at("mouseup", 0.7); setTimeout(() => { view(); root.dataset.said = said.join(";"); }, 50); }, 50);
}));
"""


def test_buttons_keys_and_mouse_move_all_panels(tmp_path):
    windows = [Window("run", 0, 10 * S), Window("epoch 0", 5 * S, 7 * S)]
    _, root = looked_at(node(9, windows=windows), tmp_path, change=lambda text: driven(text, ACTIONS))
    assert root.get("data-errors") is None
    *views, light, dark, read, now, dragged = root["data-said"].split(";")
    assert read == "100.0 W and 200.0 W"  # of each panel what stands where the pointer is
    assert float(now.removesuffix(" s")) == pytest.approx(7, abs=0.1)
    expected = [(2.5, 7.5), (3.75, 8.75), (0, 10), (4.92, 7.08), (0, 10)]
    assert [tuple(map(float, one.split())) for one in views] == [pytest.approx(one) for one in expected]
    assert {light, dark} == {"light", "dark"}
    assert [float(one) for one in dragged.split()] == pytest.approx([2, 7], abs=0.1)
    assert root["data-panels"] == "9"


def one_reading_and_only_failures():
    t_ns = polls(0, 20, 10)
    failing = channel("gpu1.power.instant", device="GPU-1")
    failures = series(failing, t_ns, np.zeros(len(t_ns)), np.full(len(t_ns), 15, np.uint16))
    return Trace.of([series(channel(), [5 * S], [100_000]), failures])


def suspend_and_many_windows():
    t_ns = polls(0, 20, 10)
    gone = ((0, 0), (10, 0), (20, 900 * S))
    return Trace.of(
        [series(channel(), t_ns, 100_000 + t_ns % 7)],
        anchors=[Anchor(at * S, at * S, at * S + asleep, at * S + asleep, 100) for at, asleep in gone],
        windows=[Window(f"step {i}", i * S // 1000, (i + 1) * S // 1000) for i in range(9999)],
    )


@pytest.mark.parametrize(
    ("trace", "panels"),
    [(lambda: Trace.of([]), None), (one_reading_and_only_failures, "2"), (suspend_and_many_windows, "1")],
    ids=["nothing", "one reading, only failures", "suspend, many windows"],
)
def test_odd_traces_draw_without_a_complaint(trace, panels, tmp_path):
    page, root = looked_at(trace(), tmp_path)
    assert root.get("data-errors") is None
    assert root.get("data-panels") == panels
    assert ("9,999 windows are too short to be seen here: zoom in." in page.text) == (panels == "1")


LAYOUT = """
addEventListener("load", () => setTimeout(() => {
  const side = (cell) => getComputedStyle(cell).textAlign.replace("start", "left");
  const off = [];
  for (const table of document.querySelectorAll("table")) {
    const [heads, cells] = [table.rows[0].cells, table.rows[1].cells];
    for (let i = 1; i < cells.length; i++) {
      if (side(heads[i]) !== side(cells[i])) off.push(heads[i].textContent);
    }
  }
  const root = document.documentElement;
  root.dataset.off = off.join(";");
  root.dataset.over = Math.max(0, root.scrollWidth - innerWidth);
  root.dataset.wide = innerWidth;
}));
"""


@pytest.mark.parametrize("width", [1280, 500])
def test_headings_stand_over_their_columns_and_the_page_never_scrolls_sideways(width, tmp_path):
    windows = [Window("run", 0, 10 * S), Window("epoch " + "long" * 30, 5 * S, 7 * S)]
    _, root = looked_at(node(2, windows=windows), tmp_path, change=lambda text: driven(text, LAYOUT), width=width)
    assert root.get("data-errors") is None
    assert (root["data-wide"], root["data-off"], root["data-over"]) == (str(width), "", "0")
