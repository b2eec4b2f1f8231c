# SPDX-License-Identifier: Apache-2.0
"""An epoch's energies as a log takes them, numbers by key, and their sum over a training that is resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from powersample.errors import BadFormat, InvalidArgument
from powersample.model.energy import in_words

if TYPE_CHECKING:
    from powersample.analysis import Sum, Training

STATE_VERSION = 1
DIGITS = 6  # of a number in the log: no energy is known to more than three
ALWAYS = "quality/simulated"  # what is not real says so in every log
LONG = (  # what a short log leaves out
    "energy/*_joules_low", "energy/*_joules_high", "energy/step_joules", "energy/cpu_pkg*", "energy/dram_joules",
    "power/*_watts_max", "quality/coverage", "quality/dropouts",
)  # fmt: skip
SHORT = ("energy/total_joules_low", "energy/total_joules_high")  # and what it has of these all the same
Keys = str | Sequence[str] | Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Cumulative:
    """The energy of all epochs until now, over any number of resumed runs.

    Intervals add up linearly: the board may be the same one in all of them, and then so are its gain and offset.

    Attributes:
        simulated: whether of a simulated node.
        joules: the sum, without epochs that could not be told.
        low_j: lower end of its 95 % interval; None once an epoch had none.
        high_j: its upper end.
        duration_s: of the epochs in it.
        epochs: in it; of one that a checkpoint cut, each part.
        untold: epochs whose total could not be told: the sum is too small then, and not logged.
    """

    simulated: bool
    joules: float = 0.0
    low_j: float | None = 0.0
    high_j: float | None = 0.0
    duration_s: float = 0.0
    epochs: int = 0
    untold: int = 0

    def _is_sound(self) -> bool:
        """Whether every value is of its kind: a checkpoint is anybody's."""
        numbers = [self.joules, self.duration_s, self.epochs, self.untold]
        numbers += [one for one in (self.low_j, self.high_j) if one is not None]
        return isinstance(self.simulated, bool) and all(
            isinstance(one, int | float) and 0 <= one < math.inf for one in numbers
        )

    def plus(self, found: Training) -> Cumulative:
        """Return the sum with one more epoch, or a part of one."""
        total = found.total
        if total is None:
            return Cumulative(**asdict(self) | {"untold": self.untold + 1})
        ends = (self.low_j, self.high_j, total.low_j, total.high_j)
        low_j, high_j = (None, None) if None in ends else (ends[0] + ends[2], ends[1] + ends[3])  # type: ignore[operator]
        return Cumulative(
            self.simulated,
            self.joules + total.joules,
            low_j,
            high_j,
            self.duration_s + found.duration_s,
            self.epochs + 1,
            self.untold,
        )

    def __str__(self) -> str:
        banner = "SIMULATED " if self.simulated else ""
        told = None if self.untold or not self.epochs else self.joules
        return f"{banner}{in_words(told, self.low_j, self.high_j)}"

    def log_keys(self) -> dict[str, float]:
        """Return the keys of the sum; none while it is not whole."""
        if self.untold or not self.epochs:
            return {}
        return _interval("energy/cumulative_joules", self.joules, self.low_j, self.high_j)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values, for a checkpoint."""
        return {"version": STATE_VERSION} | asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any], *, simulated: bool) -> Self:
        """Return the sum that `as_json` told of.

        Raises:
            BadFormat: It is nothing of the kind, or of a newer version.
            InvalidArgument: It is of a simulated node and this run is not, or the other way round.
        """
        try:
            if state["version"] != STATE_VERSION:
                raise BadFormat(
                    f"the checkpoint's energy is of version {state['version']}, and this is {STATE_VERSION}"
                )
            found = cls(**{name: value for name, value in state.items() if name != "version"})
        except (KeyError, TypeError) as error:
            raise BadFormat(f"the checkpoint's energy cannot be understood: {error}") from error
        if not found._is_sound():
            raise BadFormat("the checkpoint's energy cannot be understood: a value of another kind")
        if found.simulated != simulated:
            nodes = ("this machine", "a simulated node")
            raise InvalidArgument(
                f"the checkpoint's energy is of {nodes[found.simulated]}, and what measures now is {nodes[simulated]}",
                "They make no sum: measure both alike, or leave the energy out of the checkpoint.",
            )
        return found


def chosen(told: Mapping[str, float], keys: Keys) -> dict[str, float]:
    """Return those of an epoch's keys that go to the log, in six digits; "quality/simulated" always does.

    Args:
        told: all keys.
        keys: "all"; "short", the joules of each GPU and meter, the total with its interval and the sum of all epochs,
            mean powers and half the interval in per cent; a key or pattern, or several: "energy/gpu*_joules"; or what
            tells of a key whether it is wanted.
    """
    wanted = _wanted(keys)
    return {key: float(f"{value:.{DIGITS}g}") for key, value in told.items() if key == ALWAYS or wanted(key)}


def unmatched(told: Mapping[str, float], keys: Keys) -> list[str]:
    """Return the patterns that none of an epoch's keys is like."""
    if callable(keys) or keys in ("all", "short"):
        return []
    return [
        one for one in ([keys] if isinstance(keys, str) else keys) if not any(fnmatchcase(key, one) for key in told)
    ]


def _wanted(keys: Keys) -> Callable[[str], bool]:
    if callable(keys):
        return keys
    if keys == "all":
        return lambda key: True
    if keys == "short":
        return lambda key: key in SHORT or not any(fnmatchcase(key, one) for one in LONG)
    patterns = [keys] if isinstance(keys, str) else keys
    return lambda key: any(fnmatchcase(key, one) for one in patterns)


def log_keys(found: Training, steps: int) -> dict[str, float]:
    """Return an epoch's keys: numbers only, and what is not known is not there.

    energy/gpu0_joules, energy/cpu_pkg0_joules, energy/dram_joules, energy/wall_joules, energy/total_joules (GPUs, CPUs
    and memory), energy/step_joules (the total, a step), each with _low and _high where the interval is known;
    energy/idle_joules where a calibration tells; power/gpu0_watts_mean, power/gpu0_watts_max; quality/coverage (0 to
    1), quality/dropouts, quality/half_width_pct (of the total); quality/simulated where nothing of it is real.

    Args:
        found: what the epoch took.
        steps: optimiser steps in it; 0 where nobody counted.
    """
    keys: dict[str, float] = {}
    for (name, domain), one in found.devices.items():
        if (key := _key(name, domain)) is not None:
            keys |= _sum(f"energy/{key}_joules", one)
        if domain == "gpu":
            keys[f"power/{name}_watts_mean"] = one.joules / found.duration_s
    for name, watts in found.most_w.items():  # of a sensor that averages: of a short epoch it may not reach the mean
        if watts >= keys.get(f"power/{name}_watts_mean", 0.0):
            keys[f"power/{name}_watts_max"] = watts
    if (dram := found.dram) is not None:
        keys |= _sum("energy/dram_joules", dram)
    if (total := found.total) is not None:
        keys |= _sum("energy/total_joules", total)
        if steps:
            keys |= {name.replace("total", "step"): keys[name] / steps for name in keys if "/total_" in name}
        if total.low_j is not None and total.high_j is not None and total.joules > 0:
            half_j = max(total.joules - total.low_j, total.high_j - total.joules)
            keys["quality/half_width_pct"] = 100 * half_j / total.joules
    if found.idle_j is not None:
        keys["energy/idle_joules"] = found.idle_j
    if found.covered is not None:
        keys |= {"quality/coverage": found.covered, "quality/dropouts": float(found.dropouts)}
    return keys | ({"quality/simulated": 1.0} if found.simulated else {})


def _key(name: str, domain: str) -> str | None:
    if domain in ("gpu", "wall"):
        return name
    if domain == "module":
        return f"{name}_module"
    return name.replace("package-", "cpu_pkg").replace("-", "_") if domain == "package" else None


def _sum(name: str, one: Sum) -> dict[str, float]:
    return _interval(name, one.joules, one.low_j, one.high_j)


def _interval(name: str, joules: float, low_j: float | None, high_j: float | None) -> dict[str, float]:
    keys = {name: joules}
    if low_j is not None and high_j is not None:
        keys |= {f"{name}_low": low_j, f"{name}_high": high_j}
    return keys
