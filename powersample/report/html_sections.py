# SPDX-License-Identifier: Apache-2.0
"""The sections of a report's page, in the order in which a reviewer asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from powersample.model import amount, duration, simulated_name
from powersample.report.curves import Panel
from powersample.report.explain import explain, sensor_words
from powersample.report.holistic import holistic_summary, node_rows
from powersample.report.html_energies import energies
from powersample.report.html_head import head
from powersample.report.html_parts import escaped, name, plain, prose, table
from powersample.report.html_power import power
from powersample.report.meters import meter_lines
from powersample.report.table import DASH
from powersample.report.untold import untold
from powersample.report.words import (
    coded_reasons,
    notes,
    polled_cells,
    read_words,
    sensor_cells,
    sensor_meaning,
)

MOST_EXPLAINED = 40
MOST_NODES = 100
FEW_REMARKS = 4
ROOM = 120
READ_HEADS = (  # of words.polled_cells, with more room than a terminal has
    "channel", "asked Hz", "read at Hz", "reads", "updates seen", "published", "repeats %", "failed", "gaps", "stalls",
)  # fmt: skip
LEGEND = (
    "Updates seen: new values, of those that the sensor published; equal ones show as none. Repeats: reads that gave "
    "the last value again, as most do where reads are faster than the sensor.",
    "Gaps and stalls: reads more than 3 and 1.5 of their spacing apart. Dropouts: spans in which something was "
    "published and not read. Says: who says it, a table of sensors, the source itself, or what was seen here.",
)
SENSOR_HEADS = (  # of words.sensor_cells
    "channel", "publishes every", "says", "averages over", "says", "dropouts", "updates unread", "may hide J",
)  # fmt: skip


def sections(data: Mapping[str, Any], panels: Sequence[Panel], start_ns: int, end_ns: int, file: str) -> Iterator[str]:
    """Yield the sections as HTML.

    Args:
        data: a report's JSON object.
        panels: what is drawn.
        start_ns: of the record.
        end_ns: of the record.
        file: the recording's name.
    """
    written = {
        "power": ("power over time", power(data, panels, start_ns, end_ns)),
        "energies": ("energies", energies(data, panels)),
        "quality": ("data quality", _quality(data)),
        "node": ("whole node", _node(data)),
        "sensors": ("sensors", _sensors(data)),
        "checks": ("checks", _checks(data)),
        "notes": ("how each number came about", _explained(data)),
        "origin": ("where it comes from", _provenance(data, file)),
    }
    parts = {key: (title, "\n".join(lines)) for key, (title, lines) in written.items()}
    yield from head(data)
    links = " ".join(f'<a href="#{key}">{title}</a>' for key, (title, text) in parts.items() if text)
    yield f'<nav aria-label="on this page">{links}</nav>'
    yield from (f'<section id="{key}">{text}</section>' for key, (_, text) in parts.items() if text)


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
        yield table(READ_HEADS, [_cells(polled_cells(one, ROOM)) for one in main], align)
        yield table(SENSOR_HEADS, [_sensor(one) for one in main], "lrlrlrrr")
    if aux:
        rows = [_cells(polled_cells(one, ROOM)) for one in aux]
        title = f"<summary>{len(aux)} auxiliary channels</summary>"
        yield f'<details class="more">{title}{table(READ_HEADS, rows, align)}</details>'
    said = [words for one in data["channels"] for words in read_words(one)]
    yield from _list(said[:FEW_REMARKS])
    if len(said) > FEW_REMARKS:
        rest = "".join(_list(said[FEW_REMARKS:]))
        yield f'<details class="more"><summary>{len(said) - FEW_REMARKS} more of how channels were read</summary>{rest}'
        yield "</details>"
    yield from (f'<p class="note">{escaped(words)}</p>' for words in LEGEND)


def _cells(cells: Sequence[str]) -> list[str]:
    return [name(cells[0]), *map(prose, cells[1:])]


def _sensor(one: Mapping[str, Any]) -> list[str]:
    """Return what a sensor does as cells, its times each in the unit that suits it."""
    cells = sensor_cells(one, ROOM)
    for i, key in ((1, "sensor_period_s"), (3, "averaging_window_s")):
        cells[i] = DASH if not one[key] else duration(one[key])
    return _cells(cells)


def _list(sentences: Sequence[str]) -> Iterator[str]:
    if sentences:
        yield f"<ul>{''.join(f'<li>{prose(one)}</li>' for one in sentences)}</ul>"


def _node(data: Mapping[str, Any]) -> Iterator[str]:
    summary = holistic_summary(data)
    meters = list(meter_lines(data["meta"]))
    if not summary and not meters:
        return
    yield "<h2>The whole node</h2>"
    yield from (f"<p>{prose(words)}</p>" for words in summary)
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
        f'<dt>{name(one["name"])}</dt><dd>{prose(sensor_meaning(one))}<br><span class="note">'
        f"{prose(sensor_words(one))}</span></dd>"
        for one in told
    ]
    yield f'<dl class="facts">{"".join(rows)}</dl>'


# ---- checks, notes, where it comes from ------------------------------------------------------------------------------


def _checks(data: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Checks</h2>"
    if data["checks"]:
        rows = [
            [
                f"<code>{escaped(one['code'])}</code>",
                f'<span class="level {escaped(one["level"])}">{escaped(one["level"])}</span>',
                prose(one["what"]),
                prose(one["fix"]),
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
            [f"<code>{escaped(code)}</code>", prose(words)] for code, _, words in (r.partition(" ") for r in reasons)
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
        words = "\n".join(prose(line) for line in explain({**data, "windows": [window]})).strip()
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
                    escaped(DASH if lane[key] is None else amount(lane[key], 4) if key == "rate_hz" else lane[key])
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
    return f"node {simulated_name(node)}, seed {node.get('seed')}: no measurement" if node else None


def _plainly(value: object) -> str:
    return plain(value, 400)
