# SPDX-License-Identifier: Apache-2.0
"""The sections of a report's page, in the order in which a reviewer asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from powersample.model import amount
from powersample.report.curves import Panel, spans
from powersample.report.explain import VERDICTS, explain, sensor_words
from powersample.report.holistic import holistic_summary, node_rows
from powersample.report.html_energies import energies
from powersample.report.html_parts import escaped, name, outline, plain, table, verdict
from powersample.report.meters import meter_lines
from powersample.report.table import DASH, number
from powersample.report.text import LEGEND, TOTAL_NAMES
from powersample.report.untold import untold
from powersample.report.words import (
    POLLED,
    SENSORS,
    coded_reasons,
    notes,
    polled_cells,
    read_words,
    sensor_cells,
    sensor_meaning,
)

OPEN_PANELS = 8  # the others are drawn when somebody opens them
MOST_SHADED = 200
MOST_EXPLAINED = 40
MOST_NODES = 100
MOST_SLEEPS = 20
ROOM = 120


def sections(data: Mapping[str, Any], panels: Sequence[Panel], start_ns: int, end_ns: int, file: str) -> Iterator[str]:
    """Yield the sections as HTML.

    Args:
        data: a report's JSON object.
        panels: what is drawn.
        start_ns: of the record.
        end_ns: of the record.
        file: the recording's name.
    """
    yield _summary(data)
    yield from energies(data, panels)
    yield from _power(data, panels, start_ns, end_ns)
    yield from _quality(data)
    yield from _node(data)
    yield from _sensors(data)
    yield from _checks(data)
    yield from _explained(data)
    yield from _provenance(data, file)


# ---- the headline ----------------------------------------------------------------------------------------------------


def _summary(data: Mapping[str, Any]) -> str:
    """Return the longest window's energy in words, its parts, and how many checks speak up."""
    if not data["windows"]:
        return '<section class="sum"><p class="big">Nothing was recorded.</p></section>'
    window = max(data["windows"], key=lambda one: float(one["duration_s"]))
    told = _told(window)
    which = "in the longest window, " if len(data["windows"]) > 1 else "in "
    where = f"{which}{name(window['name'])}, {escaped(number(window['duration_s']))} s"
    parts = [f'<p class="origin">{where}</p>']
    if told is None:
        parts.append('<p class="big">No total can be told.</p>')
        parts += [f"<p>{escaped(words)}</p>" for words in [*window["totals"]["reasons"], *untold(data)][:4]]
    else:
        what, joules, low_j, high_j, word = told
        parts.append(f'<p class="big">{_joules(joules)} <small>{escaped(what)}</small></p>')
        if low_j is None or high_j is None:
            parts.append(f"<p>{verdict(word)}: nothing is known of what the sensors may be off by; no interval.</p>")
        else:
            half_pct = 100 * max(joules - low_j, high_j - joules) / joules if joules else 0.0
            parts.append(
                f"<p>The true energy lies between {_joules(low_j)} and {_joules(high_j)} 95 times in 100 "
                f"(&plusmn;{amount(half_pct, 2)} %).</p>"
                f"<p>{verdict(word)}{escaped(VERDICTS[word].removeprefix(word))}.</p>"
            )
    cards = [
        f"<div><dt>{escaped(label)}</dt><dd>{_joules(window['totals'][key])} <small>{_mean(window, key)}</small></dd>"
        "</div>"
        for key, label in TOTAL_NAMES.items()
        if window["totals"][key] is not None
    ]
    if cards:
        parts.append(f'<dl class="cards">{"".join(cards)}</dl>')
    grave = [one for one in data["checks"] if one["level"] != "info"]
    if grave:
        codes = ", ".join(dict.fromkeys(f"<code>{escaped(one['code'])}</code>" for one in grave))
        parts.append(f'<p>To be looked at: {codes}. <a href="#checks">What they mean, and what to do</a></p>')
    return f'<section class="sum" aria-label="summary">{"".join(parts)}</section>'


def _told(window: Mapping[str, Any]) -> tuple[str, float, float | None, float | None, str] | None:
    """Return what a window's energy is of, the energy, its ends, its verdict: the node's, else what was seen of it."""
    totals, node = window["totals"], window["holistic"]
    if totals["node_j"] is not None:
        by_meter = totals["node_by"] == "meter"
        what = "of the whole node, by the meter" if by_meter else "of the whole node, calibrated"
        word = node["verdict"] if node["total_j"] is not None else _meter_verdict(window)
        return what, totals["node_j"], totals["node_low_j"], totals["node_high_j"], word
    seen = [key for key in ("gpu_j", "cpu_j", "dram_j") if totals[key] is not None]
    if seen:
        joules = sum(totals[key] for key in seen)
        names = " + ".join(TOTAL_NAMES[key] for key in seen)
        return f"of {names}", joules, totals["low_j"], totals["high_j"], totals["verdict"]
    alone = [one for one in window["energies"] if one["primary"] and one["joules"] is not None]
    if len(alone) == 1:
        (one,) = alone
        return f"of {one['channel']}", one["joules"], one["low_j"], one["high_j"], one["verdict"]
    return None


def _meter_verdict(window: Mapping[str, Any]) -> str:
    return next((one["verdict"] for one in window["energies"] if one["primary"] and one["domain"] == "wall"), "unrated")


def _joules(joules: float) -> str:
    """Return an energy with its thousands apart: "9 866.1 J"."""
    words = f"{joules:,.1f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if abs(joules) >= 1000 else number(joules)
    return f"{words}&nbsp;J"


def _mean(window: Mapping[str, Any], key: str) -> str:
    return f"{number(window['totals'][key] / window['duration_s'])} W" if window["duration_s"] else ""


# ---- power over time -------------------------------------------------------------------------------------------------

TOOLS = """<div class="tools" hidden role="group" aria-label="move in time">
<button type="button" data-move="out" aria-label="zoom out">&minus;</button>
<button type="button" data-move="in" aria-label="zoom in">+</button>
<button type="button" data-move="left" aria-label="earlier">&larr;</button>
<button type="button" data-move="right" aria-label="later">&rarr;</button>
<button type="button" data-move="all">whole record</button>
<select id="window" aria-label="zoom to a window" hidden><option value="">zoom to a window</option></select>
<span class="note">Drag over a panel to zoom, double-click to see all; Ctrl and wheel zoom, Shift and wheel move.</span>
<p id="hint" class="note" role="status"></p>
</div>
<div id="lane" aria-hidden="true"><canvas></canvas></div>"""


def _power(data: Mapping[str, Any], panels: Sequence[Panel], start_ns: int, end_ns: int) -> Iterator[str]:
    yield "<h2>Power over time</h2>"
    drawn = [panel for panel in panels if any(len(curve.points) for curve in panel.curves)]
    if not drawn:
        yield "<p>No channel of power or energy has a readable value: there is nothing to draw.</p>"
    yield (
        '<p class="note">Seconds since the first reading, on a clock that stops while the machine sleeps. Shaded: '
        "windows, with their verdict for the device as a line at the top. Striped, and never drawn over: "
        "where an update of the sensor went unread.</p>"
    )
    for one in [one for one in data["clock"]["events"] if one["kind"] == "suspend"][:MOST_SLEEPS]:
        first_s, last_s = ((one[key] - start_ns) / 1e9 for key in ("start_ns", "end_ns"))
        yield (
            f"<p><strong>The machine slept for {escaped(number(one['size_s']))} s</strong> at some instant between "
            f"{escaped(number(first_s))} s and {escaped(number(last_s))} s. That time is not on the axis, and its "
            "energy in no figure; the curves are broken there.</p>"
        )
    yield TOOLS
    leaves = [(one["start_ns"], one["end_ns"]) for one in data["windows"]]
    whole = end_ns - start_ns
    shaded = [one for one in leaves if one[1] - one[0] < 0.95 * whole][:MOST_SHADED]
    for i, panel in enumerate(panels):
        top_w = 1.05 * max(
            (float(curve.points.value.max()) for curve in panel.curves[:1] if len(curve.points)), default=0.0
        )
        holes = spans(panel, data)
        shape = outline(panel, holes, shaded, (start_ns, end_ns), top_w)
        keys = " ".join(
            f'<span><i class="key {"" if curve.truth else f"c{k}"}"></i>{escaped(curve.label, ROOM)}: '
            f"{escaped(curve.how)}{_reduced(curve.points.width_ns)}</span>"
            for k, curve in enumerate(panel.curves)
        )
        missing = (
            f'<span><i class="key missing"></i>{len(holes)} {"span" if len(holes) == 1 else "spans"} unread</span>'
            if holes
            else ""
        )
        board = f" <small>{escaped(panel.board, ROOM)}</small>" if panel.board else ""
        is_open = " open" if i < OPEN_PANELS else ""
        yield (
            f'<details class="panel" id="panel-{i}"{is_open}><summary><h3>{name(panel.name)}{board}</h3></summary>'
            f'<figure><figcaption class="keys">{keys} {missing}</figcaption>'
            f'<div class="overview">{shape}<div><span>0 s</span><span>0 to {escaped(number(top_w))} W</span>'
            f"<span>{escaped(number(whole / 1e9))} s</span></div></div>"
            f'<div class="plot" role="img" aria-label="power of {escaped(panel.name, ROOM)} over time; the table of '
            'its energies says it in numbers"></div></figure></details>'
        )


def _reduced(width_ns: int) -> str:
    return f", of each {escaped(number(width_ns / 1e9))} s the first, lowest, highest and last" if width_ns else ""


# ---- quality, sensors, node ------------------------------------------------------------------------------------------


def _quality(data: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>What the data are worth</h2>"
    if not data["channels"]:
        yield "<p>No channel was recorded.</p>"
        return
    main = [one for one in data["channels"] if one["kind"] != "aux"]
    aux = [one for one in data["channels"] if one["kind"] == "aux"]
    align = "lRrrrRrrrr"
    if main:
        yield table(POLLED, [_cells(polled_cells(one, ROOM)) for one in main], align)
        yield table(SENSORS, [_cells(sensor_cells(one, ROOM)) for one in main], "lrlrlrrr")
    if aux:
        rows = [_cells(polled_cells(one, ROOM)) for one in aux]
        title = f"<summary>{len(aux)} auxiliary channels</summary>"
        yield f'<details class="more">{title}{table(POLLED, rows, align)}</details>'
    said = [words for one in data["channels"] for words in read_words(one)]
    yield from _list(said)
    yield from (f'<p class="note">{escaped(words)}</p>' for words in LEGEND[1:3])


def _cells(cells: Sequence[str]) -> list[str]:
    return [name(cells[0]), *map(escaped, cells[1:])]


def _list(sentences: Sequence[str]) -> Iterator[str]:
    if sentences:
        yield f"<ul>{''.join(f'<li>{escaped(one)}</li>' for one in sentences)}</ul>"


def _node(data: Mapping[str, Any]) -> Iterator[str]:
    summary = holistic_summary(data)
    meters = list(meter_lines(data["meta"]))
    if not summary and not meters:
        return
    yield "<h2>The whole node</h2>"
    yield from (f"<p>{escaped(words)}</p>" for words in summary)
    header, rows = node_rows(data, MOST_NODES)
    if rows:
        align = "".join("l" if one in ("window", "verdict") else "r" for one in header)
        yield table(list(map(escaped, header)), [_cells(cells) for cells in rows], align)
    if meters:
        yield "<h3>Meters</h3>"
        yield from _list(meters)


def _sensors(data: Mapping[str, Any]) -> Iterator[str]:
    told = [one for one in data["channels"] if one["kind"] != "aux"]
    if not told:
        return
    yield "<h2>The sensors, in words</h2>"
    rows = [
        f'<dt>{name(one["name"])}</dt><dd>{escaped(sensor_meaning(one))}<br><span class="note">'
        f"{escaped(sensor_words(one))}</span></dd>"
        for one in told
    ]
    yield f'<dl class="facts">{"".join(rows)}</dl>'


# ---- checks, notes, where it comes from ------------------------------------------------------------------------------


def _checks(data: Mapping[str, Any]) -> Iterator[str]:
    yield '<h2 id="checks">Checks</h2>'
    if data["checks"]:
        rows = [
            [
                f"<code>{escaped(one['code'])}</code>",
                f'<span class="level {escaped(one["level"])}">{escaped(one["level"])}</span>',
                escaped(one["what"]),
                escaped(one["fix"]),
            ]
            for one in data["checks"]
        ]
        yield table(("code", "level", "what", "the one thing to do"), rows, "llww")
    else:
        yield "<p>Nothing about the recording as a whole speaks against its figures.</p>"
    reasons = list(coded_reasons(data))
    if reasons:
        yield "<h3>Reasons that figures bear</h3>"
        rows = [
            [f"<code>{escaped(code)}</code>", escaped(words)] for code, _, words in (r.partition(" ") for r in reasons)
        ]
        yield table(("code", "the first case of each"), rows, "lw")
    lacking = list(untold(data))
    if lacking:
        yield "<h3>Without an energy</h3>"
        yield from _list(lacking)


def _explained(data: Mapping[str, Any]) -> Iterator[str]:
    shown = data["windows"][:MOST_EXPLAINED]
    if not shown:
        return
    yield "<h2>How each number came about</h2>"
    if len(data["windows"]) > len(shown):
        more = len(data["windows"]) - len(shown)
        yield f'<p class="note">The first {len(shown)} windows; powersample report FILE --explain has {more} more.</p>'
    for window in shown:
        words = "\n".join(escaped(line) for line in explain({**data, "windows": [window]})).strip()
        if words:
            title = f"<summary>{name(window['name'])}</summary>"
            yield f'<details class="more">{title}<pre>{words}</pre></details>'


def _provenance(data: Mapping[str, Any], file: str) -> Iterator[str]:
    meta = data["meta"]
    yield "<h2>Where it comes from</h2>"
    plan, versions = meta.get("plan") or {}, meta.get("versions") or {}
    facts: list[tuple[str, Any]] = [
        ("recording", file),
        ("program", (meta.get("command") or {}).get("program")),
        ("node", " ".join(str(meta[key]) for key in ("host", "machine", "kernel") if meta.get(key))),
        ("simulated", _simulated(meta)),
        ("driver", meta.get("driver")),
        ("NVML", meta.get("nvml")),
        ("recorded by", ", ".join(f"{key} {value}" for key, value in versions.items())),
        (
            "asked for",
            ", ".join(f"{key} {plan[key]}" for key in ("sources", "mode", "rate_hz", "keep") if plan.get(key)),
        ),
    ]
    facts += [
        (f"gpu{one.get('index')}", ", ".join(str(one[key]) for key in ("name", "uuid", "pci_bus_id") if one.get(key)))
        for one in meta.get("devices") or ()
    ]
    rows = "".join(f"<dt>{escaped(key, 60)}</dt><dd>{escaped(_plainly(value))}</dd>" for key, value in facts if value)
    yield f'<dl class="facts">{rows}</dl>'
    if data["lanes"]:
        keys = ("rate_hz", "slots", "passes", "skipped", "records", "dropped", "reopens")
        lanes = [
            [
                name(lane["name"]),
                *(
                    escaped(DASH if lane[key] is None else f"{lane[key]:g}" if key == "rate_hz" else lane[key])
                    for key in keys
                ),
                escaped(lane["state"]),
            ]
            for lane in data["lanes"]
        ]
        yield table(("lane", "Hz", *keys[1:], "state"), lanes, "lrrrrrrrl")
    yield from _list(list(notes(data)))


def _simulated(meta: Mapping[str, Any]) -> str | None:
    node = meta.get("simulated_node") or {}
    return f"node {node.get('profile', '')}, seed {node.get('seed')}: no measurement" if node else None


def _plainly(value: object) -> str:
    return plain(value, 400)
