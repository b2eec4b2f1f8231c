# SPDX-License-Identifier: Apache-2.0
"""What a sensor's values average: window, lag, delay, gain and offset by least squares against a known load.

A value published at t is gain x (mean over [t - delay - W, t - delay] of the load behind a first-order lag) + offset.
Gain and offset follow from the rest by a straight line, so three figures are searched: from a coarse grid, since the
cost has many valleys under a periodic load, then by Gauss-Newton steps from the best of it. How well W is known is read
from the cost itself, all else fitted again at every W: near 0 and on flat ground there is no standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.fit.reference import Lagged, Reference

MS = 1e6
WINDOWS_NS = tuple(one * MS for one in (0, 5, 10, 20, 35, 60, 100, 160, 300, 600, 1000, 1400))
TAUS_NS = tuple(one * MS for one in (0, 6, 12, 25, 50, 100, 200))
DELAY_STEP_NS = 8 * MS
MOST_TAU_NS = 2e9
MOST_WINDOW_NS = 5e9
STARTS = 6
TWINS_NS = np.arange(2 * MS, 1500 * MS, 2 * MS)  # W at which another valley is looked for
TWINS = 3
ROUNDS = 40
PROFILE = np.geomspace(1.02, 3.0, 14)  # W at which the cost is looked at, by the best and each way
SIGNIFICANT = 3.84  # chi square, 1 degree, 95 %
PARAMETERS = 5
SEARCHED = 300  # updates that the coarse grid looks at

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """The best description of the values.

    Attributes:
        window_ns, tau_ns, delay_ns: of the sensor.
        gain, offset_w: of the line between load and values.
        cost: sum of squared residuals.
        r: correlation of values and description.
    """

    window_ns: float
    tau_ns: float
    delay_ns: float
    gain: float
    offset_w: float
    cost: float
    r: float


class ResponseFit:
    """Least squares of one channel's updates.

    Args:
        t_ns: float64, instants of updates, on the reference's clock from its first instant.
        value: float64, what was published then.
        reference: the load.
        delays_ns: the least and the most that a value may come late, clocks included.
    """

    def __init__(self, t_ns: Floats, value: Floats, reference: Reference, delays_ns: tuple[float, float]) -> None:
        self._reference, self._delays = reference, delays_ns
        self._t, self._value = t_ns, value
        self._lagged: dict[float, Lagged] = {}
        self._valleys: list[Fit] = []

    def best(self) -> Fit:
        """Return the best over everything."""
        return min(self.valleys(), key=lambda fit: fit.cost)

    def valleys(self) -> list[Fit]:
        """Return the bottom of every valley that was gone down; worked out once."""
        if not self._valleys:
            self._valleys = [self._descend(start, (True, True, True)) for start in self._starts()]
            self._valleys += [self._descend(start, (True, True, True)) for start in self._twins()]
        return self._valleys

    def _twins(self) -> list[tuple[float, float, float]]:
        """Return starts in other valleys that end where the best does: W and W + P under a load of period P."""
        best = min(self._valleys, key=lambda fit: fit.cost)
        cost = np.array([self._line(self._model((w, best.tau_ns, best.delay_ns)))[2] for w in TWINS_NS.tolist()])
        low = np.flatnonzero((cost[1:-1] < cost[:-2]) & (cost[1:-1] < cost[2:])) + 1
        deepest = low[np.argsort(cost[low])][:TWINS]
        return [(float(TWINS_NS[i]), best.tau_ns, best.delay_ns) for i in deepest]

    def window_range(self, best: Fit) -> tuple[float, float]:
        """Return the W, ns, between which the cost stays within what chance explains, other figures fitted again.

        Under a periodic load another valley may be as deep: then its W is in the range too.
        """
        limit = best.cost * (1 + SIGNIFICANT / self._freedom(best))
        rivals = [fit.window_ns for fit in self.valleys() if fit.cost <= limit]
        low, high = self._reach(best, limit, 1 / PROFILE), self._reach(best, limit, PROFILE)
        return min(low, *rivals), max(high, *rivals)

    def _reach(self, best: Fit, limit: float, factors: Floats) -> float:
        last, last_cost, at = best.window_ns, best.cost, (best.tau_ns, best.delay_ns)
        for factor in factors:
            window = best.window_ns * float(factor)
            found = self._descend((window, *at), (False, True, True))
            if found.cost > limit:
                share = (limit - last_cost) / (found.cost - last_cost)
                return float(last + np.sqrt(max(0.0, share)) * (window - last))
            last, last_cost, at = window, found.cost, (found.tau_ns, found.delay_ns)
        return 0.0 if factors[-1] < 1 else float("inf")

    def errors(self, best: Fit) -> dict[str, float]:
        """Return standard errors of tau, delay (ns), gain and offset (W) around the best."""
        slopes = self._slopes((best.window_ns, best.tau_ns, best.delay_ns))
        model = self._model((best.window_ns, best.tau_ns, best.delay_ns))
        jacobian = np.column_stack((*(best.gain * one for one in slopes), model, np.ones(len(model))))
        scale = np.abs(jacobian).max(axis=0) + 1e-300
        noise = best.cost / self._freedom(best)
        spread = np.linalg.pinv((jacobian / scale).T @ (jacobian / scale)) * noise
        names = ("window_ns", "tau_ns", "delay_ns", "gain", "offset_w")
        found = np.sqrt(np.maximum(np.diag(spread), 0.0)) / scale
        return {name: float(se) for name, se in zip(names, found, strict=True)}

    def _freedom(self, best: Fit) -> float:
        """Return how many independent residuals there are: where neighbours err alike, fewer than values."""
        left = self._value - best.offset_w - best.gain * self._model((best.window_ns, best.tau_ns, best.delay_ns))
        alike = float(left[1:] @ left[:-1]) / (float(left @ left) + 1e-300)
        alike = min(0.95, max(0.0, alike))
        return max(1.0, len(left) * (1 - alike) / (1 + alike) - PARAMETERS)

    # ---- the search ---------------------------------------------------------------------------------------------

    def _starts(self, windows: tuple[float, ...] = WINDOWS_NS) -> list[tuple[float, float, float]]:
        some = slice(None, None, max(1, len(self._t) // SEARCHED))
        delays = np.arange(self._delays[0], self._delays[1], DELAY_STEP_NS)
        told: dict[tuple[float, float], tuple[float, float]] = {}
        for window in windows:
            for tau in TAUS_NS:
                costs = [self._line(self._model((window, tau, delay), some), some)[2] for delay in delays]
                told[window, tau] = min(zip(costs, delays.tolist(), strict=True))
        chosen = sorted(told, key=lambda one: told[one][0])[:STARTS]
        return [(window, tau, told[window, tau][1]) for window, tau in chosen]

    def _descend(self, start: tuple[float, float, float], free: tuple[bool, bool, bool]) -> Fit:
        """Go down from a start by damped Gauss-Newton steps over the free ones of W, tau and delay."""
        at, damp = np.array(start), 1e-3
        moving = np.flatnonzero(free)
        model = self._model(at)
        gain, offset, cost = self._line(model)
        for _ in range(ROUNDS):
            left = self._value - gain * model - offset
            every = self._slopes(at)
            slopes = np.column_stack([gain * every[i] for i in moving])
            basis = np.column_stack((model, np.ones(len(model))))
            slopes = slopes - basis @ np.linalg.lstsq(basis, slopes, rcond=None)[0]  # the line adapts to every step
            normal, push = slopes.T @ slopes, slopes.T @ left
            better = False
            while damp < 1e8:
                bent = normal + damp * np.diag(np.diag(normal) + 1e-30)
                step = np.linalg.lstsq(bent, push, rcond=None)[0]
                tried = at.copy()
                tried[moving] += step
                tried = self._inside(tried)
                model_tried = self._model(tried)
                line = self._line(model_tried)
                if line[2] < cost:
                    better = line[2] < cost * (1 - 1e-7)
                    at, model, (gain, offset, cost), damp = tried, model_tried, line, max(damp / 5, 1e-9)
                    break
                damp *= 4
            if not better:
                break
        spread = float(np.std(model) * np.std(self._value))
        r = float(np.mean((model - model.mean()) * (self._value - self._value.mean())) / spread) if spread else 0.0
        return Fit(float(at[0]), float(at[1]), float(at[2]), gain, offset, cost, r)

    def _inside(self, at: Floats) -> Floats:
        low, high = self._delays
        return np.clip(at, [0.0, 0.0, low], [MOST_WINDOW_NS, MOST_TAU_NS, high])

    def _model(self, at: tuple[float, float, float] | Floats, some: slice = slice(None)) -> Floats:
        window, tau, delay = (float(one) for one in at)
        if tau not in self._lagged:
            if len(self._lagged) > 64:
                self._lagged.clear()
            self._lagged[tau] = self._reference.lagged(tau)
        return self._lagged[tau].mean_w(self._t[some] - delay, window)

    def _slopes(self, at: tuple[float, float, float] | Floats) -> list[Floats]:
        """Return the model's derivatives by W, tau and delay."""
        found = []
        for i in range(3):
            up, down = np.array(at, np.float64), np.array(at, np.float64)
            step = 0.2 * MS
            up[i] += step
            down[i] = down[i] - step if i == 2 else max(0.0, down[i] - step)
            found.append((self._model(up) - self._model(down)) / (up[i] - down[i]))
        return found

    def _line(self, model: Floats, some: slice = slice(None)) -> tuple[float, float, float]:
        """Return gain, offset and cost of the best straight line from model to values."""
        value = self._value[some]
        x, y = model - model.mean(), value - value.mean()
        square = float(x @ x)
        if square <= 0:
            return 0.0, float(value.mean()), float(y @ y)
        gain = float(x @ y) / square
        if gain <= 0:  # a sensor that falls when the load rises is none: the wrong side of a wave
            return 0.0, float(value.mean()), float(y @ y)
        left = y - gain * x
        return gain, float(value.mean() - gain * model.mean()), float(left @ left)
