# SPDX-License-Identifier: Apache-2.0
"""The race's picture and the options that lead to it, without a race."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from powersample import cli
from powersample.experiments import plots
from powersample.experiments.baselines import Account
from powersample.experiments.method import Lap, Method
from powersample.experiments.race import Race, Setup, to_text, write_png
from powersample.experiments.race.draw import cycles_w
from powersample.experiments.workload import Epoch
from powersample.model import Window

S = 1_000_000_000


def lap(power=True):
    """Two seconds at 100 W, then one at 400 W."""
    windows = (Window("epoch 0", 0, 2 * S), Window("epoch 1", 2 * S, 3 * S))
    known = (np.array([0, 2 * S, 3 * S], np.int64), np.array([100.0, 400.0])) if power else None
    return Lap(Window("run", 0, 3 * S), windows, np.array([200.0, 400.0]), 600.0, power=known)


def method(name, hz, of=None):
    t_ns = np.arange(0, 3 * S, round(S / hz), dtype=np.int64)
    watts = np.where(t_ns < 2 * S, 100.0, 400.0)
    accounts = (Account(201.0), Account(None if name == "zeus" else 390.0))
    published = np.arange(0, 3 * S, S // 10, dtype=np.int64)
    return Method(name, "a field", hz, None, of or lap(), t_ns, watts, "trapezoid", accounts, 600.0, published)


def race(*methods, names=("native",)):
    return Race(
        setup=Setup(methods=names),
        headline="SIMULATED NODE h100, not a measurement",
        reference="the truth",
        counter_is_reference=False,
        simulated=True,
        described={},
        epochs=(Epoch(2.0, 0.5),),
        methods=methods,
    )


def test_cycles_of_a_step_are_exact_means():
    assert cycles_w(lap()) == pytest.approx([100.0] * 20 + [400.0] * 9)


SOME = (method("native", 100.0, lap(power=False)), Method("codecarbon", "the counter", 10.0, reason="not installed"))
MANY = tuple(method(name, 10.0) for name in ("native", "pynvml-thread", "nvidia-smi-lms", "ea-has-tracer", "zeus"))


@pytest.mark.parametrize("methods", [SOME, MANY], ids=["no exact power", "an epoch without energy"])
def test_picture_is_a_png_whatever_ran(methods, tmp_path):
    write_png(race(*methods), tmp_path / "race.png")
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("together", "whose"), [(False, "its own lap"), (True, "the lap they shared")])
def test_picture_says_whose_lap_is_drawn_and_where_many_colours_are_named(together, whose, tmp_path):
    shown = replace(race(*MANY), setup=Setup(methods=("native",), together=together))
    with pytest.MonkeyPatch.context() as patch:
        titles = []
        patch.setattr("matplotlib.axes.Axes.set_title", lambda _, text: titles.append(text))
        write_png(shown, tmp_path / "race.png")
    assert titles[0].endswith(f"over the exact power of {whose}")
    assert any(one.endswith("(colours as below)") for one in titles)


def test_colours_of_any_two_methods_are_told_apart():
    """Two browns and two blues were not."""
    rgb = [np.array(to_rgb(colour)) for colour in plots.COLOURS.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(rgb, 2)) > 0.25


def twins(thread):
    """Return a thread and another on field 186 that is as far off, as where power.draw is that field."""
    return thread, replace(thread, name="pynvml-instant")


@pytest.mark.parametrize(
    ("name", "dark"),
    [("native", True), ("pynvml-instant", False), ("pynvml-thread", False), ("nvidia-smi-spawn", True)],
)
def test_text_on_a_bar_is_white_on_dark_ones_alone(name, dark):
    assert plots.is_dark(plots.colour_of(name)) == dark


def test_text_says_before_any_table_what_the_field_does(tmp_path):
    """A thread on native's own field tells the field's part of native's lead from the sampler's."""
    off = {"native": 1.01, "pynvml-thread": 1.4, "pynvml-instant": 1.02}
    methods = [
        replace(method(name, 100.0), accounts=(Account(200 * factor), Account(400 * factor)))
        for name, factor in off.items()
    ]
    text = to_text(race(*methods)).replace("\n  ", " ")
    said = "off by 40.0 % (median of 1 epochs: 1 x 2 s) by PowerUsage and by 2.0 % by field 186; native, which reads"
    assert 0 < text.index(said) < text.index("updates")
    assert "by 1.0 %. So few epochs are a hint, no more." in text
    assert " n=1    n=1\n" in text
    doubted = replace(methods[0], accounts=tuple(replace(one, verdict="poor") for one in methods[0].accounts))
    text = to_text(race(doubted, *methods[1:])).replace("\n  ", " ")
    assert "by 1.0 %, and calls 2 of its 2 epochs poor or unusable itself." in text
    assert "field counts before the sampler" not in to_text(race(methods[0]))
    assert "pynvml-thread reads a field, native a field" in to_text(race(*methods[:2]))


def test_text_claims_no_effect_of_a_field_that_was_not_seen(tmp_path):
    """Two threads that are as far off up to noise, and one whose PowerUsage is field 186 by another name."""
    native, thread = method("native", 100.0), method("pynvml-thread", 100.0)
    thread = replace(thread, accounts=(Account(280.0), Account(560.0)))
    near = replace(thread, name="pynvml-instant", accounts=(Account(279.0), Account(559.0)))
    assert "that the field counts is not seen here" in to_text(race(native, thread, near)).replace("\n  ", " ")
    assert "not seen here" in to_text(race(native, *twins(thread))).replace("\n  ", " ")
    same = replace(thread, reads="PowerUsage (instant: low-passed, every 20 ms)")
    assert "native's lead is not the field's" in to_text(race(native, same)).replace("\n  ", " ")


def test_picture_that_is_somebodys_is_not_replaced(tmp_path, capsys):
    (tmp_path / "mine.png").write_text("mine")
    assert cli.main(["race", "--png", str(tmp_path / "mine.png")]) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "mine.png").read_text() == "mine"


OF_THE_RACE = (
    ["--methods", "native"], ["--python-load"], ["--pairs", "3"], ["--pairs", "0"], ["--epochs", "4"],
    ["--training", "numpy"], ["--gpus", "0"],
)  # fmt: skip


@pytest.mark.parametrize("option", OF_THE_RACE)
def test_paper_refuses_options_of_the_race_zeros_included(option, capsys):
    assert cli.main(["race", "--paper", *option]) == 2
    assert f"leave {option[0]} out" in capsys.readouterr().err
