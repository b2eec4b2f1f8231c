# SPDX-License-Identifier: Apache-2.0
"""The simulated node's wall power: an exact function of what its parts draw, whatever drew it."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample._native.api_sim import Truth
from powersample._native.api_wall import TOLERANCE_PJ, Wall, WallModel
from powersample.cli import main
from powersample.errors import InvalidArgument, StateError
from powersample.session.simulate import make_node, truth_series
from powersample.sim import Node, load_cpu_profile, node_profile_names, profile_names
from powersample.sim.cpu import unit
from powersample.sim.supply import draw, load_node_profile, made_of, wall_model
from powersample.sim.tree import Counters

S = 1_000_000_000
TAU_S = 0.02
PLAIN = WallModel(50e3, 0.02, 5e-9, round(TAU_S * S), 300e3, 0.5, 200e3, 900e3, 2 * S, S // 10)


@pytest.fixture(scope="module")
def paper():
    with Node("paper-node") as node:
        yield node


def soon():
    """An instant that no load given next is late for, on any machine."""
    return time.monotonic_ns() + S // 4


def components_w(node, t_ns):
    """What RAPL and NVML count: packages, DRAM and GPUs."""
    counted = [part.name for part in node.parts if part.domain in ("package", "dram")]
    return sum(float(node.truth_power_w(name, t_ns)[0]) for name in (*counted, "gpus"))


# ---- exactness ----------------------------------------------------------------------------------------------------


@st.composite
def loads(draw):
    """Steps and waves of two devices within two seconds."""
    step = st.tuples(st.integers(1, 400_000_000), st.integers(0, 700_000), st.integers(0, 700_000), st.booleans())
    return draw(st.lists(st.lists(step, max_size=5), min_size=2, max_size=2))


@settings(max_examples=60, deadline=None)
@given(loads=loads(), cuts=st.lists(st.integers(0, 3 * S), min_size=3, max_size=3))
def test_wall_energy_is_additive_and_covers_its_parts(loads, cuts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truths")
    truths = [Truth.create(folder / str(i), 0, 100_000) for i in range(len(loads))]
    for truth, steps in zip(truths, loads, strict=True):
        at = 0
        for gap, p1, p2, wave in steps:
            at += gap
            truth.append(at, p1, *((p2, 3_000_000, 1_000_000) if wave else ()), live=False)
    wall = Wall(PLAIN, truths)
    a, b, c = sorted(cuts)
    assert wall.energy_pj(a, b) + wall.energy_pj(b, c) == wall.energy_pj(a, c)
    held_j = TAU_S * (wall.state(c).wall_w - wall.state(a).wall_w)  # what the supply took in, or gave
    assert wall.joules(a, c) + held_j >= sum(truth.joules(a, c) for truth in truths)
    wall.close()
    for truth in truths:
        truth.close()


def test_wall_of_a_script_is_the_exact_exponential(paper):
    with Node("h100", cpu="intel_spr", time_scale=1) as node:
        before = node.wall.state(time.monotonic_ns())
        start = node.load_script(0, [(0, 300)], start_ns=soon())
        after = node.wall.state(start)
        assert before.parts_w == 48 + 100 + 12 + 170
        assert before.wall_w == before.supply_w == pytest.approx(after.wall_w, abs=1e-9)
        assert after.parts_w == before.parts_w + 252
        step_w = after.supply_w - before.supply_w
        for t_s in (0.005, 0.02, 0.09):  # the fans look every 0.1 s from the truth's beginning on, see below
            expected = before.supply_w * t_s + step_w * (t_s - TAU_S * -np.expm1(-t_s / TAU_S))
            until = start + round(t_s * 1e9)
            moved_w = abs(node.wall.state(until).supply_w - after.supply_w)
            assert node.truth_j("wall", start, until) == pytest.approx(expected, abs=1e-9 + moved_w * t_s)


def test_wall_of_waves_and_of_followed_programs_is_above_the_node(paper):
    with Node("a100", gpus=2, cpu="amd_milan") as node:
        node.load_wave(0, 60, 250, period_s=0.004, duty=0.3)
        begin = time.monotonic_ns()
        end = node.load_wave(1, 60, 250, period_s=0.003, duty=0.5) + S // 2
        assert node.truth_j("wall", begin, end) > node.truth_j("node", begin, end)
    with Node("a100") as node:
        node.follow()
        begin = time.monotonic_ns()
        while time.monotonic_ns() < begin + S // 10:
            pass
        end = time.monotonic_ns()
        asked = node.truth_j("wall", begin, end)
        node.unfollow()
        if not node.truth_state()["truth_void"]:  # where the follower is late it says so
            assert node.truth_j("wall", begin, end) == asked  # the past does not change
        asked = node.truth_j("wall", begin, end)
        held_j = TAU_S * float(np.diff(node.truth_power_w("wall", [begin, end]))[0])
        assert asked + held_j > node.truth_j("node", begin, end)


def test_wall_lines_of_the_recorded_truth_stay_within_a_millijoule():
    with Node("h100", gpus=2, cpu="intel_spr") as node:
        start = node.load_wave(0, 60, 350, period_s=0.05, duty=0.4, start_ns=soon())
        node.load_script("package-0", [(0, 100), (0.3, 350)], start_ns=start)
        pieces = [one for one in truth_series(node, start - S, start + S) if one.channel.device == "wall"]
        assert {(one.channel.name, one.channel.domain) for one in pieces} == {("truth.wall.energy", "wall")}
        t_ns, raw = (np.concatenate([getattr(one, name) for one in pieces]) for name in ("t0_ns", "raw"))
        assert np.all(np.diff(t_ns) > 0)
        at = np.random.default_rng(1).integers(start - S, start + S, 300)
        lines_j = np.interp(at, t_ns, raw) * 1e-9
        exact_j = [node.truth_j("wall", start - S, int(t)) for t in at]
        assert np.max(np.abs(lines_j - exact_j)) < 1.01e-12 * TOLERANCE_PJ
        assert raw[-1] * 1e-9 == pytest.approx(node.truth_j("wall", start - S, start + S), rel=1e-12)


def test_wall_mean_is_its_energy_by_its_time_and_asked_from_any_thread(paper):
    now = time.monotonic_ns()
    spans = [(now - k * 50_000_000, now - (k - 1) * 50_000_000) for k in range(20, 60)]
    expected = [paper.truth_j("wall", *span) / 0.05 for span in spans]
    found = {}

    def ask(which):
        found[which] = [paper.wall.mean_w(*span) for span in spans]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i] == pytest.approx(expected, rel=1e-12) for i in range(4))
    assert paper.wall.mean_w(now, now) == paper.truth_power_w("wall", now)[0]


def test_wall_has_no_load_of_its_own_and_ends_with_its_node():
    node = Node("k40m")
    assert node.devices[-1] == "wall"
    with pytest.raises(InvalidArgument, match=r"what the whole node draws\. Load gpu0"):
        node.load_script("wall", [(0, 100)])
    wall = node.wall
    node.close()
    with pytest.raises(StateError):
        _ = node.wall
    with pytest.raises(StateError):
        wall.joules(0, 1)


# ---- profiles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generic", *node_profile_names()])
def test_node_profile_every_figure_has_an_origin(name):
    profile = load_node_profile(name)
    assert profile.figures.keys() == profile.origins.keys()
    assert all(len(origin) > 4 for origin in profile.origins.values())


def test_paper_node_has_the_papers_parts(paper):
    assert paper.name == "paper-node"
    assert paper.profile.name == "h100"
    assert len(paper.gpu_uuids) == 4
    assert paper.describe()["cpu"] == {"profile": "intel_spr", "packages": 2}
    assert json.dumps(paper.describe()["wall"])


def test_paper_node_idle_has_the_papers_uncaptured_power(paper):
    now = time.monotonic_ns()
    wall_w = paper.truth_j("wall", now - S, now)
    assert wall_w - components_w(paper, now) == pytest.approx(783, abs=0.5)


def test_paper_node_under_a_cpu_load_has_the_papers_uncaptured_power():
    with Node("paper-node", time_scale=1000) as node:  # the fans settle in 0.2 s
        start = node.load_script("package-0", [(0, 350)])
        node.load_script("package-1", [(0, 350)])
        later = start + S
        wall_w = node.truth_j("wall", later, later + S)
        assert wall_w - components_w(node, later) == pytest.approx(811, abs=0.5)


def test_paper_node_by_name_on_the_command_line(capsys):
    assert make_node.__doc__
    with make_node("paper-nodex2") as node:
        assert len(node.gpu_uuids) == 2
    for spec in ("paper-node+amd_milan", "paper-nodes"):
        with pytest.raises(InvalidArgument, match=r"has its own CPUs|paper-node"):
            make_node(spec)
    assert main(["sim", "paper-node", "--json", "--duration", "0.1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["node"]["profile"] == "paper-node"
    assert told["truth"]["wall"]["mean_w"] == pytest.approx(783 + 4 * 48 + 2 * 128, abs=1)


@pytest.mark.parametrize("name", profile_names())
def test_every_node_has_a_supply_of_its_size(name):
    with Node(name) as node:
        now = time.monotonic_ns()
        node_w, wall_w = (node.truth_j(which, now - S, now) for which in ("node", "wall"))
        assert 1.05 < wall_w / node_w < 3  # idle is a small part of what the supply is for
        state = node.wall.state(node.load_script(0, [(0, node.profile["board.max_w"])]))
        assert 0.88 < (state.parts_w + state.fans_w) / state.supply_w < 0.97


def ranges(made):
    return [(100_000, 400_000)] * made.gpus + [(400_000, 900_000)]


def test_drawn_nodes_differ_within_their_spreads_and_repeat():
    made = made_of("paper-node", None, None, None)
    drawn = [draw(made, seed) for seed in range(200)]
    again = [draw(made, seed) for seed in range(200)]
    assert drawn == again
    models = [wall_model(kind, factors, ranges(kind), 1.0) for kind, factors in drawn]
    plain = wall_model(made, draw(made, None)[1], ranges(made), 1.0)
    for name in ("loss_fixed_mw", "loss_ratio", "loss_per_mw", "tau_ns", "fan_max_mw", "fan_tau_ns"):
        spread = np.array([getattr(model, name) for model in models]) / getattr(plain, name)
        assert 0.45 < spread.min() < 0.85
        assert 1.15 < spread.max() < 2.1
    boards = np.array([kind.cpu["board.idle_w"] for kind, _ in drawn])
    assert 0.8 * 510.5 <= boards.min() < 450
    assert 580 < boards.max() <= 1.25 * 510.5
    assert np.std([factors.meter_gain for _, factors in drawn]) == pytest.approx(0.0002, rel=0.2)
    assert all(model.fan_low_mw < model.fan_high_mw and 0 <= model.fan_min_speed <= 1 for model in models)


def test_drawn_node_draws_its_boards_too():
    with Node("paper-node", node_seed=5) as node, Node("paper-node", board_seed=5) as boards:
        assert [board.gain for board in node.boards] == [board.gain for board in boards.boards]
        assert node.boards[0].gain != 1
        assert node.describe()["wall"]["node_seed"] == 5
        now = time.monotonic_ns()
        assert node.truth_j("wall", now - S, now) != pytest.approx(boards.truth_j("wall", now - S, now), rel=1e-3)


def test_drawn_node_counts_what_its_gains_make_of_the_truth():
    with Node("paper-node", node_seed=5) as node:
        gains = node.describe()["counter_gains"]
        assert gains.keys() == {"package-0", "package-1", "psys"}
        assert 0.01 < max(abs(gain - 1) for gain in gains.values()) < 0.08
        file = node.sysfs / "class/powercap/intel-rapl:1/energy_uj"
        begin_ns, before = time.monotonic_ns(), int(file.read_text())
        time.sleep(0.3)
        end_ns, after = time.monotonic_ns(), int(file.read_text())
        unsure = (node.truth_state()["files"]["late_max_ns"] + 4_000_000) / (end_ns - begin_ns)
        counted_w = (after - before) * 1e3 / (end_ns - begin_ns)
        assert counted_w == pytest.approx(100 * gains["package-1"], rel=unsure)


@pytest.mark.parametrize("profile", ["intel_spr", "amd_milan"])
def test_gain_of_a_counter_is_a_factor_of_its_unit(profile):
    package = unit(load_cpu_profile(profile), "package")
    counters = Counters(0, 32, None, 0, {"package-0": 1.0123})
    plain, with_gain = (Fraction(*counters.per_pj(name, package, 16)) for name in ("package-1", "package-0.dram"))
    assert plain == Fraction(package.counts_num, package.counts_den * 10**12 * 16)
    assert with_gain / plain == Fraction(10123, 10000)
    assert max(counters.per_pj("package-0", package, 64)) < 2**63


def test_time_scale_hastens_supply_and_fans_alone():
    made = made_of("h100", 1, "intel_spr", 1)
    drawn = draw(made, None)[1]
    slow, quick = (wall_model(made, drawn, ranges(made), scale) for scale in (1.0, 20.0))
    assert (quick.tau_ns, quick.fan_tau_ns, quick.grid_ns) == (1_000_000, 1_500_000_000, 5_000_000)
    names = ("tau_ns", "fan_tau_ns", "grid_ns")
    same = {field: getattr(slow, field) for field in names}
    assert dataclasses.replace(quick, **same) == slow
    with pytest.raises(InvalidArgument, match="time_scale"):
        Node("h100", time_scale=0)
