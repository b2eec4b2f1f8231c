# SPDX-License-Identifier: Apache-2.0
"""`powersample race`: the usual ways of sampling against each other, and all against what is known for sure."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from powersample.cli import latency
from powersample.cli.output import check_picture, emit

EXAMPLE = """\
methods:
  native, native-follow, native-binary    the sampler in this process, following updates, as a program
  pynvml-thread, cuda-bindings            NVIDIA's Python packages in a thread, reading PowerUsage
  pynvml-instant                          the same thread reading field 186, as native does
  nvidia-smi-spawn, nvidia-smi-lms        a process a reading; one process in its own loop
  ea-has-tracer                           nvidia-smi -q -x each 0.1 s, energy = mean x time
  codecarbon, zeus, carbontracker         the packages themselves, offline

examples:
  powersample race
  powersample race --python-load --methods native,pynvml-thread
  powersample race --simulate a100 --board 7 --latency 400us -o race.json --png race.png
  powersample race --paper --png paper.png
  powersample race --causes
"""

OF_TRAINING = ("epoch_seconds", "epochs", "in_turn", "together", "python_load", "training")
NOT_FOR_PAPER = ("methods", *OF_TRAINING, "nvml_lib", "gpus", "pairs")
NOT_FOR_CAUSES = (*NOT_FOR_PAPER, "board", "latency", "seed", "png")


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "race",
        help="nvidia-smi, pynvml, native and others measure the same training, each against the truth",
        description="Experiment 1 of arXiv 2505.15631: every usual way of sampling GPU power measures the same\n"
        "epochs, each by itself, because at once they would slow each other and the training. On a GPU the\n"
        "reference is its energy counter, without one a simulated node's exact truth.\n"
        "About 80 s; --paper takes 60, and more by calls of a --latency; --causes takes 20.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = verb.add_mutually_exclusive_group()
    what.add_argument(
        "--paper", action="store_true", help="the paper's collection loop on short epochs, its findings beside ours"
    )
    what.add_argument("--causes", action="store_true", help="what costs what: process, driver, lock, sensor")
    verb.add_argument(
        "--methods", metavar="A,B", help="who takes part, see below; default all: those that cannot run say why"
    )
    verb.add_argument(
        "--epoch-seconds", metavar="S,S", help="lengths of the training's epochs; default 0.3,1; longer: 0.3,1,3,10"
    )
    verb.add_argument("--epochs", type=int, metavar="N", help="epochs of each method; default what fits into 80 s")
    how = verb.add_mutually_exclusive_group()
    how.add_argument("--in-turn", action="store_true", help="each method alone, on a run of its own; the default")
    how.add_argument("--together", action="store_true", help="all methods measure one run, and disturb each other")
    verb.add_argument("--python-load", action="store_true", help="keep the interpreter busy in pure Python")
    verb.add_argument(
        "--training", help="numpy or torch; default torch on a real GPU where it is installed, else numpy"
    )
    verb.add_argument("--simulate", metavar="NODE", help="a simulated node, such as h100 or a100")
    verb.add_argument("--board", type=int, metavar="SEED", help="draw its gain, offset and phase; default perfect")
    verb.add_argument(
        "--latency", metavar="TIME", help="of every call of its driver, such as 400us or 2ms; default none"
    )
    verb.add_argument("--nvml-lib", metavar="PATH", help="the NVML library; default the driver's")
    verb.add_argument("--gpus", type=int, metavar="N", help="index of the one GPU of a real machine; default 0")
    verb.add_argument(
        "--nvidia-smi",
        type=Path,
        metavar="PATH",
        help="NVIDIA's program; default: one on $PATH, then what doctor --fetch-nvidia-smi brought",
    )
    verb.add_argument("--pairs", type=int, metavar="N", help="pairs of blocks for the slowdown; default 6, 0: none")
    verb.add_argument("--seed", type=int, metavar="N", help="of every random order; default 1")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the JSON there")
    verb.add_argument("--png", type=Path, metavar="FILE", help="also draw it there; needs matplotlib; not of --causes")
    verb.add_argument("--force", action="store_true", help="replace what -o and --png name, if they exist")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Hold it, print it, write it."""
    from powersample.session.recording import check_output

    if options.output is not None:
        check_output(options.output, replace=options.force)
    check_picture(options.png, replace=options.force)
    held = _paper if options.paper else _causes if options.causes else _race
    try:
        data, text, draw = held(options)
    except KeyboardInterrupt:
        _note("interrupted; nothing was written")
        return 130
    written = json.dumps(data, indent=1, allow_nan=False)
    if options.output is not None:
        options.output.write_text(written + "\n", encoding="utf-8")
        _note(f"wrote {options.output}")
    emit(written if options.json else text)
    if options.png is not None and draw is not None:
        draw(options.png)
        _note(f"wrote {options.png}")
    return 0


Result = tuple[dict[str, Any], str, Callable[[Path], None] | None]


def _race(options: argparse.Namespace) -> Result:
    from powersample.experiments.race import run_race, to_json, to_text, write_png

    race = run_race(_setup(options), _note)
    return to_json(race), to_text(race), lambda path: write_png(race, path)


def _paper(options: argparse.Namespace) -> Result:
    from powersample.experiments.paper import run_paper, to_json, to_text, write_png

    _refuse(options, NOT_FOR_PAPER, "--paper is one load and two methods of its own")
    given = {"simulate": options.simulate, "seed": options.seed}
    paper = run_paper(
        board_seed=options.board, call_us=_call_us(options), nvidia_smi=options.nvidia_smi, say=_note, **_only(given)
    )
    return to_json(paper), to_text(paper), lambda path: write_png(paper, path)


def _causes(options: argparse.Namespace) -> Result:
    from powersample.experiments.race.causes import run_causes, to_json, to_text

    _refuse(options, NOT_FOR_CAUSES, "--causes has a node and runs of its own")
    causes = run_causes(nvidia_smi=options.nvidia_smi, say=_note, **_only({"simulate": options.simulate}))
    return to_json(causes), to_text(causes), None


def _refuse(options: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    from powersample.errors import InvalidArgument

    there = {name: getattr(options, name) for name in names}
    given = [f"--{name.replace('_', '-')}" for name, value in there.items() if value is not None and value is not False]
    if given:
        raise InvalidArgument(f"{why}; leave {', '.join(given)} out")


def _setup(options: argparse.Namespace) -> Any:
    from powersample.experiments.race import Setup

    given = {
        "methods": None if options.methods is None else tuple(_words(options.methods)),
        "lengths_s": None if options.epoch_seconds is None else _lengths_s(options.epoch_seconds),
        "pairs": options.pairs,
        "simulate": options.simulate,
        "board_seed": options.board,
        "call_us": _call_us(options),
        "nvml_library": options.nvml_lib,
        "nvidia_smi": options.nvidia_smi,
        "epochs": options.epochs,
        "training": options.training,
        "gpu": options.gpus,
        "seed": options.seed,
    }
    return Setup(together=options.together, python_load=options.python_load, **_only(given))


def _only(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given: defaults are theirs who know them."""
    return {name: value for name, value in given.items() if value is not None}


def _call_us(options: argparse.Namespace) -> float | None:
    return None if options.latency is None else round(1e6 * latency.seconds(options.latency), 3)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _lengths_s(text: str) -> tuple[float, ...]:
    from powersample.errors import InvalidArgument

    try:
        return tuple(float(word) for word in _words(text))
    except ValueError:
        raise InvalidArgument(f"--epoch-seconds {text}: numbers of seconds, such as 0.3,1,3") from None


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr, flush=True)
