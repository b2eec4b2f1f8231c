# SPDX-License-Identifier: Apache-2.0
"""The accelerator of the measured program: the one place that looks at its torch, which is never imported from here.

A GPU works behind the program's back: a mark on the host falls before work that was queued by then. Nothing here
raises what torch raises: an error of the device is the program's, which meets it at its own next call.
"""

from __future__ import annotations

import sys
from typing import Any

from powersample.errors import InvalidArgument

MODES = ("auto", "device", "event", "none")
DEVICE = "device"  # how an edge was marked: once the device had done all that was queued
EVENT = "event"  # by an event of the device, whose instant is found out later
UNSYNCHRONISED = "unsynchronised"  # it was to be, and could not


def check_mode(sync: str) -> None:
    """Raise InvalidArgument for a mode that there is not."""
    if sync not in MODES:
        raise InvalidArgument(f"sync={sync!r}", f"Give one of {', '.join(MODES)}.")


def cuda() -> Any | None:
    """Return the program's torch.cuda where it is in use, else None."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    found = getattr(torch, "cuda", None)  # torch may be half imported
    try:
        return found if found is not None and found.is_initialized() else None
    except Exception:
        return None


def synchronise(cuda: Any) -> tuple[str, ...]:
    """Wait until the devices that this process uses have done what was queued.

    Those are the current one, and those on which it holds memory; asking another would make a context there.

    Returns:
        How the edge is marked: "device", and "unsynchronised" where the device would not, or must not because a graph
        is being captured.
    """
    try:
        if cuda.is_current_stream_capturing():  # to wait would spoil the capture
            return (DEVICE, UNSYNCHRONISED)
        current = cuda.current_device()
        for index in range(cuda.device_count()):
            if index == current or cuda.memory_reserved(index) > 0:
                cuda.synchronize(index)
    except Exception:
        return (DEVICE, UNSYNCHRONISED)
    return (DEVICE,)


def in_data_worker() -> bool:
    """Whether this process is a worker of a torch DataLoader."""
    data = getattr(getattr(sys.modules.get("torch"), "utils", None), "data", None)
    return data is not None and getattr(data, "get_worker_info", lambda: None)() is not None
