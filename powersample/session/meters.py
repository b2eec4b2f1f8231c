# SPDX-License-Identifier: Apache-2.0
"""The meters of a recording, from their addresses: real ones, and the simulated node's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample.meters import Address, make_meter, parse_addresses
from powersample.meters.recorder import MeterRecorder
from powersample.meters.registry import SIMULATED

if TYPE_CHECKING:
    from powersample.sim import Node
    from powersample.store.config import Configuration


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
        InvalidArgument: "sim" without a node or twice, an unknown option.
        NotSupported: A package is missing.
    """

    def __init__(self, asked: Asked, node: Node | None) -> None:
        self._asked, self._node = asked, node
        self._made = [make_meter(one) for one in plugged_in(asked.addresses, node)]
        self.recorder = MeterRecorder(())
        self.notes: tuple[str, ...] = ()

    def open(self) -> None:
        """Open all of them; those of a configuration file that are not there become notes.

        Raises:
            PowerSampleError: A meter that was asked for by name cannot be used.
        """
        self.recorder = MeterRecorder(self._made)
        if not self._asked.from_file:
            self.recorder.open()
            return
        for text in self.recorder.open_some():
            self.notes += (f"a meter from {self._asked.from_file} is left out: {text}",)

    def true_ends_ns(self) -> dict[str, NDArray[np.int64]]:
        """Return when cycles really ended, by the name of the meter that is the simulated node's own."""
        own = [one.name for one in self._asked.addresses if one.kind == SIMULATED]
        return {} if self._node is None else {name: self._node.meter().ends_ns() for name in own}

    def close(self) -> None:
        """Stop recording them; harmless twice."""
        self.recorder.stop()


def plugged_in(addresses: Sequence[Address], node: Node | None) -> list[Address]:
    """Return addresses with "sim" replaced by the port of the node's own meter, where there is a node.

    Raises:
        InvalidArgument: "sim" twice.
    """
    own = [address for address in addresses if address.kind == SIMULATED]
    if node is None or not own:
        return list(addresses)
    if len(own) > 1:
        raise errors.InvalidArgument(f"the simulated node has one meter, not {' and '.join(one.name for one in own)}")
    return [node.address_of_meter(one) if one in own else one for one in addresses]
