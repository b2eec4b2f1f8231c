# SPDX-License-Identifier: Apache-2.0
"""Describes the compiled module `powersample._native._powersample` to cffi; run by setup.py only."""

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HEADERS = ("powersample.h", "powersample_sim.h")


def declarations(header: str) -> str:
    """Return the header's declarations: the text without preprocessor lines, except plain constants."""
    lines = (CSRC / "include" / header).read_text(encoding="utf-8").splitlines()
    kept: list[str] = []
    for line in lines:
        words = line.split("/*")[0].split()
        if line.startswith('extern "C"') or line == "}":
            continue
        if line.startswith("#"):
            if len(words) == 3 and words[0] == "#define" and words[2].isdigit():
                kept.append(" ".join(words))
            continue
        kept.append(line)
    return "\n".join(kept)


def sources() -> list[str]:
    """Return every C file of the module, relative to the project's root as setuptools wants them."""
    folders = ("core", "sources", "load", "physics", "node")
    return [str(path.relative_to(ROOT)) for folder in folders for path in sorted((CSRC / folder).glob("*.c"))]


ffi = FFI()
ffi.cdef("\n".join(declarations(header) for header in HEADERS))
ffi.set_source(
    "powersample._native._powersample",
    "\n".join(f'#include "{header}"' for header in HEADERS),
    sources=sources(),
    include_dirs=["csrc/include", "csrc"],
    depends=[str(path.relative_to(ROOT)) for path in sorted(CSRC.rglob("*.h"))],
    extra_link_args=["-pthread"],
    libraries=["dl", "m"],
)
