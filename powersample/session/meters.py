# SPDX-License-Identifier: Apache-2.0
"""The meters of a recording, from their addresses: real ones, and the simulated node's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from powersample import errors
from powersample.meters import Address, Meter, make_meter, parse_addresses
from powersample.meters.recorder import MeterRecorder
from powersample.meters.registry import SIMULATED

if TYPE_CHECKING:
    from powersample.sim import Node
    from powersample.sim.lmg import LmgSimulator
    from powersample.store.config import Configuration

SIMULATED_RANGES = {"i": "16", "ipeak": "51.2"}  # of a node that may draw kilowatts


@dataclass(frozen=True, slots=True)
class Asked:
    """Addresses that were asked for, and where: a default's meter that is not there is a note, no failure."""

    addresses: tuple[Address, ...] = ()
    from_file: str = ""


def asked_meters(given: Sequence[str] | None, configuration: Configuration | None) -> Asked:
    """Return the meters that were asked for; where none were, those of the configuration.

    Raises:
        InvalidArgument: An address is none.
        ConfigurationError: The same, of the configuration's.
    """
    if given is not None:
        return Asked(parse_addresses(list(given)))
    texts = () if configuration is None else configuration.values.get("meters", ())
    if configuration is None or not texts:
        return Asked()
    where = configuration.origins["meters"]
    try:
        return Asked(parse_addresses(list(texts)), str(where))
    except errors.InvalidArgument as error:
        raise errors.ConfigurationError(f"{where}: meters: {error}") from None


class Meters:
    """The meters of one recording and their recorder.

    Args:
        asked: Their addresses.
        node: The simulated node that "sim" is the meter of; None on real devices.

    Raises:
        InvalidArgument: "sim" without a node, an unknown option.
        NotSupported: A package is missing.
    """

    def __init__(self, asked: Asked, node: Node | None) -> None:
        self._asked, self._node = asked, node
        self._simulators: list[LmgSimulator] = []
        self._made = [None if self._is_simulated(one) else make_meter(one) for one in asked.addresses]
        self.recorder = MeterRecorder(())
        self.notes: tuple[str, ...] = ()

    def _is_simulated(self, address: Address) -> bool:
        return address.kind == SIMULATED and self._node is not None

    def open(self) -> None:
        """Open all of them; those of a configuration file that are not there become notes.

        Raises:
            PowerSampleError: A meter that was asked for by name cannot be used.
        """
        pairs = zip(self._asked.addresses, self._made, strict=True)
        self.recorder = MeterRecorder([meter or self._simulated(address) for address, meter in pairs])
        if not self._asked.from_file:
            self.recorder.open()
            return
        for text in self.recorder.open_some():
            self.notes += (f"a meter from {self._asked.from_file} is left out: {text}",)

    def _simulated(self, address: Address) -> Meter:
        """Return the driver of the node's own meter: a real driver at a simulated meter's port."""
        from powersample.sim.lmg import LmgSimulator

        assert self._node is not None
        simulator = LmgSimulator(self._node.wall.mean_w)
        self._simulators.append(simulator)
        options = {**SIMULATED_RANGES, **address.options}
        there = replace(address, kind="lmg450", where=simulator.address, options=options, simulated=True)
        return make_meter(there)

    def close(self) -> None:
        """Stop recording them and end those that were simulated; harmless twice."""
        self.recorder.stop()
        while self._simulators:
            self._simulators.pop().close()
