# SPDX-License-Identifier: Apache-2.0
"""The sheet that a report's picture is drawn on, and its colours."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.errors import NotSupported

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
# Okabe and Ito's palette, made for eyes that see colours differently.
BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
TRUTH = "0.72"
VERDICTS = {"good": GREEN, "fair": BLUE, "poor": ORANGE, "unusable": VERMILLION, "unrated": "#8a8f96"}
CURVES = (BLUE, ORANGE, GREEN)


def sheet(width_in: float, height_in: float) -> Figure:
    """Return an empty figure, of so many inches.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotSupported(
            f"a picture needs matplotlib ({error})", "Install it: pip install 'powersample[plot]'"
        ) from error
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")


def save_figure(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write a picture of the kind that its name's end says, in the place of an older one only once it is whole.

    Raises:
        DiskFull, AccessDenied, OSError: the file cannot be written; an older one is as it was.
    """
    from powersample.store.replace import write_new

    drawn = BytesIO()
    figure.savefig(drawn, dpi=dpi, format=path.suffix.removeprefix(".").lower() or None)
    write_new(path, [drawn.getvalue()], replace=True)
