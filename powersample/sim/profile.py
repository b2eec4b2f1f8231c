# SPDX-License-Identifier: Apache-2.0
"""Boards as data: the packaged profiles, and the boards drawn from them."""

from __future__ import annotations

import hashlib
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from statistics import NormalDist
from typing import Any

from powersample._native import api_sim
from powersample.errors import InvalidArgument

ARCHITECTURES = {
    "kepler": 2, "maxwell": 3, "pascal": 4, "volta": 5, "turing": 6, "ampere": 7, "ada": 8, "hopper": 9,
}  # fmt: skip
BRANDS = {"tesla": 2, "geforce": 5, "nvidia": 14}
POWER_SENSORS = ("instant", "average", "usage")
COUNTERS = ("integrating", "attended")

_CUDA_OF_BRANCH = {
    361: 8000, 384: 9000, 396: 9020, 410: 10000, 418: 10010, 450: 11000, 470: 11040, 525: 12000, 530: 12010, 535: 12020,
    550: 12040, 570: 12080, 580: 13000,
}  # fmt: skip
FIELDS_SINCE = 396  # branches before have a library without field values and total energy; about, by the CUDA versions
_MIG_PROFILE = re.compile(r"([1-7])g\.([1-9]\d*)gb")
_MS = 1e6


@dataclass(frozen=True, slots=True)
class Profile:
    """A board as published: figures by section and name, each with where it comes from.

    Attributes:
        name: "h100".
        figures: {"board.idle_w": 48, "sensor.instant.period_ms": 100.0, ...}.
        origins: The same keys; a phrase each.
    """

    name: str
    figures: Mapping[str, Any]
    origins: Mapping[str, str]

    def __getitem__(self, key: str) -> Any:
        return self.figures[key]

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of its sensors: of "instant", "average", "usage", "module", "module_average", "energy", "samples"."""
        names = (key.split(".")[1] for key in self.figures if key.startswith("sensor."))
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Board:
    """One physical board: what its sensors are really like. Drawn by `draw_board`, or the profile itself.

    Attributes:
        gain: Of power sensors and the energy counter.
        offset_w: Of power sensors.
        noise_w: Standard deviation of one published value.
        sensors: Settings by name, ready for C.
    """

    gain: float
    offset_w: float
    noise_w: float
    sensors: Mapping[str, api_sim.Sensor]


@dataclass(frozen=True, slots=True)
class Driver:
    """Versions that a driver branch reports.

    Attributes:
        version: "535.247.01".
        branch: 535.
        nvml: "12.535.247.01".
        cuda: 12020 for CUDA 12.2.
    """

    version: str
    branch: int
    nvml: str
    cuda: int


def profile_names() -> tuple[str, ...]:
    """Return the names of the packaged profiles."""
    folder = resources.files("powersample.sim").joinpath("profiles")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def load_profile(name: str) -> Profile:
    """Read a packaged profile.

    Raises:
        InvalidArgument: There is none of that name; the message lists those there are.
    """
    if name not in profile_names():
        raise InvalidArgument(f"no profile {name!r}; there are {', '.join(profile_names())}")
    return read_profile(name, f"{name}.toml")


def read_profile(name: str, *path: str) -> Profile:
    """Read the packaged figures at `path` below `profiles`, called `name`."""
    text = resources.files("powersample.sim").joinpath("profiles", *path).read_text("utf-8")
    figures: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def walk(prefix: str, table: dict[str, Any]) -> None:
        for key, entry in table.items():
            if "value" in entry:
                figures[prefix + key] = entry["value"]
                origins[prefix + key] = entry["origin"]
            else:
                walk(f"{prefix}{key}.", entry)

    walk("", tomllib.loads(text))
    return Profile(name, figures, origins)


def driver(profile: Profile, version: str | None) -> Driver:
    """Return the versions that go with a driver version; None is the profile's own.

    Raises:
        InvalidArgument: Not of the form "535.247.01", or older than branch 361.
    """
    version = version or profile["driver.version"]
    branch = version.split(".")[0]
    if not version.replace(".", "").isdigit() or "." not in version or int(branch) < min(_CUDA_OF_BRANCH):
        raise InvalidArgument(f"driver version {version!r} is not of the form 535.247.01, from branch 361 on")
    cuda = _CUDA_OF_BRANCH[max(known for known in _CUDA_OF_BRANCH if known <= int(branch))]
    return Driver(version, int(branch), f"{cuda // 1000}.{version}", cuda)


def power_usage_sensor(profile: Profile, branch: int) -> str:
    """Return which sensor nvmlDeviceGetPowerUsage answers with: by generation and driver branch.

    Source: nvml.h (1 s average on Ampere, except GA100, and newer); arXiv 2312.02741, workbook, for branch
        530, in which those boards showed the quick sensor.
    """
    named: str = profile["driver.power_usage"]
    return "instant" if named == "average" and branch == 530 else named


def mig_instances(profile: Profile, names: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Return MIG instances as (profile, slices, memory in MiB).

    Args:
        profile: The board.
        names: Instance profiles as NVIDIA writes them: "1g.10gb", "3g.40gb".

    Raises:
        InvalidArgument: The board has no MIG, a name is none, or they need more slices or memory than there are.
    """
    found = [(name, _MIG_PROFILE.fullmatch(name)) for name in names]
    if profile["board.architecture"] not in ("ampere", "hopper") or profile["board.brand"] != "nvidia":
        raise InvalidArgument(f"a {profile.name} has no MIG; take a100, h100 or gh200")
    bad = [name for name, match in found if not match]
    if bad:
        raise InvalidArgument(f"MIG instance {bad[0]!r} is not of the form 1g.10gb")
    instances = tuple((name, int(match[1]), int(match[2]) << 10) for name, match in found if match)
    room = (api_sim.MAX_MIG, profile["board.memory_mib"])
    if sum(one[1] for one in instances) > room[0] or sum(one[2] for one in instances) > 1.1 * room[1]:
        raise InvalidArgument(
            f"MIG instances {', '.join(names)} do not fit a {profile.name}: {room[0]} slices and {room[1]} MiB"
        )
    return instances


def draw_board(
    profile: Profile, *, board_seed: int | None, gpu: int, seed: int, branch: int, counter: str, start_ns: int
) -> Board:
    """Return board number `gpu`: the profile's own figures, or one drawn by `board_seed`.

    Args:
        profile: The board's type.
        board_seed: None: gain 1, offset 0, no noise, ticks at multiples of T of the clock. An integer draws
            gain, offset, noise, phase, T, W, tau and delay within the profile's spreads; the same integer
            draws the same board.
        gpu: Index; each GPU of a node is a board of its own.
        seed: Of jitter and noise.
        branch: Driver branch; before 530 fields 185 and 186 do not exist.
        counter: "integrating" or "attended": what the energy counter counts.
        start_ns: From when it counts.
    """
    dice = random.Random(stable_hash("board", profile.name, board_seed, gpu))
    drawn = board_seed is not None

    def factor(name: str) -> float:
        low, high = profile[f"spread.{name}"]
        return dice.uniform(low, high) if drawn else 1.0

    def normal(mean: float, sd: float) -> float:
        # Cut at 2.6 sd: a board further out would be sent back.
        return NormalDist(mean, sd).inv_cdf(dice.uniform(0.005, 0.995)) if drawn else mean

    gain = normal(1.0, profile["spread.gain_sd"])
    offset_w = normal(0.0, profile["spread.offset_sd_w"])
    noise_w = dice.uniform(*profile["spread.noise_w"]) if drawn else 0.0
    # One oscillator and one shunt a board: T and gain are common to its sensors.
    period, window, average_window = factor("period"), factor("window"), factor("average_window")
    tau, delay, phase = factor("tau"), factor("delay"), dice.random() if drawn else 0.0

    def figure(sensor: str, name: str) -> float:
        return float(profile.figures.get(f"sensor.{sensor}.{name}", 0.0))

    def build(sensor: str) -> api_sim.Sensor:
        wide = average_window if sensor.endswith("average") else window
        period_ns = round(figure(sensor, "period_ms") * period * _MS)
        common: dict[str, Any] = {
            "period_ns": period_ns,
            "phase_ns": int(phase * period_ns),
            "jitter_ns": round(figure(sensor, "jitter_ms") * _MS),
            "seed": stable_hash("sensor", profile.name, seed, gpu, sensor),
            "gain": gain,
        }
        if sensor == "energy":
            watched = build(next(s for s in POWER_SENSORS if s in profile.sensors))
            quantum = int(figure(sensor, "quantum_mj"))
            if counter == "attended":  # the power sensor's own ticks and windows
                return replace(
                    watched, kind=api_sim.ATTENDED, quantum=quantum, start_ns=start_ns, tau_ns=0,
                    offset_mw=0.0, noise_mw=0.0,
                )  # fmt: skip
            return api_sim.Sensor(kind=api_sim.COUNTER, quantum=quantum, start_ns=start_ns, **common)
        return api_sim.Sensor(
            kind=api_sim.GAUGE,
            window_ns=round(figure(sensor, "window_ms") * wide * _MS),
            tau_ns=round(figure(sensor, "tau_ms") * tau * _MS),
            delay_ns=round(figure(sensor, "delay_ms") * delay * _MS),
            offset_mw=(offset_w + figure(sensor, "base_w")) * 1e3,
            noise_mw=noise_w * 1e3,
            quantum=int(figure(sensor, "quantum_mw")),
            **common,
        )

    sensors = {name: build(name) for name in profile.sensors}
    if branch < 530 and "usage" not in sensors:
        sensors["usage"] = sensors[power_usage_sensor(profile, branch)]
        for field in ("instant", "average", "module", "module_average"):
            sensors.pop(field, None)
    return Board(gain, offset_w, noise_w, sensors)


def stable_hash(*parts: object) -> int:
    """Return 63 bits that depend on `parts` alone, the same in every process and version."""
    text = "\x1f".join(map(repr, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
