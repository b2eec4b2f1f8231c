# SPDX-License-Identifier: Apache-2.0
"""A recorded power as the load of a simulated node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample import errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from powersample.model import Trace

ORDER = ("instant", "usage", "average", "driver")  # of a device's power channels, by their names' last word


@dataclass(frozen=True, slots=True)
class Replay:
    """One device's recorded power, as steps.

    Attributes:
        source: The channel and its file, for who reads the result.
        t_ns: int64, shape (n,), ns from the first; ascending.
        watts: float64, shape (n,), W from each instant on.
        simulated: Whether the recording was of a simulated node itself.
    """

    source: str
    t_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    simulated: bool

    def __str__(self) -> str:
        return self.source + (", itself simulated" if self.simulated else "")


def read_replays(path: Path) -> tuple[Replay, ...]:
    """Return the power of each GPU of a recording.

    Of a device's channels the quickest power, else the differences of its energy counter: between two of its changes
    the power was their quotient. A recorded power is a sensor's, not the board's: replayed, it is the truth.

    Args:
        path: One of our Parquet traces, or a CSV `seconds,watts` (one device).

    Raises:
        InputNotFound: There is no such file.
        BadFormat: It holds no power of a GPU.
    """
    import numpy as np

    if path.suffix.lower() == ".csv":
        from powersample.sim.scenario import nanoseconds, read_script

        script = read_script(path)
        t_ns = np.array([nanoseconds(seconds, "time") for seconds, _ in script], np.int64)
        return (Replay(path.name, t_ns - t_ns[0], np.array([watts for _, watts in script]), simulated=False),)

    from powersample import store

    trace = store.load(path)
    found = [steps for name in _channels(trace) if (steps := _steps(trace, name)) is not None]
    if not found:
        raise errors.BadFormat(f"{path} holds no GPU power to use as a load")
    return tuple(
        Replay(f"{name} of {path.name}", t_ns - t_ns[0], watts, simulated=trace.simulated)
        for name, t_ns, watts in found
    )


def _channels(trace: Trace) -> list[str]:
    """Return the best channel with readings of each GPU, in the order of their names."""
    from powersample.model import TRUTH_PREFIX, Kind

    best: dict[str, tuple[int, str]] = {}
    for name, channel in trace.channels.items():
        word = name.rpartition(".")[2]
        is_counter = channel.kind is Kind.ENERGY
        if channel.domain != "gpu" or name.startswith(TRUTH_PREFIX) or not (is_counter or word in ORDER):
            continue
        if trace.extent(name) is None:
            continue
        rank = (len(ORDER) if is_counter else ORDER.index(word), name)
        best[channel.device] = min(best.get(channel.device, rank), rank)
    return sorted(name for _, name in best.values())


def _steps(trace: Trace, name: str) -> tuple[str, Any, Any] | None:
    """Return (name, instants, watts) of a channel at the changes of its value; None where it never told one."""
    import numpy as np

    from powersample.model import Kind

    channel = trace.channel(name)
    times, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for chunk in trace.chunks(name):
        good = chunk.good
        t_ns, raw = chunk.t_ns[good], chunk.raw[good]
        before = np.concatenate((values[-1][-1:], raw))
        keep = np.diff(before) != 0 if len(before) > len(raw) else np.r_[True, np.diff(raw) != 0][: len(raw)]
        if keep.any():
            times.append(t_ns[keep])
            values.append(raw[keep])
    t_ns, raw = np.concatenate(times), np.concatenate(values)
    forward = np.r_[True, np.diff(t_ns) > 0][: len(t_ns)]
    t_ns, raw = t_ns[forward], raw[forward]
    if channel.kind is not Kind.ENERGY:
        return (name, t_ns, np.maximum(raw * channel.scale, 0.0)) if len(t_ns) else None
    if len(t_ns) < 2:
        return None
    gained = np.diff(raw)
    if channel.modulus:
        gained = gained % channel.modulus
    watts = gained * channel.scale / (np.diff(t_ns) * 1e-9)
    went_on = gained >= 0  # a counter that began anew hides a step: the power before it holds
    return (name, t_ns[:-1][went_on], watts[went_on]) if went_on.any() else None
