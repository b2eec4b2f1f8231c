# SPDX-License-Identifier: Apache-2.0
"""Nodes as data: what they are made of, and the fans and the supply between their parts and the plug."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from statistics import NormalDist
from typing import Any

from powersample._native.api_wall import WallModel
from powersample.errors import InvalidArgument, did_you_mean
from powersample.sim import cpu as cpus
from powersample.sim.profile import Profile, load_profile, profile_names, read_profile, stable_hash

GENERIC = "generic"
CPU = "cpu."  # figures of a node's profile that go over its CPU's


@dataclass(frozen=True, slots=True)
class Made:
    """What a node is made of.

    Attributes:
        name: Of the node's profile, else of its boards'.
        gpu: The boards' profile.
        gpus: Number of them.
        cpu: The CPUs' profile, the node's own figures in it; None for GPUs alone.
        packages: Number of them; 0 for GPUs alone.
        figures: Of supply, fans and meter, with their spreads.
    """

    name: str
    gpu: Profile
    gpus: int
    cpu: Profile | None
    packages: int
    figures: Profile


@dataclass(frozen=True, slots=True)
class Drawn:
    """What sets one node of a kind apart: factors of its figures; all 1 for a node that is not drawn.

    Attributes:
        seed: That it was drawn by; None for a node that is not drawn.
        factors: By the names of the profile's spreads.
        counter_gains: Of the CPUs' energy counters, by package and for psys.
        meter_gain: Of the meter at the plug.
        meter_noise_w: Standard deviation of one of its cycles.
        meter_latency_s: From the end of a cycle to its first byte: of every node, nobody is told.
        meter_skew_ppm: By how much its clock is fast: likewise.
    """

    seed: int | None
    factors: Mapping[str, float]
    counter_gains: Mapping[str, float]
    meter_gain: float
    meter_noise_w: float
    meter_latency_s: float
    meter_skew_ppm: float


@cache
def node_profile_names() -> tuple[str, ...]:
    """Return the names of the packaged nodes."""
    folder = resources.files("powersample.sim").joinpath("profiles", "node")
    names = (f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    return tuple(sorted(name for name in names if name != GENERIC))


@cache
def load_node_profile(name: str) -> Profile:
    """Read a packaged node; what it does not say is as in every node. Any other name is a node without a profile."""
    generic = read_profile(GENERIC, "node", f"{GENERIC}.toml")
    if name not in node_profile_names():
        return generic
    own = read_profile(name, "node", f"{name}.toml")
    return Profile(name, {**generic.figures, **own.figures}, {**generic.origins, **own.origins})


def made_of(profile: str, gpus: int | None, cpu: str | None, packages: int | None) -> Made:
    """Return what a node is made of; None is the profile's own, for a GPU's profile one board without CPUs.

    Raises:
        InvalidArgument: An unknown profile, or a packaged node that is given other CPUs.
    """
    figures = load_node_profile(profile)
    if profile not in node_profile_names():
        if profile not in profile_names():
            known = (*profile_names(), *node_profile_names())
            raise InvalidArgument(f"no profile {profile!r}; there are {', '.join(known)}", did_you_mean(profile, known))
        named = None if cpu is None else cpus.load_cpu_profile(cpu)
        count = 0 if named is None else cpus.checked_packages(named, 1 if packages is None else packages)
        return Made(profile, load_profile(profile), 1 if gpus is None else gpus, named, count, figures)
    if cpu is not None or packages is not None:
        raise InvalidArgument(f"{profile} has its own CPUs; name a GPU to choose them, as h100x4+intel_spr")
    own = cpus.load_cpu_profile(figures["node.cpu"])
    return Made(
        profile,
        load_profile(figures["node.gpu"]),
        figures["node.gpus"] if gpus is None else gpus,
        with_figures(own, {k.removeprefix(CPU): v for k, v in figures.figures.items() if k.startswith(CPU)}),
        cpus.checked_packages(own, figures["node.packages"]),
        figures,
    )


def with_figures(profile: Profile, figures: Mapping[str, Any]) -> Profile:
    """Return a profile with some of its figures replaced."""
    return replace(profile, figures={**profile.figures, **figures})


def draw(made: Made, node_seed: int | None, seed: int = 0) -> tuple[Made, Drawn]:
    """Return the node that an integer draws within its kind's spreads, the same for the same; None: the kind itself.

    The meter's clock is drawn always, then by `seed`: no clock is the host's.
    """
    figures = made.figures
    dice = random.Random(stable_hash("node", made.name, node_seed))
    clock = random.Random(stable_hash("meter", made.name, node_seed, seed))
    latency_s = clock.uniform(*figures["spread.meter_latency_ms"]) / 1e3
    skew_ppm = clock.uniform(*figures["spread.meter_skew_ppm"])
    spreads = [key.removeprefix("spread.") for key in figures.figures if key.startswith("spread.")]
    factors = {
        name: dice.uniform(*figures[f"spread.{name}"]) if node_seed is not None else 1.0
        for name in spreads
        if not name.startswith(("meter_", "counter_"))
    }

    def gain_of(spread: str) -> float:
        # Cut at 2.6 sd, as boards are.
        return NormalDist(1.0, figures[spread]).inv_cdf(dice.uniform(0.005, 0.995)) if node_seed is not None else 1.0

    counters = (*(f"package-{package}" for package in range(made.packages)), cpus.PSYS)
    counter_gains = {name: gain_of("spread.counter_gain_sd") for name in counters}
    gain, noise_w = figures["meter.gain"] * gain_of("spread.meter_gain_sd"), figures["meter.noise_w"]
    if node_seed is None:
        return made, Drawn(None, factors, counter_gains, gain, noise_w, latency_s, skew_ppm)
    noise_w += dice.uniform(*figures["spread.meter_noise_w"])
    if made.cpu is not None:
        board = {key: made.cpu[key] * factors["board"] for key in ("board.idle_w", "board.max_w")}
        made = replace(made, cpu=with_figures(made.cpu, board))
    return made, Drawn(node_seed, factors, counter_gains, gain, noise_w, latency_s, skew_ppm)


def wall_model(made: Made, drawn: Drawn, ranges_mw: Iterable[tuple[int, int]], time_scale: float) -> WallModel:
    """Return fans and supply of a node.

    Args:
        made: What it is made of.
        drawn: What sets it apart.
        ranges_mw: Idle and full power of each of its parts.
        time_scale: Hold-up and fans are so many times as quick.
    """
    idle_mw, full_mw = (float(sum(column)) for column in zip(*ranges_mw, strict=True))
    figures, factors = made.figures.figures, drawn.factors

    def milliwatts(name: str, otherwise: float) -> float:
        return figures[name] * 1e3 if name in figures else otherwise

    def span(share: str) -> float:
        return idle_mw + float(figures[share]) * (full_mw - idle_mw)

    rated_mw = milliwatts("supply.rated_w", figures["supply.rated_of_full"] * full_mw)
    high_mw = milliwatts("fan.high_w", span("fan.high_of_range"))
    low_mw = milliwatts("fan.low_w", span("fan.low_of_range")) * factors["fan_start"]
    return WallModel(
        loss_fixed_mw=figures["supply.fixed_loss"] * factors["fixed_loss"] * rated_mw,
        loss_ratio=figures["supply.proportional_loss"] * factors["proportional_loss"],
        loss_per_mw=figures["supply.resistive_loss"] * factors["resistive_loss"] / rated_mw,
        tau_ns=_scaled_ns(figures["supply.hold_up_ms"] * factors["hold_up"] * 1e6, time_scale),
        fan_max_mw=milliwatts("fan.max_w", figures["fan.max_of_full"] * full_mw) * factors["fan_max"],
        fan_min_speed=min(1.0, figures["fan.min_speed"] * factors["fan_min_speed"]),
        fan_low_mw=min(low_mw, 0.95 * high_mw),
        fan_high_mw=high_mw,
        fan_tau_ns=_scaled_ns(figures["fan.tau_s"] * factors["fan_tau"] * 1e9, time_scale),
        grid_ns=_scaled_ns(figures["fan.grid_ms"] * 1e6, time_scale),
    )


def most_mw(model: WallModel, parts_mw: float) -> float:
    """Return what the plug gives when the parts draw so much and the fans are at full speed."""
    given = parts_mw + model.fan_max_mw
    return given + model.loss_fixed_mw + model.loss_ratio * given + model.loss_per_mw * given**2


def _scaled_ns(duration_ns: float, time_scale: float) -> int:
    return round(duration_ns / time_scale)
