# SPDX-License-Identifier: Apache-2.0
"""What was measured of this user's own boards: one JSON file a board and driver version, field by field.

    $XDG_CONFIG_HOME/powersample/sensors/GPU-..._535.247.01.json     (~/.config/powersample/sensors/)

Only what was measured is kept, for it goes over whatever the table says on the day of a recording. A driver of another
version may give a field another meaning, so its file is another. A simulated board stays out of the user's own folder.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powersample.errors import AccessDenied, BadFormat, InvalidArgument, StateError, SystemFailure
from powersample.store.config import user_folder
from powersample.store.replace import replace_text

FOLDER = "sensors"
SCHEMA_VERSION = 1
NAMES = {  # safe in a file name; a log's "gpu0" is no board: every machine has one
    "UUID of a board": re.compile(r"GPU-[A-Za-z0-9-]+"),
    "driver version": re.compile(r"[0-9]+[0-9.]*"),
}


@dataclass(frozen=True, slots=True)
class BoardField:
    """What was measured of one field of a board.

    Attributes:
        found: plain values by field of a `SensorModel`.
        origin: where they come from.
    """

    found: Mapping[str, Any]
    origin: str


def sensors_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where the user's boards are kept; None when nothing tells where their home is."""
    folder = user_folder(os.environ if environment is None else environment)
    return None if folder is None else folder / FOLDER


def board_file(folder: Path, uuid: str, driver: str) -> Path:
    """Return the file of a board under a driver version.

    Raises:
        InvalidArgument: one of them is unknown, or no such name.
    """
    for (what, form), text in zip(NAMES.items(), (uuid, driver), strict=True):
        if not form.fullmatch(text):
            raise InvalidArgument(
                f"{text!r} is no {what} that figures could be kept for",
                "They belong to one UUID and one driver version: record on the board itself.",
            )
    return folder / f"{uuid}_{driver}.json"


def load_board(folder: Path, uuid: str, driver: str, *, simulated: bool) -> dict[str, BoardField]:
    """Return what is kept of a board under a driver version, by field; empty when nothing is.

    Args:
        folder: where boards are kept.
        uuid: the board's.
        driver: version of the driver.
        simulated: whether the board is simulated; what is kept of the other sort is not looked at.

    Raises:
        AccessDenied: the file cannot be read.
        BadFormat: it is not what `save_board` writes; both name it.
    """
    path = board_file(folder, uuid, driver)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
    try:
        data = json.loads(content)
        if data["schema_version"] != SCHEMA_VERSION or (data["uuid"], data["driver"]) != (uuid, driver):
            raise ValueError("another version's, board's or driver's")
        if bool(data["simulated"]) != simulated:
            return {}
        return {
            str(name): BoardField(dict(one["found"]), str(one["origin"])) for name, one in dict(data["fields"]).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a JSON error is a ValueError
        raise BadFormat(
            f"{path} does not hold what was measured of a board ({error})",
            "Remove it, and characterize the board again.",
        ) from error


def save_board(
    folder: Path | None, uuid: str, driver: str, field: str, measured: BoardField, *, simulated: bool
) -> Path:
    """Keep what was measured of one field, beside what is kept of the others; all or nothing, whatever happens.

    Args:
        folder: where boards are kept; None is the user's own.
        uuid: the board's.
        driver: version of the driver.
        field: "instant", "average", "usage" ..., as the table calls it.
        measured: what to keep.
        simulated: whether the board is simulated.

    Returns:
        The file.

    Raises:
        StateError: a simulated board, and no folder of its own for it.
        AccessDenied: the folder cannot be written.
        BadFormat: what is kept there is damaged; it is left as it is.
        InvalidArgument: the board or its driver is unknown.
    """
    if folder is None:
        if simulated:
            raise StateError(
                "a simulated board is kept out of your own store", "Name a folder for it: --directory DIR."
            )
        folder = sensors_folder()
        if folder is None:
            raise AccessDenied("nothing tells where your home is", "Set HOME, or name a folder: --directory DIR.")
    path = board_file(folder, uuid, driver)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fields = {**load_board(folder, uuid, driver, simulated=simulated), field: measured}
        data = {
            "schema_version": SCHEMA_VERSION,
            "simulated": simulated,
            "uuid": uuid,
            "driver": driver,
            "fields": {name: {"found": dict(one.found), "origin": one.origin} for name, one in fields.items()},
        }
        replace_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    except PermissionError as error:
        if isinstance(error, AccessDenied):
            raise
        raise AccessDenied(
            f"{error.filename or folder} cannot be written [errno {error.errno}: {error.strerror}]",
            "Name another folder: --directory DIR.",
        ) from error
    except OSError as error:
        raise SystemFailure(
            f"{path} cannot be written: {error.strerror} [errno {error.errno}]",
            "Name another folder: --directory DIR.",
            code=error.errno,
        ) from error
    return path
