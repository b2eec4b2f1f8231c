# SPDX-License-Identifier: Apache-2.0
"""The simulated node's exact energies."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.integrals import CounterDifference
from powersample.analysis.polls import Polls
from powersample.analysis.sweep import edges, sweep
from powersample.model import TRUTH_PREFIX, Channel, Trace, Window


class _Truth:
    """The pass over a truth: its records lie wherever the power changes, so a line between two of them is exact."""

    def __init__(self, channel: Channel, windows: Sequence[Window]) -> None:
        self._scale = channel.scale
        self._difference = CounterDifference(
            edges(windows), every_poll=True, period_ns=float("inf"), gap_ns=float("inf")
        )

    def add(self, piece: Polls) -> None:
        self._difference.add(piece.t_ns, piece.raw, piece.omitted)

    def lacks(self) -> NDArray[np.bool_]:
        return self._difference.lacks()

    def results(self) -> list[float | None]:
        lacks = self._difference.lacks()
        known = ~(lacks[0] | lacks[1])
        gained, _ = self._difference.close(0.0)
        return [float(one) * self._scale if there else None for one, there in zip(gained, known, strict=True)]


def truth_joules(trace: Trace, device: str, domain: str, window: Window) -> float | None:
    """Return the simulated node's exact energy over a window.

    None without a truth that covers it, and where the node voided it (`truth_void`).
    """
    return truths_joules(trace, device, domain, [window])[0]


def truths_joules(trace: Trace, device: str, domain: str, windows: Sequence[Window]) -> list[float | None]:
    """Return the same for many windows, in one pass."""
    if truth_void(trace.meta) or _is_elsewhere(trace, device, domain):
        return [None] * len(windows)
    for name, channel in trace.channels.items():
        if name.startswith(TRUTH_PREFIX) and channel.device == device and channel.domain == domain:
            return sweep(trace, name, windows, partial(_Truth, channel))
    return [None] * len(windows)


def _is_elsewhere(trace: Trace, device: str, domain: str) -> bool:
    """Whether a device is a real meter beside a simulated node: what it measures is not that node."""
    names = [one.name for one in trace.channels.values() if (one.device, one.domain) == (device, domain)]
    real = [one for one in trace.meta.get("meters") or () if not one.get("simulated")]
    return any(channel.get("name") in names for one in real for channel in one.get("channels") or ())


def truth_void(meta: Mapping[str, Any]) -> bool:
    """Whether the simulated node said that its truth cannot be trusted; `meta` is a trace's."""
    return bool((meta.get("simulated_node") or {}).get("truth_void"))
