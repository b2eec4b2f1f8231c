# SPDX-License-Identifier: Apache-2.0
"""`powersample reproduce`: the paper's experiments on a simulated node of its kind."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from powersample.cli.output import check_picture, emit

EXAMPLE = """\
examples:
  powersample reproduce
  powersample reproduce --png reproduce.png -o reproduce.json
  powersample reproduce --nodes 5 --trainings 20
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "reproduce",
        help="the paper's experiments on a simulated node of its kind, its findings beside ours",
        description="Experiments 1, 2a, 2b and 2c of arXiv 2505.15631 on the simulated node of the paper and on nodes\n"
        "drawn around it: nvidia-smi's loop, NVML and powersample against the meter, Code Carbon and its\n"
        "corrections against the wall. All that was put in is listed, and every value of the paper marked\n"
        "as the paper's. Needs no hardware; about 3 minutes, most of it for the drawn nodes.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--nodes", type=int, metavar="N", help="nodes to draw; default 50")
    verb.add_argument("--trainings", type=int, metavar="N", help="of experiment 1; default 100, of the paper's 500")
    verb.add_argument("--seed", type=int, default=1, metavar="N", help="of all that is random; default 1")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the JSON there")
    verb.add_argument("--png", type=Path, metavar="FILE", help="also draw it there; needs matplotlib")
    verb.add_argument("--force", action="store_true", help="replace what -o and --png name, if they exist")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Hold it, print it, write it."""
    from powersample.experiments.reproduce import NODES, TRAININGS, run_reproduce, to_json, to_text, write_png
    from powersample.session.recording import check_output

    if options.output is not None:
        check_output(options.output, replace=options.force)
    check_picture(options.png, replace=options.force)
    study = run_reproduce(
        nodes=NODES if options.nodes is None else options.nodes,
        trainings=TRAININGS if options.trainings is None else options.trainings,
        seed=options.seed,
        say=_note,
    )
    written = json.dumps(to_json(study), indent=1, allow_nan=False)
    if options.output is not None:
        options.output.write_text(written + "\n", encoding="utf-8")
        _note(f"wrote {options.output}")
    emit(written if options.json else to_text(study))
    if options.png is not None:
        write_png(study, options.png)
        _note(f"wrote {options.png}")
    return 0


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr, flush=True)
