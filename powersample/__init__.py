# SPDX-License-Identifier: Apache-2.0
"""Joules of a program on a GPU node, from a native sampler that the program cannot stall.

    import powersample as ps

    with ps.measure() as run:
        for epoch in range(3):
            with run.window(f"epoch {epoch}"):
                train_one_epoch()
    print(run.report())

Names are loaded when first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from powersample.analysis import energies, energy, holistic
    from powersample.marks import step, window
    from powersample.report import build as make_report
    from powersample.session import Run, measure
    from powersample.store import load, save

__version__ = "0.1.0"

_HOMES = {  # no name here may be a room's: importing the room would put it in the name's place
    "Run": ("powersample.session", "Run"),
    "energies": ("powersample.analysis", "energies"),
    "energy": ("powersample.analysis", "energy"),
    "holistic": ("powersample.analysis", "holistic"),
    "load": ("powersample.store", "load"),
    "make_report": ("powersample.report", "build"),
    "measure": ("powersample.session", "measure"),
    "save": ("powersample.store", "save"),
    "step": ("powersample.marks", "step"),
    "window": ("powersample.marks", "window"),
}

__all__ = [
    "Run",
    "__version__",
    "energies",
    "energy",
    "holistic",
    "load",
    "make_report",
    "measure",
    "save",
    "step",
    "window",
]


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
