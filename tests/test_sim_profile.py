# SPDX-License-Identifier: Apache-2.0
"""Profiles are data with origins, and boards drawn from them stay within their spreads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample._native import api_sim
from powersample.cli import main
from powersample.errors import InvalidArgument
from powersample.sim import load_profile, profile_names
from powersample.sim.profile import draw_board, driver, power_usage_sensor

NAMES = ("a100", "gh200", "h100", "k40m", "m40", "p100", "rtx2080ti", "rtx3090", "rtx4090", "v100")


def draw(name: str, board_seed: int | None, *, gpu: int = 0, branch: int = 535, counter: str = "integrating"):
    return draw_board(
        load_profile(name),
        board_seed=board_seed,
        gpu=gpu,
        seed=0,
        branch=branch,
        counter=counter,
        start_ns=0,
    )


def test_profile_names_are_the_packaged_ones():
    assert profile_names() == NAMES


def test_profile_names_stand_in_the_help_of_record(capsys):
    with pytest.raises(SystemExit):
        main(["record", "--help"])
    text = capsys.readouterr().out
    assert [name for name in NAMES if name not in text] == []


def test_profile_unknown_lists_the_known():
    with pytest.raises(InvalidArgument, match=r"h200.*a100, gh200, h100, k40m"):
        load_profile("h200")


@pytest.mark.parametrize("name", NAMES)
def test_profile_every_figure_has_an_origin(name):
    profile = load_profile(name)
    assert profile.figures.keys() == profile.origins.keys()
    assert all(len(origin) > 5 for origin in profile.origins.values())
    assert profile["board.idle_w"] < profile["board.max_w"] <= profile["board.limit_max_w"]


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("h100", None, "average"),
        ("rtx3090", None, "average"),
        ("rtx4090", "550.54.15", "average"),
        ("rtx4090", "530.41.03", "instant"),
        ("a100", None, "instant"),
        ("v100", None, "instant"),
        ("p100", None, "instant"),
        ("m40", None, "instant"),
        ("rtx2080ti", None, "instant"),
        ("gh200", None, "average"),
        ("k40m", None, "usage"),
    ],
)
def test_power_usage_follows_generation_and_branch(name, version, expected):
    profile = load_profile(name)
    assert power_usage_sensor(profile, driver(profile, version).branch) == expected


@pytest.mark.parametrize(
    ("name", "sensors"),
    [
        ("h100", {"instant", "average", "energy"}),
        ("gh200", {"instant", "average", "module", "module_average", "energy", "samples"}),
        ("rtx4090", {"instant", "average", "energy"}),
        ("a100", {"instant", "energy", "samples"}),
        ("rtx2080ti", {"instant", "energy", "samples"}),
        ("v100", {"instant", "energy", "samples"}),
        ("p100", {"instant", "samples"}),
        ("m40", {"instant", "samples"}),
        ("k40m", {"usage", "samples"}),
    ],
)
def test_board_has_the_sensors_of_its_generation(name, sensors):
    assert draw(name, None).sensors.keys() == sensors


def test_board_before_branch_530_has_no_power_fields():
    board = draw("h100", None, branch=525)
    assert board.sensors.keys() == {"usage", "energy"}
    assert board.sensors["usage"].window_ns == 1_000_000_000


@pytest.mark.parametrize("name", NAMES)
def test_board_not_drawn_is_the_profile_itself(name):
    board = draw(name, None)
    assert (board.gain, board.offset_w, board.noise_w) == (1.0, 0.0, 0.0)
    for sensor, settings_ in board.sensors.items():
        assert settings_.phase_ns == 0
        assert settings_.period_ns == round(load_profile(name)[f"sensor.{sensor}.period_ms"] * 1e6)


@given(st.sampled_from(NAMES), st.integers(-(2**31), 2**63), st.integers(0, 15))
@settings(max_examples=60, deadline=None)
def test_board_drawn_lies_within_the_spreads_and_repeats(name, seed, gpu):
    profile, plain, board = load_profile(name), draw(name, None), draw(name, seed, gpu=gpu)
    assert board == draw(name, seed, gpu=gpu)
    assert abs(board.gain - 1) <= 2.6 * profile["spread.gain_sd"]
    assert abs(board.offset_w) <= 2.6 * profile["spread.offset_sd_w"]
    for sensor, drawn in board.sensors.items():
        low, high = profile["spread.period"]
        assert low * 0.999 <= drawn.period_ns / plain.sensors[sensor].period_ns <= high * 1.001
        assert drawn.gain == board.gain
        assert 0 <= drawn.phase_ns < drawn.period_ns
        assert 2 * drawn.jitter_ns < drawn.period_ns


def test_board_seeds_and_gpus_draw_different_boards():
    gains = {draw("h100", seed, gpu=gpu).gain for seed in range(5) for gpu in range(3)}
    assert len(gains) == 15


def test_board_attended_counter_has_the_ticks_of_the_power_sensor():
    board = draw("h100", 7, counter="attended")
    energy, instant = board.sensors["energy"], board.sensors["instant"]
    assert energy.kind == api_sim.ATTENDED
    assert energy.publications(0, 10**10).tolist() == instant.publications(0, 10**10).tolist()
    assert energy.window_ns == instant.window_ns


def test_driver_versions_belong_together():
    assert driver(load_profile("h100"), None).nvml == "12.535.247.01"
    assert driver(load_profile("h100"), None).cuda == 12020
    assert driver(load_profile("k40m"), None).nvml == "11.470.256.02"
    assert driver(load_profile("k40m"), "361.119").cuda == 8000
    for bad in ("535", "abc.1", "340.1", "535.x"):
        with pytest.raises(InvalidArgument, match="driver version"):
            driver(load_profile("h100"), bad)
