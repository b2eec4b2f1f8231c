# SPDX-License-Identifier: Apache-2.0
"""What a recording says of itself: the machine, the devices and their sensors, as they are known today."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from powersample import errors
from powersample._native import api
from powersample.capture import Inventory, Plan

if TYPE_CHECKING:
    from powersample.model import SensorModel, Trace
    from powersample.sim import Node


def describe(
    plan: Plan, inventory: Inventory, node: Node | None, command: Sequence[str], store_command: bool
) -> dict[str, Any]:
    """Return a recording's metadata at its start: host, versions, devices, what was refused, and what was asked for."""
    import numpy as np

    from powersample.store.calibrations import this_host

    meta: dict[str, Any] = {
        "simulated": inventory.simulated,
        "simulated_node": None if node is None else node.describe(),
        "host": socket.gethostname(),
        "host_id": this_host().get("id"),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "versions": {
            "powersample": api.version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "started_ns": api.now_ns(),
        "started_unix_ns": time.time_ns(),
        "uid": os.getuid(),
        "driver": inventory.driver,
        "nvml": inventory.nvml,
        "devices": [asdict(device) for device in inventory.devices],
        "packages": [asdict(package) for package in inventory.packages],
        "chips": [asdict(chip) for chip in inventory.chips],
        "privileges": [asdict(privilege) for privilege in inventory.privileges],
        "notes": list(inventory.notes),
        "plan": asdict(plan),
    }
    if command:
        joined = b"\0".join(os.fsencode(word) for word in command)
        meta["command"] = {
            "program": os.path.basename(command[0]),
            "argv_sha256": hashlib.sha256(joined).hexdigest(),
            "argv": list(command) if store_command else None,
        }
    return meta


def known_sensors(trace: Trace) -> tuple[dict[str, SensorModel], list[str]]:
    """Return the models of a trace's sensors by channel, and notes on what is kept of its boards and cannot be read."""
    from powersample.sensors import field_of, model_of
    from powersample.store.boards import BoardField, board_file, load_board, sensors_folder

    folder, driver = sensors_folder(), trace.meta.get("driver")
    boards: dict[str, dict[str, BoardField]] = {}
    models: dict[str, SensorModel] = {}
    notes: list[str] = []
    uuids = {device["uuid"] for device in trace.meta.get("devices") or ()}
    for name, channel in trace.channels.items():
        model = model_of(trace, channel)
        if model is None:
            continue
        if folder is not None and driver and channel.device in uuids:
            try:
                if channel.device not in boards:
                    boards[channel.device] = {}
                    boards[channel.device] = load_board(folder, channel.device, driver, simulated=trace.simulated)
                measured = boards[channel.device].get(field_of(channel) or "")
                if measured is not None:
                    model = model.measured(measured.found, measured.origin)
            except errors.PowerSampleError as error:
                kept = f"what is kept of its board ({board_file(folder, channel.device, driver)})"
                notes.append(f"{name}: {kept} is passed over, the table's figures are used: {error}")
        models[name] = model
    return models, notes
