# SPDX-License-Identifier: Apache-2.0
"""Replaces itself by the sampler executable.

Lives outside the package so that nothing is imported on the way: this command starts in a shell loop, too.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run `powersample-sampler` with this process's arguments; never returns."""
    program = Path(__file__).resolve().parent / "powersample" / "_bin" / "powersample-sampler"
    if not program.exists():  # a strict editable install keeps natives elsewhere
        from importlib.util import find_spec

        spec = find_spec("powersample")
        roots = list(spec.submodule_search_locations or []) if spec else []
        program = next((p for r in roots if (p := Path(r, "_bin", "powersample-sampler")).exists()), program)
    os.execv(program, ["powersample-sampler", *sys.argv[1:]])
