# SPDX-License-Identifier: Apache-2.0
"""The energy that somebody asks for by names: of a window and a device, or of all devices together."""

from collections.abc import Sequence

from powersample.analysis.meter import info_of
from powersample.analysis.primary import find_window, measured_of, owned, rank, window_energies
from powersample.analysis.proofs import Proofs
from powersample.analysis.totals import TOTAL, total
from powersample.errors import InvalidArgument, did_you_mean
from powersample.model import TRUTH_PREFIX, Energy, Kind, Trace, Window

GPU = "gpu"


def energy(
    trace: Trace,
    window: str | Window,
    device: str | None = None,
    *,
    domain: str | None = None,
    load_period_s: float | None = None,
) -> Energy:
    """Return the energy of one device and domain over a window, by its primary channel; or of all together.

    Args:
        trace: the recording.
        window: a window, or its name if only one bears it.
        device: "gpu0", "package-0" or a UUID; None when the domain has only one; "total" is the GPUs, packages and
            memories of the node together, each by its primary channel.
        domain: gpu, module, package, dram, wall ...; None is gpu, or what a device that is no GPU measures itself. Of
            "total" gpu, package or dram, all devices of that domain together; None is all three.
        load_period_s: as `window_energies`.

    Returns:
        The primary's energy. When no channel covers the window, the preferred channel's, with `joules` None. A total
        has no `joules` when one of its devices' energies is missing, or speaks for a part of the window.

    Raises:
        InvalidArgument: no such window, device or domain, or several.
    """
    return energies_of(trace, [find_window(trace, window)], device, domain=domain, load_period_s=load_period_s)[0]


def energies_of(
    trace: Trace,
    windows: Sequence[Window],
    device: str | None = None,
    *,
    domain: str | None = None,
    load_period_s: float | None = None,
) -> list[Energy]:
    """Return the same for each of many windows, in one pass over each channel."""
    if device == TOTAL and not _channels(trace, TOTAL, domain or GPU):
        every = window_energies(trace, windows, load_period_s)
        sums = [total(each, window, domain) for each, window in zip(every, windows, strict=True)]
        return [one.but(simulated=True) for one in sums] if trace.simulated else sums
    domain = domain or _domain_of(trace, device)
    mine = _channels(trace, device, domain)
    if len(set(mine.values())) != 1:
        raise _unclear(trace, device, domain, sorted(set(mine.values())))
    names = sorted(mine, key=lambda one: rank(trace.channel(one)))
    own, found = owned(trace, names), []
    for told, window in zip(zip(*Proofs(trace, windows, load_period_s).told(names), strict=True), windows, strict=True):
        measured = measured_of(told, own, window)
        found.append(next((one.energy for one in measured if one.primary), measured[0].energy))
    made_up = trace.simulated or any((info := info_of(trace, name)) is not None and info.simulated for name in names)
    return [one.but(simulated=True) for one in found] if made_up else found


def _domain_of(trace: Trace, device: str | None) -> str:
    """Return the domain that is meant where none is named: gpu, or what a device without one measures.

    Of several that is the one that its channels do not name: "package-0.energy" is package-0's own, and
    "package-0.dram.energy" that of its memory.
    """
    found: dict[str, bool] = {}
    for name, channel in trace.channels.items() if device else ():
        mine = device in (channel.device, name.partition(".")[0])
        if mine and channel.kind is not Kind.AUX and not name.startswith(TRUTH_PREFIX):
            own = name.split(".")[1:2] != [channel.domain]
            found[channel.domain] = found.get(channel.domain, False) or own
    meant = [domain for domain, own in found.items() if own or len(found) == 1]
    return meant[0] if GPU not in found and len(meant) == 1 else GPU


def _channels(trace: Trace, device: str | None, domain: str) -> dict[str, str]:
    """Return the devices of a domain's powers and energies by the channels' names; None is any device."""
    return {
        name: channel.device
        for name, channel in trace.channels.items()
        if channel.kind is not Kind.AUX
        and channel.domain == domain
        and not name.startswith(TRUTH_PREFIX)
        and device in (None, channel.device, name.partition(".")[0])
    }


def _unclear(trace: Trace, device: str | None, domain: str, devices: Sequence[str]) -> InvalidArgument:
    """Return what to say where no device is meant, or several may be."""
    channels = trace.channels.values()
    there = sorted({channel.name.partition(".")[0] for channel in channels} - {"truth"})
    domains = sorted({one.domain for one in channels if device in (one.device, one.name.partition(".")[0])})
    if device and domains:
        return InvalidArgument(
            f"{device!r} has no {domain} power or energy, it has {', '.join(domains)}",
            f"Name the domain: domain={domains[-1]!r}.",
        )
    what = f"{device!r} is not recorded" if device else f"{len(devices)} devices have {domain} energy"
    together = f', or take all together: "{TOTAL}"' if there else ""
    meant = did_you_mean(device, there) if device else ""
    return InvalidArgument(
        f"{what}; the trace has {', '.join(there) or 'no devices'}", meant or f"Name one of them{together}."
    )
