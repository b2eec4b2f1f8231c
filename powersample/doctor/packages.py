# SPDX-License-Identifier: Apache-2.0
"""Python, the distributions that are needed, the native core and the sampler executable."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from importlib import import_module, metadata

from powersample import __version__, errors
from powersample.doctor.check import FAIL, OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine

SECTION = "packages"
LAST_PYNVML = 12  # from this version on it holds no bindings of its own


def check_packages(machine: Machine) -> Iterator[Check]:
    """Yield what the installation looks like."""
    yield _core()
    have = machine.distributions()
    yield from _requirements(have)
    yield from _bindings(have)
    yield _sampler(machine)


def _core() -> Check:
    where = f"Python {platform.python_version()}, powersample {__version__}"
    try:
        version = import_module("powersample._native.api").version()
    except ImportError as error:
        what = f"{where}: the native core does not load: {error}. Install the package again with a C compiler at hand"
        return Check("PS-PY-01", FAIL, what, (Tried("import powersample._native"),))
    if version != __version__:
        what = f"{where}: the native core is of version {version}. Build the package again"
        return Check("PS-PY-02", WARN, what, (Tried("import powersample._native"),))
    return Check("PS-PY-00", OK, f"{where}, native core {version}")


def requirements() -> list[tuple[str, str]]:
    """Return what this distribution needs, as (name, lowest version), extras left out."""
    try:
        lines = metadata.requires("powersample") or []
    except metadata.PackageNotFoundError:
        return []
    plain = [re.match(r"([\w.-]+)\s*>=\s*([\d.]+)\s*$", line) for line in lines if "extra ==" not in line]
    return [(found[1], found[2]) for found in plain if found]


def _requirements(have: Mapping[str, str]) -> Iterator[Check]:
    needed = requirements()
    if not needed:
        yield Check("PS-PKG-04", SKIP, "powersample is not installed as a distribution; its requirements are unknown")
        return
    wrong = []
    for name, lowest in needed:
        version = have.get(name.lower().replace("_", "-"))
        if version is None or _numbers(version) < _numbers(lowest):
            wrong.append((name, lowest, version))
    for name, lowest, version in wrong:
        what = f"{name} is missing" if version is None else f"{name} {version} is too old"
        fix = f"pip install '{name}>={lowest}'"
        yield Check("PS-PKG-01", FAIL, f"{what}; {lowest} or newer is needed", (Tried(f"distribution {name}"),), fix)
    if not wrong:
        yield Check("PS-PKG-00", OK, ", ".join(f"{name} {have[name.lower()]}" for name, _ in needed))


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, compared without their zeros at the end."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(word) for word in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _bindings(have: Mapping[str, str]) -> Iterator[Check]:
    """`import pynvml` is met by nvidia-ml-py; two dead distributions stand in its way."""
    if version := have.get("pynvml"):
        own = _numbers(version) < (LAST_PYNVML,)
        harm = "its old bindings come before the maintained ones" if own else "it only adds a FutureWarning"
        yield Check(
            "PS-PKG-02",
            WARN,
            f"distribution 'pynvml' {version} is deprecated: {harm}; 'nvidia-ml-py' is the one behind `import pynvml`",
            (Tried("distribution pynvml"),),
            "pip uninstall pynvml",
        )
    if version := have.get("nvidia-ml-py3"):
        yield Check(
            "PS-PKG-03",
            WARN,
            f"distribution 'nvidia-ml-py3' {version} is abandoned and overwrites the file of 'nvidia-ml-py'",
            (Tried("distribution nvidia-ml-py3"),),
            "pip uninstall -y nvidia-ml-py3 && pip install --force-reinstall --no-deps nvidia-ml-py",
        )


def _sampler(machine: Machine) -> Check:
    from powersample.capture.privileged import file_capabilities

    try:
        program = machine.sampler()
    except errors.NotSupported as error:
        return Check("PS-EXE-01", FAIL, str(error), (Tried("powersample-sampler"),))
    outcome = machine.run([str(program), "--version"])
    if outcome.code != 0:
        why = outcome.out.strip() or f"exit code {outcome.code}"
        what = f"the sampler does not start: {why}. It must be built for this machine, on a file system without noexec"
        return Check("PS-EXE-02", FAIL, what, (Tried(str(program), outcome.errno),))
    got = ", ".join(sorted(file_capabilities(program))) or "none"
    return Check("PS-EXE-00", OK, f"{program.name}: {outcome.out.strip()}; file capabilities: {got}")
