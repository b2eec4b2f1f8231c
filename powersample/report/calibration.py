# SPDX-License-Identifier: Apache-2.0
"""A calibration for people: its points, what the counters missed, and the models with what they are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

import numpy as np

from powersample.fit.node_model import left_out_w
from powersample.model import Calibration, LinearModel, OperatingPoint, amount
from powersample.report.table import DASH, cut, number, table

MOST_ROWS, SHOWN_ROWS = 40, 12  # of points; of more than that many, these that are farthest off
NAME_ROOM = 36
WIDTH = 110
SYMBOLS = {"sum^2": "sum²"}


@dataclass(frozen=True, slots=True)
class PointOff:
    """A point beside the model that is to be used.

    Attributes:
        point: it.
        model_w: the model's wall power; None without a model, or where a component is missing.
        left_out_w: the wall power of the same model fitted to all other points; None likewise, or when it was not used.
    """

    point: OperatingPoint
    model_w: float | None
    left_out_w: float | None

    @property
    def left_out_pct(self) -> float | None:
        """By how much that is too high, percent."""
        return None if self.left_out_w is None else 100 * (self.left_out_w / self.point.wall_w - 1)


def points_off(calibration: Calibration) -> list[PointOff]:
    """Return every point beside the model that is to be used."""
    model = calibration.model
    if model is None:
        return [PointOff(one, None, None) for one in calibration.points]
    used = [one for one in calibration.points if one.used]
    errors_w = left_out_w(model.kind, used, model.groups)
    left = iter([] if errors_w is None else errors_w.tolist())
    found = []
    for one in calibration.points:
        there = all(group in one.components_w for group in model.groups)
        model_w = float(model.predict(one.components_w)[0]) if there else None
        off_w = next(left, None) if one.used else None
        found.append(PointOff(one, model_w, None if off_w is None else one.wall_w + off_w))
    return found


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    """Return it as plain values; see the machine-readable output of `calibrate`."""
    model = calibration.model
    points = [
        one.point.as_json()
        | {"uncaptured_w": one.point.uncaptured_w, "model_w": one.model_w, "left_out_w": one.left_out_w}
        for one in points_off(calibration)
    ]
    return {
        "schema_version": 1,
        **calibration.as_json(),
        "p_busy_w": {load: watts for load, (watts, _) in calibration.p_busy_w.items()},
        "p_busy_u_w": {load: u_w or None for load, (_, u_w) in calibration.p_busy_w.items()},
        "model": None if model is None else model.as_json(),
        "points": points,
    }


def calibration_text(calibration: Calibration, origin: str = "") -> str:
    """Return it as text.

    Args:
        calibration: it.
        origin: where its points are from, such as a file.
    """
    return "\n".join(_lines(calibration, origin))


def title(calibration: Calibration, origin: str = "") -> str:
    """Return one line that says of what this is, and by what."""
    of = calibration.simulated or (calibration.host or {}).get("name") or origin or "a node"
    by = f", by {calibration.meter}" if calibration.meter else ""
    when = ""
    if calibration.made_ns is not None:
        when = f", {datetime.fromtimestamp(calibration.made_ns / 1e9, UTC):%Y-%m-%d %H:%M} UTC"
    return f"calibration of {of}{by}{when}"


def equation(model: LinearModel) -> str:
    """Return "wall = 640.2 W + 1.21 sum"."""
    parts: list[str] = []
    for term, value in zip(model.terms, model.coefficients, strict=True):
        if value == 0:
            continue
        size = amount(abs(value), 4)
        text = f"{size} W" if term == "1" else f"{size} {SYMBOLS.get(term, term)}"
        sign = ("- " if value < 0 else "+ ") if parts else ("-" if value < 0 else "")
        parts.append(sign + text)
    return "wall = " + (" ".join(parts) or "0 W")


def _lines(calibration: Calibration, origin: str) -> Iterator[str]:
    if calibration.simulated is not None:
        yield f"SIMULATED NODE {calibration.simulated}, not a measurement"
    yield title(calibration, origin)
    yield ""
    for part in (_points, _bounds, _models) if calibration.accepted else (_points,):
        if lines := list(part(calibration)):
            yield from (*lines, "")
    yield "accepted" if calibration.accepted else "refused: nothing may be computed with it"
    for reason in calibration.reasons:
        yield from wrap(reason, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _points(calibration: Calibration) -> Iterator[str]:
    rows = points_off(calibration)
    count = len(rows)
    if not count:
        return
    if count > MOST_ROWS:
        rows = _farthest(rows)
        yield f"{count} points; these {len(rows)} are " + (
            "the farthest off" if calibration.model is not None else "spread over all of them"
        )
    groups = calibration.groups
    parts = [*(f"{group} W" for group in groups), "wall W", "uncaptured W"]
    header = ("point", *parts, "model off W", "left out %", "")
    cells = [
        (
            cut(one.point.name, NAME_ROOM),
            *(number(one.point.components_w.get(group)) for group in groups),
            number(one.point.wall_w),
            number(one.point.uncaptured_w),
            DASH if one.model_w is None else f"{one.model_w - one.point.wall_w:+.2f}",
            DASH if one.left_out_pct is None else f"{one.left_out_pct:+.2f}",
            ", ".join((*one.point.marks, *(() if one.point.used else ("not used",)))),
        )
        for one in rows
    ]
    yield from table(header, cells, "l" + "r" * (len(header) - 2) + "l", indent=2)


def _farthest(rows: Sequence[PointOff]) -> list[PointOff]:
    off = np.array([abs(one.left_out_pct or 0.0) for one in rows])
    if not off.any():
        return [rows[at] for at in np.linspace(0, len(rows) - 1, SHOWN_ROWS).astype(int)]
    return [rows[at] for at in sorted(np.argsort(-off)[:SHOWN_ROWS])]


def _bounds(calibration: Calibration) -> Iterator[str]:
    if calibration.p_idle_w is None and not calibration.p_busy_w:
        return
    loads: Mapping[str, tuple[float, float | None]] = dict(calibration.p_busy_w)
    if calibration.p_idle_w is not None:
        loads = {"idle": (calibration.p_idle_w, calibration.p_idle_u_w), **loads}
    else:
        yield "no idle point: there is no lower bound; say which load is idle (--idle NAME)"
    yield "power that no counter sees"
    cells = [
        (cut(load, NAME_ROOM), f"{watts:.1f}", f"+- {amount(u_w, 2)}" if u_w else "")  # 0: nobody has told
        for load, (watts, u_w) in loads.items()
    ]
    yield from table(("", "W", "sd"), cells[:MOST_ROWS], "lrl", indent=2)
    if len(cells) > MOST_ROWS:
        yield f"  and {len(cells) - MOST_ROWS} more"


def _models(calibration: Calibration) -> Iterator[str]:
    models = [one for one in (calibration.affine, calibration.node) if one is not None]
    if not models:
        if calibration.points:
            yield "no model: too few points, or points that do not tell its terms apart; the bounds stand alone"
        return
    yield "models, and their error at a point that they were not fitted to"
    cells = [
        (
            one.kind + (" *" if one.kind == calibration.best else ""),
            equation(one),
            f"{one.leave_one_out_max_pct:.2f} %",
            f"{one.leave_one_out_p95_pct:.2f} %",
            f"{one.misfit_w:.2f} W",
        )
        for one in models
    ]
    yield from table(("", "", "greatest", "95 %", "sd"), cells, "llrrr", indent=2)
    spans = (f"{name} {number(low)} to {number(high)}" for name, (low, high) in calibration.hull_w.items())
    yield from wrap(f"* is used. It holds for {', '.join(spans)} W; beyond, intervals grow and say so.", WIDTH)
