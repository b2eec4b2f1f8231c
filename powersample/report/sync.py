# SPDX-License-Identifier: Apache-2.0
"""A clock fit for people: as text, and as a picture of what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from powersample.fit import Aligned, Lag, Synced
from powersample.model import amount, duration
from powersample.report.clock_fits import side
from powersample.report.figure import save_figure, sheet

if TYPE_CHECKING:
    from powersample.fit import Reference
    from powersample.model import ClockFit

SIMULATED = "SIMULATED NODE, not a measurement"
SHOWN_CYCLES = 60  # in the picture: more are dots
MOST_SHOWN_S = 400.0


def sync_json(synced: Synced | Aligned, *, simulated: bool) -> dict[str, Any]:
    """Return a fit as plain values: a `ClockFit`'s, and of two records the zone and what remains."""
    told = synced.synced if isinstance(synced, Aligned) else synced
    data = {"schema_version": 1, "simulated": simulated, **told.fit.verdict_json()}
    data["knots"] = told.fit.as_json()["knots"]
    if isinstance(synced, Aligned):
        kept = ("zone_s", "rest_s", "delay_s", "r_before", "r_after")
        data |= {name: getattr(synced, name) for name in kept}
    return data


def sync_text(
    synced: Synced | Aligned,
    *,
    simulated: bool,
    names: tuple[str, str] = ("", ""),
    against: Mapping[str, float] | None = None,
) -> str:
    """Return a fit as text.

    Args:
        synced: it.
        simulated: no measurement.
        names: of the files, of the meter's record and the reference's.
        against: errors against a simulated meter's own cycles, s: median_error_s, p95_error_s.
    """
    fit = synced.fit
    lines = [SIMULATED] if simulated else []
    lines.append(_title(fit, names))
    rows: list[tuple[str, str]] = []
    if isinstance(synced, Aligned) and synced.zone_s:
        rows.append(("time zone", f"{amount(synced.zone_s / 3600, 4, signed=True)} h, taken out"))
    rows += _lag_rows(fit, synced.rest_s if isinstance(synced, Aligned) else fit.lag_s)
    if isinstance(synced, Aligned) and synced.delay_s and fit.accepted:
        rows.append(("of that", f"{duration(synced.delay_s)} is what the table says that its sensor takes"))
    if fit.tau_s is not None:
        error = f"+- {duration(fit.tau_se_s or 0.0, 2)}"
        how = error if fit.tau_fitted else "taken and not fitted: what is unsure of it is in the lag's error"
        rows.append(("supply lag", f"{duration(fit.tau_s)}, {how}"))
    if fit.r2 is not None and fit.gain is not None:
        rows.append(("explained", f"{_share(fit.r2)} of the variance, gain {amount(fit.gain, 4)}"))
    if isinstance(synced, Aligned) and synced.r_after is not None:
        before = "unknown" if synced.r_before is None else f"{synced.r_before:.4f}"
        rows.append(("correlation", f"{synced.r_after:.4f}; as stamped {before}"))
    if fit.second_best_ratio is not None:
        rows.append(("next best lag", f"{amount(fit.second_best_ratio)} times the squares"))
    if fit.jitter_s:
        rows.append(("jitter", f"{_short(fit.jitter_s * 1e3)} ms of a single stamp"))
    if against is not None:
        median, p95 = (_short(against[name] * 1e3) for name in ("median_error_s", "p95_error_s"))
        rows.append(("truth", f"off by {median} ms (median of all cycles), {p95} ms (95 %)"))
    lines += [f"  {name:<14} {text}" for name, text in rows]
    lines.append("  accepted" if fit.accepted else "  refused: the stamps stay as they are")
    lines += [f"  {reason}" for reason in fit.reasons]
    return "\n".join(lines)


def _title(fit: ClockFit, names: tuple[str, str]) -> str:
    channel, reference = _named(fit, names)
    return f"{channel}, on the clock of {reference}"


def _named(fit: ClockFit, names: tuple[str, str]) -> tuple[str, str]:
    """Return the meter's channel and the reference with their files' names, where there are any."""
    channel, reference = (
        f"{one} of {name}" if name else one for one, name in zip((fit.channel, fit.reference), names, strict=True)
    )
    return channel, reference


def _share(share: float) -> str:
    """Return a share without rounding what is left to nothing."""
    return f"{share:.2%}" if share < 0.9999 else f"all but {amount(1 - share, 1)}"


def _like(value: float, error: float) -> str:
    """Return a value to the digits that its error, to two, makes worth telling."""
    places = 0 if error >= 10 else 1 if error >= 1 else 2 if error >= 0.1 else 3
    return f"{value:.{places}f}"


def _short(value: float) -> str:
    """Return two digits, without an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{amount(value, 2)}"


def _lag_rows(fit: ClockFit, lag_s: float | None) -> list[tuple[str, str]]:
    if lag_s is None or fit.lag_se_s is None:
        return [("lag", "unknown")]
    error_ms = fit.lag_se_s * 1e3
    rows = [("lag", f"{_like(lag_s * 1e3, error_ms)} ms +- {_short(error_ms)} ms (standard error)")]
    what = f"its stamps are {side(lag_s)} the reference's" if fit.own_clock else "from a cycle's end to its stamp"
    rows.append(("that is", what))
    if fit.skew_ppm is not None and fit.skew_se_ppm is not None:
        rows.append(
            ("skew", f"{amount(fit.skew_ppm)} ppm +- {amount(fit.skew_se_ppm, 2)} ppm, from {len(fit.knots)} places")
        )
    elif fit.own_clock:
        rows.append(("skew", "unknown: one place; up to 100 ppm is in the error elsewhere"))
    return rows


def plot(synced: Synced | Aligned, path: Path, *, simulated: bool, names: tuple[str, str] = ("", "")) -> None:
    """Draw a fit: both records as stamped and as aligned, the residuals, and the squares over the lag.

    Raises:
        NotSupported: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    told = synced.synced if isinstance(synced, Aligned) else synced
    zone_ns = synced.zone_s * 1e9 if isinstance(synced, Aligned) else 0.0
    figure = sheet(11, 8.5)
    axes = figure.subplots(4, 1, gridspec_kw={"height_ratios": [3, 3, 1.6, 2.4]})
    lag = next((one for one in told.bursts if isinstance(one, Lag)), None)
    at_ns, error_ms = (lag.lag_ns, lag.whole_se_ns / 1e6) if lag is not None else (zone_ns, 1.0)
    reference = told.references[0]
    begin, end = _span(reference, told.cycles.cycle_ns * 1e-9)
    whole = (0.0, float(reference.t_ns[-1] - reference.t_ns[0]) * 1e-9)
    zone = amount(zone_ns / 3.6e12, signed=True)
    for axis, shift, title in (
        (axes[0], zone_ns, "as stamped" + (f", {zone} h of time zone taken out" if zone_ns else "")),
        (axes[1], at_ns, f"as aligned: {_like((at_ns - zone_ns) / 1e6, error_ms)} ms of lag taken out"),
    ):
        _records(axis, told, reference, shift, (begin, end), lag, _named(told.fit, names))
        axis.set_title(title, loc="left", fontsize=10)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=8, frameon=False)
    if lag is not None:
        t = (lag.stamp_ns - lag.lag_ns - reference.t_ns[0]) * 1e-9
        axes[2].plot(t, lag.residual_w, ".", ms=2.5, color="0.35")
        axes[2].axhline(0, lw=0.8, color="tab:red")
        axes[2].set_xlim(whole)
        _curve(axes[3], lag, zone_ns)
    axes[2].set_ylabel("left over, W")
    axes[2].set_xlabel("s on the reference's clock, all of it")
    verdict = "accepted" if told.fit.accepted else "refused: " + "; ".join(told.fit.reasons)
    head = f"{_title(told.fit, names)}\n{verdict}"
    figure.suptitle(f"{SIMULATED}\n{head}" if simulated else head, fontsize=11)
    save_figure(figure, path)


def _span(reference: Reference, cycle_s: float) -> tuple[float, float]:
    """Return what of a reference is shown, s from its first instant: some cycles from where it first moves."""
    moving = np.flatnonzero(np.abs(np.diff(reference.power_w)) > 0.3 * np.ptp(reference.power_w))
    t_s = (reference.t_ns - reference.t_ns[0]) * 1e-9
    first = float(t_s[moving[0] + 1]) if len(moving) else 0.0
    shown = min(SHOWN_CYCLES * cycle_s, MOST_SHOWN_S, float(t_s[-1]))
    begin = max(0.0, first - shown / 5)
    return begin, begin + shown


def _records(
    axis: Any,
    told: Synced,
    reference: Reference,
    shift: float,
    span: tuple[float, float],
    lag: Lag | None,
    named: tuple[str, str],
) -> None:
    """Draw a meter's cycles, moved, over the reference in the meter's watts."""
    gain, offset = (lag.gain, lag.offset_w) if lag is not None and lag.gain > 0 else _levels(told, reference)
    t = (reference.t_ns - reference.t_ns[0]) * 1e-9
    seen = slice(max(0, int(np.searchsorted(t, span[0])) - 1), int(np.searchsorted(t, span[1])) + 1)
    power = np.append(reference.power_w, reference.power_w[-1])[seen] * gain + offset
    axis.step(t[seen], power, where="post", lw=0.8, color="0.6", label=f"{named[1]}, scaled to the other")
    cycles = told.cycles
    end = (cycles.stamp_ns - reference.t_ns[0] - shift) * 1e-9
    begin = end - cycles.span_ns * 1e-9
    shown = (end > span[0]) & (begin < span[1])
    axis.hlines(cycles.value[shown], begin[shown], end[shown], lw=2.4, color="tab:blue", label=named[0])
    axis.set_xlim(span)
    axis.set_ylabel("W")


def _levels(told: Synced, reference: Reference) -> tuple[float, float]:
    low, high = np.quantile(told.cycles.value, [0.05, 0.95])
    least, most = float(reference.power_w.min()), float(reference.power_w.max())
    gain = (high - low) / (most - least) if most > least else 1.0
    return float(gain), float(low - gain * least)


def _curve(axis: Any, lag: Lag, zone_ns: float) -> None:
    """Draw the unexplained share over the lag, with the one that was taken."""
    known = np.isfinite(lag.curve)
    axis.semilogy((lag.curve_ns[known] - zone_ns) * 1e-9, lag.curve[known], lw=1, color="tab:blue")
    at = (lag.lag_ns - zone_ns) * 1e-9
    axis.axvline(at, color="tab:red", lw=1)
    axis.axhline(max(1 - lag.r2, 1e-9), color="tab:red", lw=0.8, ls=":")
    error_ms = lag.whole_se_ns / 1e6
    note = f"{_like(at * 1e3, error_ms)} ms +- {_short(error_ms)} ms"
    axis.annotate(note, (at, 1 - lag.r2), xytext=(8, 8), textcoords="offset points", fontsize=9, color="tab:red")
    axis.set_xlabel("lag, s")
    axis.set_ylabel("unexplained share")
