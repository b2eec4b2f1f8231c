# SPDX-License-Identifier: Apache-2.0
"""What was found of a sensor, beside what the behaviour table says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from powersample.fit import FIGURES, Characterization, Figure, disagreements
from powersample.model import SensorModel
from powersample.report.table import DASH, number, table

SCALES = {"s": (1e3, "ms"), "W": (1.0, "W"), "1": (1.0, "")}
WORDS = {
    "period_s": "update period T", "phase_s": "phase", "jitter_s": "jitter (sd)", "repeats": "repeated updates",
    "quantum": "step of values", "call_median_s": "call, median", "call_p99_s": "call, p99",
    "window_s": "averaging window W", "tau_s": "lag tau", "delay_s": "delay", "rise_s": "rise 10-90 %",
    "gain": "gain", "offset_w": "offset",
}  # fmt: skip


def sensor_json(found: Characterization, known: SensorModel | None) -> dict[str, object]:
    """Return it as plain values; see the machine-readable output of `characterize`."""
    return {
        **found.as_json(),
        "table": None if known is None else known.as_json(),
        "agrees": None if known is None else not disagreements(found, known),
        "disagreements": [] if known is None else disagreements(found, known),
    }


def sensor_text(found: Characterization, known: SensorModel | None) -> str:
    """Return it for people."""
    return "\n".join(_lines(found, known))


def _lines(found: Characterization, known: SensorModel | None) -> Iterable[str]:
    simulated = "SIMULATED, no measurement: " if found.simulated else ""
    yield f"{simulated}{found.channel}: {found.updates} changes in {found.polls} polls"
    yield f"{found.origin}"
    rows = [_row(name, unit, found.figures[name], known) for name, unit in FIGURES]
    response = DASH if found.response is None else str(found.response)
    rows.append(["response", response, "", DASH if known is None else str(known.response)])
    yield from table(("figure", "value", "95 %", "table"), rows, "lrrr", indent=2)
    yield from _reasons(found.figures)
    if found.r is not None:
        yield f"  the values follow {found.reference} with r {found.r:.4f}"
        if not found.calibrated:
            yield f"  gain and offset are against {found.reference}, which may not see the whole board: not taken over"
        if not found.own_clock:
            yield "  the delay holds the difference of two clocks: not taken over"
    yield from _verdict(found, known)


def _row(name: str, unit: str, figure: Figure, known: SensorModel | None) -> list[str]:
    scale, shown = SCALES[unit]
    span = figure.span
    cells = number(None if figure.value is None else figure.value * scale), _between(span, scale)
    listed = getattr(known, name, None) if known is not None else None
    there = DASH if listed is None else number(listed * scale)
    return [f"{WORDS[name]}{', ' + shown if shown else ''}", *cells, there]


def _between(span: tuple[float, float] | None, scale: float) -> str:
    if span is None:
        return ""
    return "exact" if span[0] == span[1] else f"{number(span[0] * scale)} to {number(span[1] * scale)}"


def _reasons(figures: Mapping[str, Figure]) -> Iterable[str]:
    names: dict[str, list[str]] = {}
    for name, _ in FIGURES:
        if figures[name].reason:
            names.setdefault(figures[name].reason, []).append(WORDS[name])
    for reason, words in names.items():
        yield f"  {', '.join(words)}: {reason}"


def _verdict(found: Characterization, known: SensorModel | None) -> Iterable[str]:
    if known is None:
        yield "  the behaviour table does not speak of this sensor"
        return
    said = disagreements(found, known)
    for one in said:
        yield f"  DISAGREES with the table: {one}"
    if said:
        yield "  the table may be wrong for this board or driver; what is kept of the board goes before it (--store)"
    elif found.figures["period_s"].value is None:
        yield "  neither agrees nor disagrees with the table: nothing was told"
    else:
        told = "T" if found.figures["window_s"].value is None else "T, W and response"
        yield f"  agrees with the table in {told}" + ("" if known.known else ", whose figures are wide defaults")
