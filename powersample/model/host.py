# SPDX-License-Identifier: Apache-2.0
"""Whose a recording is: what is compared before a calibration of one node is used for another's recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def host_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trace's metadata say of its machine; what they do not tell is not there.

    Returns:
        "name"; "id", a hash of the machine's; "gpus", UUIDs of the boards that were recorded, in NVML's order;
        "packages", numbers of the CPU packages that were; "driver", NVIDIA's version.
    """
    host: dict[str, Any] = {"name": meta.get("host"), "id": meta.get("host_id"), "driver": meta.get("driver")}
    host["gpus"] = [str(device["uuid"]) for device in meta.get("devices") or () if device.get("uuid")]
    host["packages"] = [int(package["number"]) for package in meta.get("packages") or ()]
    return {name: value for name, value in host.items() if value}


def simulated_name(node: Mapping[str, Any]) -> str:
    """Return what a simulated node is called where it is said that nothing was measured: "h100", "h100x4".

    Args:
        node: a trace's `simulated_node`, empty where it is not known: "" then.
    """
    name, gpus = str(node.get("profile") or ""), node.get("gpus") or 1
    return f"{name}x{gpus}" if gpus > 1 and name == node.get("gpu") else name  # other profiles have their own boards


def simulated_key(node: Mapping[str, Any]) -> str:
    """Return the name of a simulated node with all that sets it apart, from what it says of itself.

    Args:
        node: a trace's `simulated_node`.
    """
    cpu = node.get("cpu")
    words = [str(node["profile"]), f"x{node['gpus']}"]
    words += [f"+{cpu['profile']}x{cpu['packages']}"] if cpu else []
    for what, seed in (("node", (node.get("wall") or {}).get("node_seed")), ("board", node.get("board_seed"))):
        words += [] if seed is None else [f"-{what}{seed}"]
    return "".join(words)
