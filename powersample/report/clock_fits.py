# SPDX-License-Identifier: Apache-2.0
"""What a recording's report says of its meters' clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from powersample.model import amount

RESIDUALS = ("residual_ns", "residual_w")  # a plot's, and too long for a report


def clock_fits(meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the clock fits that a trace's metadata hold, by channel, without residuals.

    `truth` beside them: errors against a simulated meter's own cycles; None with a real one.
    """
    stored = meta.get("clock_fits") or {}
    truth = (meta.get("sync") or {}).get("truth") or {}
    return {
        name: {key: value for key, value in fit.items() if key not in RESIDUALS} | {"truth": truth.get(name) or None}
        for name, fit in stored.items()
    }


def without_residuals(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata for a report: the fits without what only a plot needs."""
    if not meta.get("clock_fits"):
        return dict(meta)
    return {**meta, "clock_fits": {name: {**fit, "truth": None} for name, fit in clock_fits(meta).items()}}


def clock_fit_line(fit: Mapping[str, Any]) -> str:
    """Return a fit as a line for people."""
    name = fit["channel"]
    if not fit["accepted"] or fit["lag_s"] is None:
        return f"{name} was not synchronised: {'; '.join(fit['reasons']) or 'no reason was stored'}"
    error = f"+- {_ms(fit['lag_se_s'])} (standard error)"
    if fit["own_clock"]:
        where = f"{_long(abs(fit['lag_s']))} {side(fit['lag_s'])} {fit['reference']}"
        words = f"{name} is read by its clock's fit: {where}, {error}"
    else:
        words = f"{name} comes {_ms(fit['lag_s'])} after its cycles' ends, {error}"
    if fit["skew_ppm"] is not None:
        words += f"; that grows by {amount(fit['skew_ppm'], 2)} +- {amount(fit['skew_se_ppm'], 2)} ppm"
    if fit["truth"]:
        words += f"; off by {_ms(fit['truth']['median_error_s'])} against the simulated meter's own cycles (median)"
    return words


def side(lag_s: float) -> str:
    """Return on which side of the reference's clock stamps lie that are late by a lag."""
    return "behind" if lag_s < 0 else "ahead of"


def clock_fit_checks(fits: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what is wrong with a recording's clock fits, as checks."""
    for fit in fits.values():
        for reason in fit["reasons"]:
            code, _, what = str(reason).partition(" ")
            fix = "Its stamps stay as they are." if not fit["accepted"] else "Another burst passed."
            yield {"code": code, "level": "warning", "what": f"{fit['channel']}: {what}", "fix": fix}


def _long(seconds: float) -> str:
    """Return a lag of any length: a time zone's in hours and what is left of it."""
    hours = round(seconds / 900) / 4
    if not hours:
        return _ms(seconds)
    rest_s = seconds - hours * 3600
    return f"{hours:g} h {'less' if rest_s < 0 else 'and'} {_ms(abs(rest_s))}"


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f} ms" if abs(value) >= 100 else f"{amount(value, 2)} ms"
