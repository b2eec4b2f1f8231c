# SPDX-License-Identifier: Apache-2.0
"""Whether this is a container or a virtual machine, and what either hides."""

from __future__ import annotations

import re
from collections.abc import Iterator

from powersample.doctor.check import OK, WARN, Check, Tried
from powersample.doctor.machine import Machine, Mount

SECTION = "container / VM"
POWERCAP = "/sys/devices/virtual/powercap"
HOST_SYS = "docker run -v /sys:/host-sys:ro -e POWERSAMPLE_SYSFS_ROOT=/host-sys ..."

# Of DMI's vendor and product, where the CPU's own flag is missing: Arm, and hypervisors that hide it.
VM_NAMES = ("QEMU", "KVM", "VMware", "VirtualBox", "innotek", "Xen", "Virtual Machine", "Bochs", "Parallels", "BHYVE")
CLOUDS = ("Amazon EC2", "Google Compute Engine", "OpenStack", "DigitalOcean", "Hetzner", "Alibaba Cloud", "Scaleway")
OVERLAID = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")

# In the path of a control group; the engines' own services have such names without a container's number.
CGROUPS = {
    r"docker[-/][0-9a-f]{8}": "Docker",
    r"kubepods": "Kubernetes",
    r"libpod-[0-9a-f]{8}": "Podman",
    r"containerd[-:/][0-9a-f]{8}": "containerd",
    r"/lxc[/.]": "LXC",
}


def container(machine: Machine) -> tuple[str, Tried] | None:
    """Return which kind of container this process is in and what shows it; None outside any."""
    mounts = machine.mounts()
    for path, kind in ((".dockerenv", "Docker"), ("run/.containerenv", "Podman")):
        # Virtual machines made of an image keep such a file; every engine lays its own names over /etc.
        if (machine.root / path).exists() and any(mount.point in OVERLAID for mount in mounts):
            return kind, Tried(str(machine.root / path))
    marker = machine.root / "run/systemd/container"
    if kind := machine.text(marker):
        return kind, Tried(str(marker))
    groups = machine.proc / "self/cgroup"
    for pattern, kind in CGROUPS.items():
        if re.search(pattern, machine.text(groups)):
            return kind, Tried(str(groups))
    if kind := machine.environment.get("container", ""):
        return kind, Tried("$container")
    return None


def virtual(machine: Machine) -> tuple[str, Tried] | None:
    """Return the make of virtual machine this is and what shows it; None on bare metal."""
    dmi = machine.sys / "class/dmi/id"
    named = " ".join(filter(None, (machine.text(dmi / "sys_vendor"), machine.text(dmi / "product_name"))))
    if "hypervisor" in machine.cpu("flags").split():
        return named or "of unknown make", Tried(str(machine.proc / "cpuinfo"))
    if machine.cpu("flags"):  # x86 says it by the flag; clouds name their bare metal like their machines
        return None
    if any(name in named for name in (*VM_NAMES, *CLOUDS)) and ".metal" not in named:
        return named, Tried(str(dmi / "product_name"))
    for path in (machine.proc / "device-tree/hypervisor/compatible", machine.sys / "hypervisor/type"):
        if kind := machine.text(path).strip("\0"):
            return kind, Tried(str(path))
    return None


def powercap_mask(machine: Machine) -> Mount | None:
    """Return what a container engine has laid over the processors' counters, or None."""
    over = [mount for mount in machine.mounts() if mount.point == POWERCAP or mount.point.startswith(POWERCAP + "/")]
    masks = [mount for mount in over if mount.kind == "tmpfs" or (mount.kind != "sysfs" and "ro" in mount.options)]
    return masks[-1] if masks else None


def check_box(machine: Machine) -> Iterator[Check]:
    """Yield what this process is inside of."""
    inside, vm = container(machine), virtual(machine)
    if inside is not None:
        yield Check("PS-BOX-01", OK, f"inside a container ({inside[0]})", (inside[1],))
    mask = powercap_mask(machine)
    if mask is not None and machine.sysfs == machine.sys:
        yield Check(
            "PS-BOX-02",
            WARN,
            f"the container engine hides the processors' energy counters ({mask.kind} over {mask.point}, since "
            "CVE-2020-8694): give the host's /sys at another place and say where",
            (Tried(mask.point),),
            HOST_SYS,
        )
    elif mask is not None:
        yield Check("PS-BOX-03", OK, f"{mask.point} is hidden here; {machine.sysfs} is read in its place")
    if vm is not None:
        yield Check(
            "PS-BOX-04",
            OK,
            f"a virtual machine ({vm[0]}): most have no energy counters, and a host that takes the CPU away makes gaps",
            (vm[1],),
        )
    if inside is None and vm is None:
        yield Check("PS-BOX-00", OK, "neither container nor virtual machine")
