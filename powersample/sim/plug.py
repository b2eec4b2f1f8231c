# SPDX-License-Identifier: Apache-2.0
"""The part of `Node` that is plugged in: an LMG450 between wall and supply, on a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample._native.api_wall import Wall
from powersample.errors import InvalidArgument
from powersample.sim.supply import Drawn

if TYPE_CHECKING:
    from powersample.meters import Address
    from powersample.sim.lmg import LmgSimulator

KIND = "lmg450"
PORT = "ttyLMG"  # below the node's folder
RANGES_A = (0.6, 1.2, 2.5, 5.0, 10.0, 16.0)  # LMG450 user manual, direct current inputs
PEAKS_OF_RANGE = 3.125  # the manual's example: 3.75 A of 1.2 A
LEAST_VOLTS_PF = 200.0  # V x power factor that a watt at the plug comes with at least


class PlugControl:
    """The simulated node's meter."""

    _drawn: Drawn
    _seed: int
    _directory: Path
    _meter: LmgSimulator | None = None
    _settings: Mapping[str, Any] = {}

    @property
    def wall(self) -> Wall:
        """What the plug gives."""
        raise NotImplementedError

    def _most_w(self) -> float:
        """Return what the plug gives at full load of everything."""
        raise NotImplementedError

    def meter(self, **settings: Any) -> LmgSimulator:
        """Return the meter: an LMG450 whose cycles average the wall power exactly. It ends with the node.

        The first call starts it, on a pseudo-terminal in the node's folder. `address_of_meter` is for a driver.

        Args:
            settings: Of the first call, over those that the node was drawn with: as `LmgSimulator`, such as `faults`,
                or `line` for another place.

        Raises:
            InvalidArgument: Settings of a meter that runs already.
        """
        from powersample.sim.lmg import LmgSimulator
        from powersample.sim.lmg_line import PtyLine

        wall = self.wall  # refuses a closed node
        if self._meter is not None and settings:
            raise InvalidArgument("the node's meter runs already", "Give its settings before anything asks for it.")
        if self._meter is None:
            told = self._told_of_meter() | settings
            line = told.pop("line", None) or PtyLine(self._directory / PORT)
            self._meter = LmgSimulator(wall.mean_w, line=line, **told)
            self._settings = told
        return self._meter

    def address_of_meter(self, asked: Address | None = None) -> Address:
        """Return where a driver finds the meter, with a current range that holds the node.

        Args:
            asked: An address of kind "sim", whose name and options stay; None for plain ones.
        """
        from powersample.meters import Address

        asked = asked or Address("wall", "sim")
        amperes = self._most_w() / LEAST_VOLTS_PF
        fitting = next((one for one in RANGES_A if one >= amperes), RANGES_A[-1])
        options = {"i": f"{fitting:g}", **asked.options}
        options.setdefault("ipeak", f"{PEAKS_OF_RANGE * float(options['i']):g}")
        return replace(asked, kind=KIND, where=self.meter().address, options=options, simulated=True)

    def _told_of_meter(self) -> dict[str, Any]:
        drawn = self._drawn
        return {
            "latency_s": drawn.meter_latency_s,
            "skew_ppm": drawn.meter_skew_ppm,
            "gain_pct": (drawn.meter_gain - 1) * 100,
            "noise_w": drawn.meter_noise_w,
            "seed": self._seed,
        }

    def _describe_meter(self) -> Mapping[str, Any]:
        """Return what the meter is really like, ready for JSON: nothing that it says tells it."""
        told = self._told_of_meter() if self._meter is None else self._settings
        plain = {name: value for name, value in told.items() if isinstance(value, int | float | str | bool)}
        return {"kind": KIND, **plain}

    def _unplug(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.close()
