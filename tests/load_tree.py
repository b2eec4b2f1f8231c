# SPDX-License-Identifier: Apache-2.0
"""A folder that stands for /sys under a load: a chip that measures CPUs, and CPUs that are threads of one core."""

from powersample import loads


def chip(root, millidegrees, name="coretemp", label="Package id 0"):
    """Put a chip that shows this temperature; return the folder."""
    folder = root / "class" / "hwmon" / "hwmon0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "temp1_label").write_text(f"{label}\n")
    (folder / "temp1_input").write_text(f"{millidegrees}\n")
    return root


def one_core(root):
    """Make all CPUs that this process may use threads of one core; return them."""
    mine = loads.allowed()
    for cpu in mine:
        core = root / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        core.mkdir(parents=True)
        (core / "thread_siblings_list").write_text(f"{mine[0]}-{mine[-1]}\n")
    return mine
