# SPDX-License-Identifier: Apache-2.0
"""Boards that are not what the analysis takes them for: the sensor table's own exceptions, 1.5 times its spreads."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.coverage.scenario import Belief, Nature
from powersample.sim.profile import Profile, load_profile

WIDER = 1.5
FACTORS = ("period", "window", "average_window", "tau", "delay")
JITTER = (0.5, 3.0)

Exception_ = tuple[str, Mapping[str, float], Belief, str | None, str]

# Exceptions of arXiv 2312.02741's workbook, and what people get wrong: (words, figures, belief, driver, counter).
UNKNOWN: Exception_ = (
    "a board no table knows",
    {},
    Belief(name="Graphics Device", architecture=""),
    None,
    "integrating",
)
ATTENDED: Exception_ = ("a counter that sums up what the sensor saw", {}, Belief(), None, "attended")


def _figures(**of: float) -> dict[str, float]:
    return {f"sensor.{key.replace('__', '.')}": value for key, value in of.items()}


EXCEPTIONS: Mapping[str, tuple[Exception_, ...]] = {
    "a100": (
        ("W of 18 ms", _figures(instant__window_ms=18.0), Belief(), None, "integrating"),
        ("T of 104 ms", _figures(instant__period_ms=104.0), Belief(), None, "integrating"),
        UNKNOWN,
        ATTENDED,
    ),
    "h100": (
        ("W of 22 ms", _figures(instant__window_ms=22.0), Belief(), None, "integrating"),
        ("no lag, as the published 3090 shows", _figures(instant__tau_ms=0.0), Belief(), None, "integrating"),
        ("PowerUsage taken for quick", {}, Belief(version="530.41.03"), "525.116.04", "integrating"),
        UNKNOWN,
        ATTENDED,
    ),
    "gh200": (
        ("no lag, as the published 3090 shows", _figures(instant__tau_ms=0.0, module__tau_ms=0.0), Belief(), None,
         "integrating"),
        ("taken for an H100", {}, Belief(name="NVIDIA H100 PCIe"), None, "integrating"),
        ("PowerUsage taken for quick", {}, Belief(version="530.41.03"), "525.147.05", "integrating"),
        ATTENDED,
    ),
    "rtx3090": (
        ("W of 78 ms, as an A5000", _figures(instant__window_ms=78.0), Belief(), None, "integrating"),
        ("PowerUsage taken for an average", {}, Belief(version="535.54.03"), "530.41.03", "integrating"),
        ("tau of 114 ms, as rise times would have it", _figures(instant__tau_ms=114.0), Belief(), None, "integrating"),
        UNKNOWN,
    ),
    "rtx4090": (
        ("W of 110 ms", _figures(instant__window_ms=110.0), Belief(), None, "integrating"),
        ("another name of its generation", {}, Belief(name="NVIDIA GeForce RTX 4080"), None, "integrating"),
        UNKNOWN,
    ),
    "rtx2080ti": (
        ("W of 20 ms, as an RTX 8000", _figures(instant__window_ms=20.0, usage__window_ms=20.0), Belief(), None,
         "integrating"),
        ("taken for an RTX 8000", {}, Belief(name="Quadro RTX 8000"), None, "integrating"),
        UNKNOWN,
    ),
    "v100": (
        ("T of 23 ms", _figures(instant__period_ms=23.0), Belief(), None, "integrating"),
        UNKNOWN,
    ),
    "p100": (
        ("tau of 40 ms", _figures(instant__tau_ms=40.0), Belief(), None, "integrating"),
        UNKNOWN,
    ),
    "m40": (
        ("taken for the rest of its generation", {}, Belief(name="Tesla M60"), None, "integrating"),
        ("taken for a Pascal", {}, Belief(name="Tesla P40", architecture="pascal"), None, "integrating"),
        UNKNOWN,
    ),
    "k40m": (
        ("T of 100 ms, as Kepler 2.0", _figures(usage__period_ms=100.0), Belief(), None, "integrating"),
        ("tau of 150 ms", _figures(usage__tau_ms=150.0), Belief(), None, "integrating"),
        UNKNOWN,
    ),
}  # fmt: skip


def draw(name: str, seed: int) -> Nature:
    """Return the nature of scenario number `seed`: wider spreads always, one of the exceptions in most."""
    dice = random.Random(f"misspecified {name} {seed}")
    profile = _wider(load_profile(name), dice)
    kind = dice.randrange(len(EXCEPTIONS[name]) + 1)
    if kind == len(EXCEPTIONS[name]):
        return Nature(profile, exception="wider spreads alone")
    words, figures, belief, version, counter = EXCEPTIONS[name][kind]
    there = {key: value for key, value in figures.items() if key in profile.figures}
    profile = replace(profile, figures={**profile.figures, **there})
    return Nature(profile, version, counter, belief, words)


def _wider(profile: Profile, dice: random.Random) -> Profile:
    figures: dict[str, Any] = dict(profile.figures)
    for key in ("gain_sd", "offset_sd_w"):
        figures[f"spread.{key}"] = WIDER * figures[f"spread.{key}"]
    for key in FACTORS:
        low, high = figures[f"spread.{key}"]
        figures[f"spread.{key}"] = [max(0.1, 1 - WIDER * (1 - low)), 1 + WIDER * (high - 1)]
    for key in [one for one in figures if one.endswith(".jitter_ms")]:
        figures[key] = figures[key] * dice.uniform(*JITTER)
    return replace(profile, figures=figures)
