# SPDX-License-Identifier: Apache-2.0
"""The simulated node's /sys and /dev: what the kernel shows of CPUs and their energy counters."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from powersample._native import api_files
from powersample._native.api_files import MovedFile
from powersample.sim import cpu, folders
from powersample.sim.profile import Profile, stable_hash

MARKER = "powersample-simulated"
POWERCAP = "devices/virtual/powercap/intel-rapl"
PJ_PER_J = 10**12
GAIN_STEPS = 10**4  # fine enough for a gain; a denominator of 64 cores stays in 63 bits
ROOM_BYTES = 16 << 20  # the largest tree takes 4 MiB where every small file takes a page
ENERGY_MODE = 0o400  # the kernel's since CVE-2020-8694
MSR_MODE = 0o600
VENDORS = {"intel": 0, "amd": 2}


@dataclass(slots=True)
class Tree:
    """A node's folders of files, and which of them move.

    Attributes:
        sysfs: What stands for /sys.
        devfs: What stands for /dev.
        files: The moved files in their order.
        texts: Index of the text that shows a counter or meter, by its name: "package-0", "hwmon0.power1".
        words: Indices of the register words that show a counter, by its name.
        registers: Paths of a package's MSR files and the index of a word in each, by package.
        zones: Folder of a powercap zone, by the counter's name.
        truths: Names of the truths that `MovedFile.truths` are indices of.
    """

    sysfs: Path
    devfs: Path
    truths: tuple[str, ...]
    files: list[MovedFile] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    words: dict[str, list[int]] = field(default_factory=dict)
    registers: dict[int, dict[int, tuple[Path, ...]]] = field(default_factory=dict)
    zones: dict[str, Path] = field(default_factory=dict)

    def add(self, file: MovedFile) -> int:
        """Add a moved file; return its index."""
        self.files.append(file)
        return len(self.files) - 1

    def indices(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Return the indices of truths."""
        return tuple(self.truths.index(name) for name in names)


@dataclass(frozen=True, slots=True)
class Counters:
    """How the energy counters begin.

    Attributes:
        start_ns: When they begin.
        bits: Powercap's wrap after so many bits; words have 32 always.
        wrap_after_j: Joules before the first wrap; None: somewhere in the lower half, by `seed`.
        seed: Of that.
        gains: What a counter makes of a joule, by package and for psys; 1 where nothing is said.
    """

    start_ns: int
    bits: int
    wrap_after_j: float | None
    seed: int
    gains: Mapping[str, float] = field(default_factory=dict)

    def per_pj(self, device: str, unit: cpu.Unit, share: int) -> tuple[int, int]:
        """Return the counts a pJ of a device, a fraction, in a counter that has one of so many equal shares of it."""
        gain = round(self.gains.get(device.partition(".")[0], 1.0) * GAIN_STEPS)
        return unit.counts_num * gain, unit.counts_den * PJ_PER_J * share * GAIN_STEPS

    def start(self, name: str, unit: cpu.Unit, bits: int) -> int:
        """Return the counts at which a counter of so many bits begins."""
        if self.wrap_after_j is None:
            return stable_hash("counter", name, self.seed) % (1 << (bits - 1))
        return max(0, (1 << bits) - 1 - unit.counts(self.wrap_after_j))


def has_room() -> bool:
    """Return whether shared memory, where moved files cost the least, has room for the largest tree."""
    try:
        state = os.statvfs(folders.SHARED_MEMORY)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize >= ROOM_BYTES and os.access(folders.SHARED_MEMORY, os.W_OK | os.X_OK)


def build(root: Path, profile: Profile, packages: int, sums: Mapping[str, tuple[str, ...]], counters: Counters) -> Tree:
    """Make the node's `sys` and `dev` below `root`, all but the moved files, which are for `MovedFiles` to make.

    Args:
        root: An existing folder.
        profile: The CPU.
        packages: Number of them.
        sums: The truths that a device's energy is the sum of, by the device's name.
        counters: How the counters begin.
    """
    truths = tuple(dict.fromkeys(name for names in sums.values() for name in names))
    tree = Tree(root / "sys", root / "dev", truths)
    tree.sysfs.mkdir()
    tree.devfs.mkdir()
    (tree.sysfs / MARKER).write_text("A simulated node: nothing under this folder is a measurement.\n")
    _topology(tree.sysfs / "devices/system/cpu", profile, packages)
    counted = {domain: unit for domain in cpu.domains(profile) if (unit := cpu.unit(profile, domain))}
    if counted:
        _powercap(tree, packages, counted, sums, counters, _cores(profile))
        _registers(tree, profile, packages, counted, sums, counters)
    return tree


# ---- CPUs ----------------------------------------------------------------------------------------------------------


def _cores(profile: Profile) -> int:
    return int(profile["cpu.cores"])


def cpus_of(profile: Profile, packages: int, package: int) -> Iterator[tuple[int, int]]:
    """Yield (CPU, core within the package): first threads first, as Linux numbers them."""
    cores = _cores(profile)
    for thread in range(profile["cpu.threads_per_core"]):
        for core in range(cores):
            yield (thread * packages + package) * cores + core, core


def _topology(folder: Path, profile: Profile, packages: int) -> None:
    cores, threads = _cores(profile), int(profile["cpu.threads_per_core"])
    folder.mkdir(parents=True)
    count = cores * threads * packages
    everything = f"0-{count - 1}\n"
    for name, text in (("online", everything), ("possible", everything), ("present", everything)):
        (folder / name).write_text(text)
    (folder / "modalias").write_text(_modalias(profile))
    same = _Links(folder)  # hundreds of files with a dozen contents
    for package in range(packages):
        for number, core in cpus_of(profile, packages, package):
            topology = folder / f"cpu{number}" / "topology"
            topology.mkdir(parents=True)
            siblings = [(thread * packages + package) * cores + core for thread in range(threads)]
            same.write(topology / "physical_package_id", f"{package}\n")
            same.write(topology / "die_id", "0\n")
            same.write(topology / "core_id", f"{core}\n")
            same.write(topology / "core_cpus_list", ",".join(map(str, siblings)) + "\n")
            same.write(topology / "thread_siblings_list", ",".join(map(str, siblings)) + "\n")
    same.close()


class _Links:
    """Writes small files that never change, equal ones as links to one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".same"
        self._folder.mkdir()
        self._first: dict[str, Path] = {}

    def write(self, path: Path, text: str) -> None:
        first = self._first.get(text)
        if first is None:
            first = self._first[text] = self._folder / str(len(self._first))
            first.write_text(text)
        os.link(first, path)

    def close(self) -> None:
        shutil.rmtree(self._folder)


def _modalias(profile: Profile) -> str:
    vendor = VENDORS.get(profile["cpu.vendor"])
    if vendor is None:
        return "cpu:type:aarch64:feature:,0000,0001,0002\n"
    family, model = profile["cpu.family"], profile["cpu.model"]
    return f"cpu:type:x86,ven{vendor:04X}fam{family:04X}mod{model:04X}:feature:,0000,0001,0002\n"


# ---- powercap ------------------------------------------------------------------------------------------------------


def _powercap(
    tree: Tree,
    packages: int,
    counted: Mapping[str, cpu.Unit],
    sums: Mapping[str, tuple[str, ...]],
    counters: Counters,
    cores: int,
) -> None:
    links = tree.sysfs / "class/powercap"
    control = tree.sysfs / POWERCAP
    links.mkdir(parents=True)
    control.mkdir(parents=True)
    (control / "enabled").write_text("1\n")
    link(links / "intel-rapl", control)
    link(control / "subsystem", links)  # as every device has it; CodeCarbon looks for zones behind this one

    def zone(folder: Path, label: str, name: str, device: str, domain: str) -> None:
        unit, modulus = counted[domain], 1 << counters.bits
        folder.mkdir()
        (folder / "name").write_text(f"{label}\n")
        (folder / "enabled").write_text("1\n" if domain == "package" else "0\n")
        largest_uj = (modulus - 1) * unit.kernel_nj // 1000
        (folder / "max_energy_range_uj").write_text(f"{largest_uj}\n")
        link(links / name, folder)
        tree.zones[device] = folder
        # Of counters that every core has, the kernel shows the first core's.
        share, register = (cores, f"{device}.0") if unit.per_core else (1, device)
        counts_num, counts_den = counters.per_pj(device, unit, share)
        tree.texts[device] = tree.add(
            MovedFile(
                path=folder / "energy_uj",
                kind=api_files.COUNTER,
                truths=tree.indices(sums[device]),
                mode=ENERGY_MODE,
                width=len(str(largest_uj)) + 1,
                unit_nj=unit.kernel_nj,
                start_ns=counters.start_ns,
                start_counts=counters.start(register, unit, counters.bits),
                counts_num=counts_num,
                counts_den=counts_den,
                modulus=modulus,
            )
        )

    for package in range(packages):
        name = f"intel-rapl:{package}"
        zone(control / name, f"package-{package}", name, f"package-{package}", "package")
        inner = [domain for domain in counted if domain not in ("package", cpu.PSYS)]
        for number, domain in enumerate(inner):
            sub = f"{name}:{number}"
            zone(control / name / sub, domain, sub, f"package-{package}.{domain}", domain)
    if cpu.PSYS in counted:
        name = f"intel-rapl:{packages}"
        zone(control / name, cpu.PSYS, name, cpu.PSYS, cpu.PSYS)


def link(path: Path, target: Path) -> None:
    """Make a relative symbolic link, as sysfs has them."""
    path.symlink_to(os.path.relpath(target, path.parent))


# ---- registers -----------------------------------------------------------------------------------------------------


def _registers(
    tree: Tree,
    profile: Profile,
    packages: int,
    counted: Mapping[str, cpu.Unit],
    sums: Mapping[str, tuple[str, ...]],
    counters: Counters,
) -> None:
    """Describe the MSR files: one a package, or one a core where cores have counters of their own.

    Register R lies at byte R x 8: a plain file cannot hold neighbouring registers, and aligned words cannot tear. The
    other CPUs' files are links to it, made by `link_registers`.
    """
    per_core = any(unit.per_core for unit in counted.values())
    cores = _cores(profile)
    for package in range(packages):
        groups: dict[int, list[Path]] = {}
        for number, core in cpus_of(profile, packages, package):
            folder = tree.devfs / "cpu" / str(number)
            folder.mkdir(parents=True)
            groups.setdefault(core if per_core else 0, []).append(folder / "msr")
        tree.registers[package] = {}
        for group, paths in groups.items():
            first = _word(paths[0], profile["rapl.unit_register"], counters, start=profile["rapl.unit_word"])
            tree.registers[package][tree.add(first)] = tuple(paths)
            for domain, unit in counted.items():
                device = {"package": f"package-{package}", cpu.PSYS: cpu.PSYS}.get(
                    domain, f"package-{package}.{domain}"
                )
                name = f"{device}.{group}" if unit.per_core else device
                share = cores if unit.per_core else 1
                word = _word(
                    paths[0],
                    unit.register,
                    counters,
                    start=counters.start(name, unit, 32),
                    truths=tree.indices(sums[device]),
                    per_pj=counters.per_pj(device, unit, share),
                )
                tree.words.setdefault(device, []).append(tree.add(word))


def _word(
    path: Path,
    register: int,
    counters: Counters,
    *,
    start: int,
    truths: tuple[int, ...] = (),
    per_pj: tuple[int, int] = (0, 1),
) -> MovedFile:
    return MovedFile(
        path=path,
        kind=api_files.REGISTER,
        truths=truths,
        mode=MSR_MODE,
        offset=register * 8,
        start_ns=counters.start_ns,
        start_counts=start,
        counts_num=per_pj[0],
        counts_den=per_pj[1],
        modulus=api_files.REGISTER_MODULUS,
    )


def link_registers(tree: Tree) -> None:
    """Give every CPU its MSR file: CPUs that share one share the file."""
    for groups in tree.registers.values():
        for paths in groups.values():
            for path in paths[1:]:
                path.unlink(missing_ok=True)
                os.link(paths[0], path)
