# SPDX-License-Identifier: Apache-2.0
"""CPUs as data: the packaged profiles, and what of them has a power of its own on a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from powersample.errors import InvalidArgument, did_you_mean
from powersample.sim.profile import Profile, read_profile

DEFAULT = "intel_spr"
DOMAINS = ("package", "core", "uncore", "dram", "psys")  # in the kernel's order
INNER = ("core", "uncore")  # parts of the package, and in its energy
BOARD = "board"
NODE = "node"
PSYS = "psys"
GPUS = "gpus"


@dataclass(frozen=True, slots=True)
class Unit:
    """How a domain's energy is counted.

    Attributes:
        register: Number of its MSR.
        per_core: Every core has a counter of its own there, of its own share.
        counts_num: Counts a joule, as a fraction.
        counts_den: Its denominator.
        kernel_nj: What the kernel takes a count for, nJ: what powercap shows.
    """

    register: int
    per_core: bool
    counts_num: int
    counts_den: int
    kernel_nj: int

    def counts(self, joules: float) -> int:
        """Return whole counts of an energy."""
        return int(joules * self.counts_num / self.counts_den)


@dataclass(frozen=True, slots=True)
class Part:
    """Something with a power of its own: a package, its core, uncore or DRAM, or the board.

    Attributes:
        name: "package-0", "package-0.dram", "board".
        device: "package-0"; "board" itself.
        domain: "package", "core", "uncore", "dram" or "board".
        package: Number, or None for the board.
        idle_mw: Power without load.
        max_mw: Power at full load.
    """

    name: str
    device: str
    domain: str
    package: int | None
    idle_mw: int
    max_mw: int


def cpu_beside(gpu_profile: str) -> str:
    """Return the CPU that a GPU is mostly found beside; a superchip's is its own."""
    return "grace" if gpu_profile.startswith("gh200") else DEFAULT


def cpu_profile_names() -> tuple[str, ...]:
    """Return the names of the packaged CPU profiles."""
    folder = resources.files("powersample.sim").joinpath("profiles", "cpu")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def load_cpu_profile(name: str) -> Profile:
    """Read a packaged CPU profile.

    Raises:
        InvalidArgument: There is none of that name; the message lists those there are.
    """
    if name not in cpu_profile_names():
        known = cpu_profile_names()
        raise InvalidArgument(f"no CPU profile {name!r}; there are {', '.join(known)}", did_you_mean(name, known))
    return read_profile(name, "cpu", f"{name}.toml")


def checked_packages(profile: Profile, packages: int) -> int:
    """Return `packages`. Raises InvalidArgument unless the CPU comes in so many sockets."""
    most = profile["cpu.packages_max"]
    if not 1 <= packages <= most:
        raise InvalidArgument(f"packages is {packages}; {profile['cpu.name']} comes in 1{f' or {most}' * (most > 1)}")
    return packages


def domains(profile: Profile) -> tuple[str, ...]:
    """Return the domains that the CPU has, counted or not, in the kernel's order."""
    return tuple(d for d in DOMAINS if any(key.startswith(f"domain.{d}.") for key in profile.figures))


def unit(profile: Profile, domain: str) -> Unit | None:
    """Return how a domain is counted; None where no counter tells it."""
    register = profile.figures.get(f"domain.{domain}.register")
    if register is None:
        return None
    num, den = profile[f"domain.{domain}.counts_per_j"]
    per_core = bool(profile.figures.get(f"domain.{domain}.per_core", False))
    return Unit(register, per_core, num, den, profile[f"domain.{domain}.kernel_unit_nj"])


def parts(profile: Profile, packages: int) -> tuple[Part, ...]:
    """Return all that draws power on a node of so many packages, beside its GPUs."""

    def milliwatts(prefix: str) -> tuple[int, int]:
        return round(profile[f"{prefix}.idle_w"] * 1e3), round(profile[f"{prefix}.max_w"] * 1e3)

    def all_of() -> Iterator[Part]:
        for package in range(packages):
            device = f"package-{package}"
            for domain in domains(profile):
                if domain != PSYS:
                    name = device if domain == "package" else f"{device}.{domain}"
                    yield Part(name, device, domain, package, *milliwatts(f"domain.{domain}"))
        yield Part(BOARD, BOARD, BOARD, None, *milliwatts(BOARD))

    return tuple(all_of())


def shares(part: Part, inner: tuple[Part, ...], package_mw: int) -> dict[str, int]:
    """Return the power in mW of a package and of what lies in it, when the package draws `package_mw`.

    What lies in it takes the part of its own range that the package takes of its; together never more than the package.
    """
    load = (package_mw - part.idle_mw) / max(1, part.max_mw - part.idle_mw)
    left, found = package_mw, {part.name: package_mw}
    for one in inner:
        found[one.name] = min(left, max(0, round(one.idle_mw + load * (one.max_mw - one.idle_mw))))
        left -= found[one.name]
    return found


def sums_of(parts: tuple[Part, ...], packages: int, gpus: int) -> dict[str, tuple[str, ...]]:
    """Return the truths that every device's power is the sum of, by the device's name.

    "psys" is the platform without its GPUs: packages, DRAM and board. "socket-N" is a package with its DRAM, "module-N"
    the GPU of the same number as well. What lies in a package is counted with it.
    """
    boards = tuple(f"gpu{gpu}" for gpu in range(gpus))
    sums: dict[str, tuple[str, ...]] = {name: (name,) for name in (*boards, *(part.name for part in parts))}
    whole = tuple(part.name for part in parts if part.domain in ("package", "dram", BOARD))
    for package in range(packages if parts else 0):
        socket = tuple(name for name in whole if name.partition(".")[0] == f"package-{package}")
        sums[f"socket-{package}"] = socket
        sums[f"module-{package}"] = (*socket, *boards[package : package + 1])
    if parts:
        sums[PSYS] = whole
    return sums | {GPUS: boards, NODE: (*boards, *whole)}


def package_of(
    parts: tuple[Part, ...], sums: Mapping[str, tuple[str, ...]], device: str
) -> tuple[Part, tuple[Part, ...]] | None:
    """Return the package that `device` names and what lies in it; None for a device that is no package.

    Raises:
        InvalidArgument: A sum, or what lies in a package: neither has a load of its own.
    """
    part = next((part for part in parts if part.name == device), None)
    if part is None and sums.get(device, (device,)) != (device,):
        raise InvalidArgument(f"{device} is a sum", f"Load {', '.join(sums[device])}.")
    if part is not None and part.domain in INNER:
        raise InvalidArgument(f"{device} takes its share of {part.device}'s load", f"Load {part.device}.")
    if part is None or part.domain != "package":
        return None
    return part, tuple(one for one in parts if one.device == device and one.domain in INNER)
