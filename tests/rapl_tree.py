# SPDX-License-Identifier: Apache-2.0
"""A folder that looks like the parts of /sys and /dev that tell a CPU's energy."""

import os
import threading
import time
from contextlib import contextmanager

RANGE_UJ = 8_000_000  # 8 J: wraps within the tests
MODULUS_UJ = RANGE_UJ + 1  # the range is the highest value that is shown


class Tree:
    """A powercap tree whose counters a thread moves, each at its own watts.

    Texts keep their width and are overwritten in place: whoever reads sees the old one or the new one.
    """

    def __init__(self, root, range_uj=RANGE_UJ):
        self.root, self.range_uj = root, range_uj
        self.zones = {}
        self._ended = threading.Event()

    def zone(self, zone, name, watts, start_uj=0):
        folder = self.root / "class" / "powercap" / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        self.zones[folder / "energy_uj"] = (watts, start_uj)
        self.write(folder / "energy_uj", start_uj)
        return folder / "energy_uj"

    def write(self, path, value_uj):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.pwrite(file, self._text(value_uj), 0)
        os.close(file)

    def _text(self, value_uj):
        return str(value_uj % (self.range_uj + 1)).encode().ljust(len(str(self.range_uj)) + 1, b"\n")

    @contextmanager
    def moving(self):
        files = {os.open(path, os.O_WRONLY): rest for path, rest in self.zones.items()}
        begin = time.monotonic()

        def move():
            while not self._ended.wait(0.001):
                seconds = time.monotonic() - begin
                for file, (watts, start_uj) in files.items():
                    os.pwrite(file, self._text(start_uj + int(seconds * watts * 1e6)), 0)

        thread = threading.Thread(target=move)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            for file in files:
                os.close(file)


def software_pmu(tree):
    """Makes the tree's PMU "power" the kernel's CPU clock, which perf really counts: 1 "J" a second."""
    pmu = tree.root / "bus" / "event_source" / "devices" / "power"
    cpu = tree.root / "devices" / "system" / "cpu" / "cpu0" / "topology"
    (pmu / "events").mkdir(parents=True)
    cpu.mkdir(parents=True)
    (cpu / "physical_package_id").write_text("0\n")
    (pmu / "type").write_text("1\n")
    (pmu / "cpumask").write_text("0\n")
    for name, text in (("", "event=0x00\n"), (".scale", "1e-9\n"), (".unit", "Joules\n")):
        (pmu / "events" / f"energy-pkg{name}").write_text(text)


def closed_register(tree):
    """Gives the tree a Haswell-EP's register file that only its owner may read; returns the folder for --devfs."""
    cpus = tree.root / "devices" / "system" / "cpu"
    (cpus / "cpu0" / "topology").mkdir(parents=True, exist_ok=True)
    (cpus / "cpu0" / "topology" / "physical_package_id").write_text("0\n")
    (cpus / "modalias").write_text("cpu:type:x86,ven0000fam0006mod003F:feature:,0000\n")
    msr = tree.root / "dev" / "cpu" / "0" / "msr"
    msr.parent.mkdir(parents=True)
    with msr.open("wb") as file:
        for number, word in ((0x606, 0xA0E03), (0x611, 1), (0x619, 1)):
            os.pwrite(file.fileno(), word.to_bytes(8, "little"), number * 8)
    msr.chmod(0o600 if os.geteuid() == 0 else 0)
    return tree.root / "dev"
