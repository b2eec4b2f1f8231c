# SPDX-License-Identifier: Apache-2.0
"""`record --sync`: bursts around the program, and each meter's clock by what it showed of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample.loads import EdgeLog, Pattern, parse
from powersample.model import ClockFit, MeterInfo
from powersample.session.bursts import Load, check_pattern, cpu_load, gpu_load, node_load

if TYPE_CHECKING:
    from powersample.model import Trace
    from powersample.sim import Node

AROUND_NS = 20_000_000_000  # of a burst, in which its values are looked for
SLOW_S = 60.0  # a burst for meters of a second and more, unless told
QUICK_S = 30.0
SLOW_CYCLE_S = 0.5


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What was asked for.

    Attributes:
        duration_s: of each burst; None: 30 s, or 60 s where a meter's cycles are longer than half a second.
        pattern: as `loads.parse` takes it.
        load: "cpu" or "gpu".
    """

    duration_s: float | None = None
    pattern: str = "random"
    load: str = "cpu"


def check(plan: SyncPlan, meters: int) -> None:
    """Refuse what could not work, before anything is recorded.

    Raises:
        InvalidArgument: There is no meter; a pattern by which no lag can be told.
    """
    if not meters:
        raise errors.InvalidArgument("nothing to synchronise: name a meter", "Add --meter ADDRESS.")
    check_pattern(parse(plan.pattern, plan.duration_s or QUICK_S))


class Syncing:
    """The bursts of one recording.

    Args:
        plan: What was asked for.
        infos: The meters that are there.
        node: The simulated node, or None; its own GPUs work then.

    Attributes:
        duration_s: of each burst.
        logs: of the bursts that were made.
        trouble: why others were not.
        notes: what has to be told of how those ran.
    """

    def __init__(self, plan: SyncPlan, infos: tuple[MeterInfo, ...], node: Node | None) -> None:
        self._plan, self._node, self._any = plan, node, bool(infos)
        self._cycle_s = max((info.cycle_s for info in infos if np.isfinite(info.cycle_s)), default=0.0)
        self.duration_s = plan.duration_s or (SLOW_S if self._cycle_s > SLOW_CYCLE_S else QUICK_S)
        self.logs: list[EdgeLog] = []
        self.trouble: list[str] = []
        self.notes: list[str] = []

    def _pattern(self) -> Pattern:
        return parse(self._plan.pattern, self.duration_s, seed=len(self.logs), cycle_s=self._cycle_s)

    def burst(self, rest_s: float, stop: Callable[[], bool]) -> None:
        """Work by the pattern, rest after it; what fails is told and costs the recording nothing."""
        if not self._any:
            return
        load: Load = gpu_load if self._plan.load == "gpu" else cpu_load
        if self._node is not None:
            load = node_load(self._node)
        try:
            edges = load(self._pattern(), stop)
        except Exception as error:  # torch's and cupy's own too: out of memory, a lost context
            logging.getLogger(__name__).debug("a burst", exc_info=True)
            self.trouble.append(f"a burst to synchronise by came to nothing: {error or type(error).__name__}")
            return
        self.logs.append(edges)
        # The fit goes by when bursts really began and ended: how they ran explains a refusal, and harms no other fit.
        self.notes += [f"burst {len(self.logs)} to synchronise by: {text}" for text in edges.trouble]
        deadline = time.monotonic() + rest_s
        while not stop() and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(0.1, left_s))


def clock_fits(trace: Trace, infos: tuple[MeterInfo, ...], logs: list[EdgeLog]) -> dict[str, ClockFit]:
    """Return the fit of every meter's clock, by channel.

    Args:
        trace: What was recorded.
        infos: The meters.
        logs: The bursts that were made.
    """
    from powersample.fit import Cycles, Reference, synchronise

    references = [Reference.of_edges(log) for log in logs if len(log)]
    found: dict[str, ClockFit] = {}
    for info in infos:
        name = info.channels[0].name
        if trace.extent(name) is None or not references:
            continue
        spans = _apart([(int(one.t_ns[0]) - AROUND_NS, int(one.t_ns[-1]) + AROUND_NS) for one in references])
        parts = [Cycles.of_series(trace.series(name, *span)) for span in spans]
        cycles = Cycles(
            np.concatenate([part.stamp_ns for part in parts]),
            np.concatenate([part.span_ns for part in parts]),
            np.concatenate([part.value for part in parts]),
            name,
        )
        fit = synchronise(cycles, references).fit
        found |= {channel.name: replace(fit, channel=channel.name) for channel in info.channels}
    return found


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in order, with those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def told_by_bursts(
    trace: Trace, infos: tuple[MeterInfo, ...], syncing: Syncing, ends_ns: Mapping[str, NDArray[np.int64]]
) -> dict[str, Any]:
    """Return what a recording's metadata say of its meters' clocks: `clock_fits` by channel, and `sync`.

    Args:
        trace: What was recorded.
        infos: The meters.
        syncing: The bursts.
        ends_ns: By meter, when a simulated one's cycles really ended.
    """
    fits = clock_fits(trace, infos, syncing.logs)
    truth = {}
    for info in infos:
        fit = fits.get(info.channels[0].name)
        if fit is not None and fit.accepted and len(ends := ends_ns.get(info.name, np.empty(0, np.int64))):
            truth[fit.channel] = against(fit, trace.series(fit.channel).t1_ns, ends)
    bursts = [
        {"name": log.name, "start_ns": int(log.rise_ns.min()), "end_ns": int(log.fall_ns.max()), "edges": 2 * len(log)}
        for log in syncing.logs
        if len(log)
    ]
    return {
        "clock_fits": {name: fit.as_json() for name, fit in fits.items()},
        "sync": {"bursts": bursts, "truth": truth},
    }


def against(fit: ClockFit, stamp_ns: NDArray[np.int64], ends_ns: NDArray[np.int64]) -> dict[str, float]:
    """Return errors of an accepted fit against when cycles really ended: to each stamp the last before it."""
    at = np.searchsorted(ends_ns, stamp_ns, "right") - 1
    known = at >= 0
    errors_s = (fit.to_host_ns(stamp_ns[known]) - ends_ns[at[known]]).astype(np.float64) * 1e-9
    if not len(errors_s):
        return {}
    return {
        "median_error_s": float(np.median(np.abs(errors_s))),
        "p95_error_s": float(np.quantile(np.abs(errors_s), 0.95)),
        "bias_s": float(np.median(errors_s)),
    }
