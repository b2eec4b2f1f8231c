# SPDX-License-Identifier: Apache-2.0
"""A watched node as Prometheus' metrics: joules and watts by device and domain, and how its lanes do.

Names follow OpenMetrics: base units, `_total` on counters. Energies are counters, so that a scrape that is missed loses
none of them; the power is for looking at. A power that is not known now is left out, not repeated.

A metric's sum over any of its labels is to mean something (Prometheus, "Metric and label naming"). GPUs, packages and
memories add up and share a name; what lies in them, or holds them, has another one, where nobody adds it by mistake.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from powersample.analysis.totals import PART_DOMAINS
from powersample.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from powersample.analysis.account import Balance
    from powersample.model import LaneStats
    from powersample.session.live import State

LATENCY_BINS = range(10, 32, 2)  # upper edges 2^b ns, from 1 us to 1 s: a lane's histogram has twice as many
DROPOUTS = ("dropped", "skipped")
PART = "of a GPU's board, a CPU package or a package's memory: parts that do not overlap, so sums are right."
OVERLAPPING = (
    "of what lies in a part (core, uncore) or holds some (module, psys, input, wall, supply): never add it up."
)
SINCE = "Counted since _created; a GPU's own counter since its driver was loaded, and _created is then the boot."


def needs(package: str, extra: str) -> None:
    """Raise unless an optional package is installed.

    Raises:
        NotSupported: It is not; names the extra that brings it.
    """
    try:
        there = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # what a dotted name lies in
        there = False
    if not there:
        raise NotSupported(
            f"this needs {package}, which is not installed", f"Install it: pip install 'powersample[{extra}]'"
        )


def registry(state: Callable[[], State]) -> CollectorRegistry:
    """Return a registry that asks `state` at every scrape.

    Raises:
        NotSupported: prometheus-client is not installed.
    """
    needs("prometheus_client", "serve")
    from prometheus_client import CollectorRegistry

    made = CollectorRegistry()
    made.register(_Collector(state))  # type: ignore[arg-type, unused-ignore]  # it asks for these two methods only
    return made


def exposition(registry: CollectorRegistry, accept: str | None = None) -> tuple[bytes, str]:
    """Return all metrics and their content type, in the form that an Accept header asks for.

    Args:
        registry: what `registry` returned.
        accept: the header; None for the text form of node_exporter's textfiles.
    """
    from prometheus_client.exposition import choose_encoder

    encoder, content_type = choose_encoder(accept or "")
    return encoder(registry), content_type


class _Collector:
    """Makes the metrics of one state."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def describe(self) -> list[Metric]:
        """Return nothing: what there is depends on the devices, and registering must not ask them."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        families = _Families(state.simulated)
        yield from _about(families, state)
        yield from _balances(families, state)
        yield from _lanes(families, state)


class _Families:
    """Makes families whose samples all say it when they are simulated."""

    def __init__(self, simulated: str) -> None:
        self._names = ("simulated",) if simulated else ()
        self._values = (simulated,) if simulated else ()
        self._before = f"SIMULATED NODE {simulated}, not a measurement: " if simulated else ""

    def make(self, kind: str, name: str, text: str, labels: Sequence[str] = (), unit: str = "") -> Any:
        """Return an empty family of prometheus_client's class for `kind`."""
        from prometheus_client import core

        family = getattr(core, f"{kind}MetricFamily")
        if kind == "Info":
            return family(name, self._before + text, labels=[*self._names, *labels])
        return family(name, self._before + text, labels=[*self._names, *labels], unit=unit)

    def values(self, *values: str) -> list[str]:
        """Return a sample's label values."""
        return [*self._values, *values]


def _about(families: _Families, state: State) -> Iterator[Metric]:
    build = families.make("Info", "powersample_build", "What serves these metrics.")
    build.add_metric(families.values(), {"version": state.version, "driver": state.driver})
    yield build
    start = families.make("Gauge", "powersample_start_time", "When watching began, since 1970.", unit="seconds")
    start.add_metric(families.values(), state.started_unix_s)
    yield start
    trouble = families.make("Gauge", "powersample_troubles", "Failures now; the server's standard error has them.")
    trouble.add_metric(families.values(), len(state.trouble))
    yield trouble
    if state.kept is not None:
        text = "Whether these energies are kept for the next start (1), or it begins again at 0 (0)."
        kept = families.make("Gauge", "powersample_account_kept", text)
        kept.add_metric(families.values(), int(state.kept))
        yield kept


def _balances(families: _Families, state: State) -> Iterator[Metric]:
    labels = ("device", "uuid", "domain")
    energies, powers = {}, {}
    for part, before, what in ((True, "powersample_", PART), (False, "powersample_overlapping_", OVERLAPPING)):
        text = f"Energy {what} {SINCE}"
        energies[part] = families.make("Counter", f"{before}energy", text, labels, "joules")
        text = f"Power {what} The newest reading, or a counter's mean over the last second; absent when it is unknown."
        powers[part] = families.make("Gauge", f"{before}power", text, labels, "watts")
    text = "Time since the energy's counter began that no reading speaks for: its energy is in no counter."
    unseen = families.make("Counter", "powersample_unseen", text, labels, "seconds")
    text = "Time since the newest good reading."
    age = families.make("Gauge", "powersample_reading_age", text, labels, "seconds")
    text = "The channels that energy and power come from, as recordings name them."
    source = families.make("Info", "powersample_source", text, labels)
    for one in state.balances:
        part = one.domain in PART_DOMAINS
        values = families.values(one.name, one.device, _domain(one))
        if one.joules is not None:
            energies[part].add_metric(values, one.joules, created=one.created_unix_s)
            unseen.add_metric(values, one.unseen_s, created=one.created_unix_s)
        if one.power_w is not None:
            powers[part].add_metric(values, one.power_w)
        if one.age_s is not None:
            age.add_metric(values, one.age_s)
        source.add_metric(values, {"energy": one.energy_from, "power": one.power_from})
    yield from (*energies.values(), *powers.values(), unseen, age, source)


def _domain(one: Balance) -> str:
    """Return its domain; the processor's platform counter and the firmware's meter are two looks at one machine."""
    return "input" if one.domain == "psys" and not one.name.startswith("psys") else one.domain


def _lanes(families: _Families, state: State) -> Iterator[Metric]:
    labels = ("source", "device")
    text = "Readings taken, of all channels of a lane, with those that were errors."
    samples = families.make("Counter", "powersample_samples", text, labels)
    text = "Readings lost: dropped for want of room, or skipped because the one before came late."
    dropouts = families.make("Counter", "powersample_dropouts", text, (*labels, "kind"))
    text = "Readings that a device answered with an error, by its own code; those of rare codes together as other."
    failed = families.make("Counter", "powersample_read_errors", text, (*labels, "code"))
    text = "Times that a device that was lost was opened again."
    reopens = families.make("Counter", "powersample_reopens", text, labels)
    text = "Duration of device calls; counted in bins that double, so the sum is right within a third."
    latency = families.make("Histogram", "powersample_read_latency", text, labels, "seconds")
    since_s = state.started_unix_s
    for lane in state.lanes:
        source, _, device = lane.name.partition(":")
        values = families.values(source, device)
        samples.add_metric(values, lane.records or 0, created=since_s)
        for kind in DROPOUTS:
            dropouts.add_metric([*values, kind], getattr(lane, kind) or 0, created=since_s)
        for code, count in lane.errors.items():
            failed.add_metric([*values, str(code)], count, created=since_s)
        if lane.error_other:
            failed.add_metric([*values, "other"], lane.error_other, created=since_s)
        reopens.add_metric(values, lane.reopens or 0, created=since_s)
        if lane.call_hist:
            latency.add_metric(values, buckets=_buckets(lane), sum_value=_sum_s(lane))
            known = dict(zip(latency._labelnames, values, strict=True))
            latency.add_sample(f"{latency.name}_created", known, since_s)  # `add_metric` does not take it
    yield from (samples, dropouts, failed, reopens, latency)


def _buckets(lane: LaneStats) -> list[tuple[str, float]]:
    """Return cumulative counts below powers of four; a lane's bin b counts calls of 2^b to 2^(b+1) ns."""
    edges: list[tuple[str, float]] = [(repr(2**bits * 1e-9), sum(lane.call_hist[:bits])) for bits in LATENCY_BINS]
    return [*edges, ("+Inf", sum(lane.call_hist))]


def _sum_s(lane: LaneStats) -> float:
    """Return the calls' durations together, each as 4/3 of its bin's lower edge: off by a third at most."""
    return float(sum(count << b for b, count in enumerate(lane.call_hist))) * 4e-9 / 3
