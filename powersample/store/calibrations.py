# SPDX-License-Identifier: Apache-2.0
"""What was calibrated of this user's nodes: one JSON file a host.

    $XDG_CONFIG_HOME/powersample/calibrations/HOST.json               (~/.config/powersample/calibrations/)
    $XDG_CONFIG_HOME/powersample/calibrations/simulated/NODE.json

A simulated node's lies apart, named after the node and its seeds, and is found for recordings of that node alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from powersample.errors import AccessDenied, BadFormat, InputNotFound, InvalidArgument, SystemFailure
from powersample.model import Calibration, host_of, simulated_key
from powersample.store.config import user_folder
from powersample.store.replace import replace_text

FOLDER, SIMULATED = "calibrations", "simulated"
SCHEMA_VERSION = 1
MACHINE_ID = Path("/etc/machine-id")
ID_DIGITS = 16
ELSEWHERE = "Name another file: -o FILE."


def this_host(machine_id: Path = MACHINE_ID) -> dict[str, str]:
    """Return who this machine is, for comparing: its name, and a hash of its id where it has one.

    The id itself is confidential (machine-id(5)), so only a hash made for this purpose leaves the machine.
    """
    host = {"name": socket.gethostname()}
    try:
        text = machine_id.read_text().strip()
    except OSError:
        return host
    if text:
        host["id"] = hashlib.sha256(f"powersample calibration {text}".encode()).hexdigest()[:ID_DIGITS]
    return host


def calibrations_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where the user's calibrations are kept; None when nothing tells where their home is."""
    folder = user_folder(os.environ if environment is None else environment)
    return None if folder is None else folder / FOLDER


def calibration_file(folder: Path, host: Mapping[str, Any], simulated: str | None = None) -> Path:
    """Return the file of a host's calibration, or of a simulated node's.

    Raises:
        InvalidArgument: nothing says which host it is.
    """
    key = host.get("id") or host.get("name") if simulated is None else simulated
    if not key:
        raise InvalidArgument("nothing says which host this calibration is of", ELSEWHERE)
    name = re.sub(r"[^A-Za-z0-9.+_-]", "_", str(key))
    return (folder if simulated is None else folder / SIMULATED) / f"{name}.json"


def find_calibration(
    folder: Path, host: Mapping[str, Any], simulated: str | None = None
) -> tuple[Calibration, Path] | None:
    """Return what is kept of a host or a simulated node, and where; None when nothing is.

    Raises:
        AccessDenied: the file cannot be read.
        BadFormat: it is not what `save_calibration` writes.
    """
    path = calibration_file(folder, host, simulated)
    try:
        return load_calibration(path), path
    except InputNotFound:
        return None


def calibration_for(meta: Mapping[str, Any]) -> tuple[Calibration, Path] | None:
    """Return what is kept of the node that a trace's metadata are of, and where; None when nothing is.

    Raises:
        AccessDenied, BadFormat: As `find_calibration`.
    """
    folder, node = calibrations_folder(), meta.get("simulated_node")
    host = host_of(meta)
    if folder is None or (meta.get("simulated") and not node) or not (node or host.get("id") or host.get("name")):
        return None
    return find_calibration(folder, host, simulated_key(node) if node else None)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        InputNotFound: there is no such file.
        AccessDenied: it cannot be read.
        BadFormat: it is not what `save_calibration` writes; names it.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputNotFound(f"there is no file {path}", "Calibrate this node: powersample calibrate.") from None
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
    try:
        data = json.loads(content)
        if data["schema_version"] != SCHEMA_VERSION:
            raise BadFormat(f"its version is {data['schema_version']!r}, and {SCHEMA_VERSION} is known here")
        return Calibration.from_json(data)
    except (BadFormat, KeyError, TypeError, ValueError) as error:  # a JSON error is a ValueError
        raise BadFormat(f"{path} holds no calibration of a node ({error})", "Calibrate the node again.") from error


def save_calibration(calibration: Calibration, path: Path | None = None) -> Path:
    """Keep a calibration, all or nothing.

    Args:
        calibration: what to keep.
        path: where; None is the user's own folder, by host.

    Returns:
        The file.

    Raises:
        AccessDenied: it cannot be written there, or nothing tells where the user's folder is.
        InvalidArgument: nothing says which host it is of, and no path was given.
    """
    if path is None:
        folder = calibrations_folder()
        if folder is None:
            raise AccessDenied("nothing tells where your home is", f"Set HOME. {ELSEWHERE}")
        path = calibration_file(folder, calibration.host or {}, calibration.simulated)
    text = json.dumps({"schema_version": SCHEMA_VERSION} | calibration.as_json(), indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except PermissionError as error:
        where = error.filename or path
        raise AccessDenied(f"{where} cannot be written [errno {error.errno}: {error.strerror}]", ELSEWHERE) from error
    except OSError as error:
        raise SystemFailure(
            f"{path} cannot be written: {error.strerror} [errno {error.errno}]", ELSEWHERE, code=error.errno
        ) from error
    return path
