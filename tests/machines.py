# SPDX-License-Identifier: Apache-2.0
"""Machines made up in a folder, for the doctor to look at."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from powersample.doctor import Check, Machine
from powersample.doctor.machine import Outcome

RELEASE = "6.1.0-18-amd64"
LIMITS = "Limit                     Soft Limit           Hard Limit           Units\n"
LIMITS += "Max realtime priority     {0}                    {0}\n"
STATUS = "Name:\tpython\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps:016x}\nCpus_allowed_list:\t{cpus}\n"


class Made:
    """A bare Intel machine with one package, readable by powercap; every file may be written anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu tsc constant_tsc\n")
        self.write("proc/sys/kernel/osrelease", RELEASE + "\n")
        self.write("proc/sys/kernel/perf_event_paranoid", "2\n")
        self.write("proc/self/cgroup", "0::/user.slice\n")
        self.write("proc/self/timerslack_ns", "50000\n")
        self.write("proc/self/limits", LIMITS.format(0))
        self.process()
        self.mounts("/ ext4 rw", "/sys sysfs rw")
        self.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
        self.write("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm\n")
        self.write("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
        self.write(f"lib/modules/{RELEASE}/modules.builtin", "kernel/drivers/base/regmap.ko\n")
        self.write(f"lib/modules/{RELEASE}/modules.dep", "kernel/fs/fat/fat.ko:\n")
        self.write("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        self.write("dev/shm/x", "")
        self.write("bin/powersample-sampler", "").chmod(0o755)
        self.zone("intel-rapl:0", "package-0")

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def remove(self, path: str) -> None:
        target = self.root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    def process(self, *, uid: int = 1000, caps: int = 0, cpus: str = "0-7") -> None:
        self.write("proc/self/status", STATUS.format(uid=uid, caps=caps, cpus=cpus))

    def mounts(self, *lines: str) -> None:
        """Each "POINT KIND OPTIONS"."""
        rows = [
            f"{20 + i} 1 0:{i} / {p} {o},relatime - {k} none {o}" for i, (p, k, o) in enumerate(map(str.split, lines))
        ]
        self.write("proc/self/mountinfo", "\n".join(rows) + "\n")

    def container(self) -> None:
        """What Docker leaves to be seen."""
        self.write(".dockerenv", "")
        self.mounts("/ overlay rw", "/sys sysfs ro", "/etc/hosts ext4 rw", "/etc/resolv.conf ext4 rw")

    def module(self, *names: str) -> None:
        """Lets them be found and not loaded."""
        lines = "".join(f"kernel/drivers/{name}.ko.xz:\n" for name in names)
        self.write(f"lib/modules/{RELEASE}/modules.dep", lines)

    def zone(self, entry: str, name: str) -> Path:
        self.write(f"sys/class/powercap/{entry}/name", name + "\n")
        self.write(f"sys/class/powercap/{entry}/max_energy_range_uj", "262143328850\n")
        return self.write(f"sys/class/powercap/{entry}/energy_uj", "100000000000\n")

    def pmu(self, *events: str, kind: int = 1) -> None:
        """Lays a PMU "power" out; of kind 1 the kernel's CPU clock really counts."""
        folder = "sys/bus/event_source/devices/power"
        self.write(f"{folder}/type", f"{kind}\n")
        self.write(f"{folder}/cpumask", "0\n")
        self.write("sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n")
        (self.root / folder / "events").mkdir(exist_ok=True)
        for event in events:
            for suffix, text in (("", "event=0x00"), (".scale", "1e-9"), (".unit", "Joules")):
                self.write(f"{folder}/events/{event}{suffix}", text + "\n")

    def virtual(self, vendor: str = "QEMU") -> None:
        self.write("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu tsc hypervisor\n")
        self.write("sys/class/dmi/id/sys_vendor", vendor + "\n")

    @contextmanager
    def moving(self, pattern: str = "*") -> Iterator[None]:
        """Lets energy files grow meanwhile, in place, so that a reader sees the old number or the new."""
        files = [os.open(path, os.O_WRONLY) for path in self.root.glob(f"sys/class/powercap/{pattern}/energy_uj")]
        ended = threading.Event()

        def move() -> None:
            step = 0
            while not ended.wait(0.001):
                step += 1
                for file in files:
                    os.pwrite(file, f"{100_000_000_000 + 1000 * step}\n".encode(), 0)

        thread = threading.Thread(target=move)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for file in files:
                os.close(file)

    def machine(self, **more: object) -> Machine:
        """What the doctor gets: a sampler that says its version, no programs, no configuration, a large disk."""
        fields = {
            "root": self.root,
            "environment": {"XDG_CONFIG_HOME": str(self.root / "home"), "XDG_CACHE_HOME": str(self.root / "cache")},
            "sampler": lambda: self.root / "bin/powersample-sampler",
            "run": lambda command: Outcome(0, "powersample-sampler 0.1.0\n"),
            "which": lambda name: None,
            "free_bytes": lambda path: 10**12,
        }
        return Machine(**{**fields, **more})


@contextmanager
def made() -> Iterator[Made]:
    """A machine in a folder that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="powersample-machine-"))
    folder.chmod(0o755)
    try:
        yield Made(folder)
    finally:
        shutil.rmtree(folder)


def found(check: Callable[[Machine], Iterable[Check]], machine: Machine) -> dict[str, Check]:
    """Return what a check of the doctor's finds, by code."""
    return {one.code: one for one in check(machine)}


def levels(checks: dict[str, Check]) -> dict[str, str]:
    return {code: one.level for code, one in checks.items()}
