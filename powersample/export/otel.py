# SPDX-License-Identifier: Apache-2.0
"""A watched node as OpenTelemetry metrics, by the semantic conventions for hardware (`hw.*`, in development there).

Of parts that overlap only one is sent: GPUs, CPU packages and memory add up; cores, modules, rails and batteries are
left out, and the whole machine goes under `hw.host.*`, which the conventions keep apart for that reason.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from powersample.analysis.walls import stands_for
from powersample.export.openmetrics import needs

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

    from powersample.analysis.account import Balance
    from powersample.session.live import State

TYPES = {"gpu": "gpu", "package": "cpu", "dram": "memory"}  # domain: hw.type
HOST = ("wall", "psys")  # domains that are the whole machine, the surest first
PARTS = {"dram"}  # of the package that their device is


def sender(state: Callable[[], State], endpoint: str | None = None, *, every_s: float = 15.0) -> MeterProvider:
    """Return a provider that sends to a collector by OTLP over HTTP until it is shut down.

    Args:
        state: asked at every sending.
        endpoint: the collector's URL for metrics; None takes OpenTelemetry's own variables, or this machine's.
        every_s: spacing.

    Raises:
        NotSupported: the packages are not installed.
    """
    needs("opentelemetry.exporter.otlp.proto.http", "otel")
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = OTLPMetricExporter(endpoint=endpoint)
    return provider(state, PeriodicExportingMetricReader(exporter, export_interval_millis=every_s * 1e3))


def provider(state: Callable[[], State], reader: MetricReader) -> MeterProvider:
    """Return a provider whose instruments ask `state` once each time that `reader` collects."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    from powersample._native.api import version

    about = {"service.name": "powersample", "service.version": version(), "host.name": socket.gethostname()}
    made = MeterProvider([reader], Resource.create(about), shutdown_on_exit=False)
    meter, asked = made.get_meter("powersample", version()), _Asked(state)
    for name, kind, unit, text, host in (
        ("hw.energy", meter.create_observable_counter, "J", "Energy consumed by the component", False),
        ("hw.power", meter.create_observable_gauge, "W", "Instantaneous power consumed by the component", False),
        ("hw.host.energy", meter.create_observable_counter, "J", "Energy consumed by the whole machine", True),
        ("hw.host.power", meter.create_observable_gauge, "W", "Power consumed by the whole machine", True),
    ):
        kind(name, [_callback(asked, name, energy=unit == "J", host=host)], unit, text)
    return made


class _Asked:
    """One state for all instruments of a collection, so that what they tell is of one moment."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state, self._told = state, set[str]()
        self._now: State | None = None

    def of(self, instrument: str) -> State:
        """Return the state of this collection; who asks again is in the next one."""
        if self._now is None or instrument in self._told:
            self._now, self._told = self._state(), set()
        self._told.add(instrument)
        return self._now


def _callback(asked: _Asked, name: str, *, energy: bool, host: bool) -> Callable[[Any], Iterable[Any]]:
    def observe(_: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation

        now = asked.of(name)
        for one in _whole(now.balances) if host else now.balances:
            value = one.joules if energy else one.power_w
            if value is not None and (host or one.domain in TYPES):
                yield Observation(value, _attributes(one, now.simulated, host=host))

    return observe


def _whole(balances: Iterable[Balance]) -> list[Balance]:
    """Return what stands for the whole machine: one measurement, of a meter or of supplies that have one each; or none.

    Of several meters it is the first that was named: which is the surest is not known here.
    """
    found = [one for one in balances if one.domain in HOST and one.joules is not None]
    found.sort(key=lambda one: HOST.index(one.domain))
    return [one for one in found if stands_for(one.device) == stands_for(found[0].device)]


def _attributes(one: Balance, simulated: str, *, host: bool) -> dict[str, str]:
    attributes = {"hw.id": one.device, "hw.name": one.name}
    if not host:
        attributes["hw.type"] = TYPES[one.domain]
    if one.domain in PARTS:
        attributes |= {"hw.id": f"{one.device}/{one.domain}", "hw.parent": one.device}
    if simulated:
        attributes["powersample.simulated"] = simulated
    return attributes
