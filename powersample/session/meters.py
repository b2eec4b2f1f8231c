# SPDX-License-Identifier: Apache-2.0
"""The meters of a recording, from their addresses: real ones, and the simulated node's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from powersample import errors
from powersample.meters import Address, make_meter, parse_addresses
from powersample.meters.recorder import MeterRecorder

if TYPE_CHECKING:
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

    Raises:
        InvalidArgument: "sim" without a node, an unknown option.
        NotSupported: A package is missing.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.notes: tuple[str, ...] = ()
        self.recorder = MeterRecorder([make_meter(address) for address in asked.addresses])

    def open(self) -> None:
        """Open all of them; those of a configuration file that are not there become notes.

        Raises:
            PowerSampleError: A meter that was asked for by name cannot be used.
        """
        if not self._asked.from_file:
            self.recorder.open()
            return
        for text in self.recorder.open_some():
            self.notes += (f"a meter from {self._asked.from_file} is left out: {text}",)

    def as_json(self) -> list[Mapping[str, Any]]:
        """Return what they are, for the trace."""
        return [info.as_json() for info in self.recorder.infos]

    def close(self) -> None:
        """Stop recording them; harmless twice."""
        self.recorder.stop()
