# SPDX-License-Identifier: Apache-2.0
"""`powersample demo`: see it work, without hardware."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from powersample.cli.output import emit

EXAMPLE = """\
examples:
  powersample demo
  powersample demo --board 7 --json
"""

DEFAULT = Path("demo.parquet")


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "demo",
        help="a training run on a simulated GPU, measured three ways against the truth",
        description="Train a small numpy network for about 15 s on a simulated GPU and measure it with the native "
        "sampler, a pynvml thread and NVIDIA's nvidia-smi at once. Needs no hardware.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "-o", "--output", type=Path, help=f"trace, and .png beside it; default {DEFAULT}, or the next free number"
    )
    verb.add_argument("--force", action="store_true", help="replace them if they exist")
    verb.add_argument("--simulate", default="h100", metavar="NODE", help="board to simulate; default h100")
    verb.add_argument(
        "--board", type=int, metavar="SEED", help="draw its gain, offset and phase; default a perfect one"
    )
    verb.add_argument("--nvidia-smi", type=Path, metavar="PATH", help="NVIDIA's program; default PATH, then the cache")
    verb.add_argument("--epochs", type=int, default=12, help="default 12")
    verb.add_argument("--epoch-seconds", type=float, default=1.2, metavar="S", help="default 1.2")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run it, print it, draw it."""
    from powersample import errors
    from powersample.experiments.demo import run_demo, to_json, to_text, write_png

    output = options.output or (DEFAULT if options.force else _free())
    picture = output.with_suffix(".png")
    if picture.exists() and not options.force:
        raise errors.OutputExists(f"{picture} exists; choose another name, or add --force to replace it")
    if options.output is None and output != DEFAULT:
        _note(f"an earlier demo lies here; this one becomes {output} and {picture}")
    demo = run_demo(
        output,
        profile=options.simulate,
        board_seed=options.board,
        epochs=options.epochs,
        epoch_s=options.epoch_seconds,
        nvidia_smi=options.nvidia_smi,
        replace=options.force,
        say=_note,
    )
    emit(json.dumps(to_json(demo), indent=1, allow_nan=False) if options.json else to_text(demo))
    try:
        write_png(demo, picture)
        _note(f"wrote {output} and {picture}")
    except errors.NotSupported as error:
        _note(f"wrote {output}; {error}")
    _note(f"next: powersample report {output}")
    return 0


def _free() -> Path:
    """Return the first of demo.parquet, demo-2.parquet ... whose recording, spool and picture are not there."""
    from powersample.session.recording import spool_of

    names = itertools.chain([DEFAULT], (DEFAULT.with_stem(f"{DEFAULT.stem}-{i}") for i in itertools.count(2)))
    return next(one for one in names if not any(map(Path.exists, (one, one.with_suffix(".png"), spool_of(one)))))


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr)
