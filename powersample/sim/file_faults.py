# SPDX-License-Identifier: Apache-2.0
"""The part of `Node` that makes its files in /sys and /dev/cpu closed, frozen, broken or gone."""

from __future__ import annotations

import os
from pathlib import Path

from powersample._native import api_files
from powersample._native.api_files import MovedFiles
from powersample.errors import InvalidArgument, NotSupported, StateError
from powersample.sim import cpu
from powersample.sim.profile import Profile
from powersample.sim.tree import ENERGY_MODE, MSR_MODE, Tree, link, link_registers

ROUTES = ("powercap", "msr")


class FileFaultControl:
    """Faults of the simulated kernel's files, on a running node and for whoever reads it.

    Names are those of `counters` ("package-0", "package-0.dram", "psys") and `meters` ("hwmon0.power1"). perf's PMU is
    no file and cannot be simulated.
    """

    _tree: Tree | None = None
    _moved: MovedFiles | None = None
    _cpu: Profile | None = None
    _away: dict[str, Path]

    @property
    def counters(self) -> tuple[str, ...]:
        """Names of the energy counters."""
        return () if self._tree is None else tuple(self._tree.zones)

    def permit(self, mode: int, route: str | None = None) -> None:
        """Set the mode of the energy files of one route, "powercap" or "msr", or of both.

        A new node has the kernel's: 0o400 and 0o600, for the owner alone. A reader that has a file open keeps it.

        Raises:
            InvalidArgument: No such route.
            NotSupported: The node has no energy counters.
        """
        if route is not None and route not in ROUTES:
            raise InvalidArgument(f"no route {route!r}; there are {' and '.join(ROUTES)}")
        tree, _ = self._counted()
        if route != "msr":
            for name in tree.zones:
                self._chmod(tree.files[tree.texts[name]].path, mode)
        if route != "powercap":
            for groups in tree.registers.values():
                for paths in groups.values():
                    self._chmod(paths[0], mode)

    @staticmethod
    def _chmod(path: Path, mode: int) -> None:
        if path.exists():  # else it was removed
            os.chmod(path, mode)

    def freeze(self, name: str) -> None:
        """Let a counter or meter keep what it shows, by every route, until `thaw`: stuck, while the power goes on."""
        for index in self._indices(name):
            self._files().set(index, api_files.STUCK)

    def garble(self, name: str, text: str = "garbage") -> None:
        """Let the text of a counter or meter show `text`, padded with newlines to its width, until `thaw`.

        Raises:
            InvalidArgument: No such name, or the text is longer than the file.
        """
        self._files().set(self._text(name), api_files.GARBAGE, text)

    def thaw(self, name: str) -> None:
        """End `freeze` and `garble`: show the truth again, with all that was missed."""
        for index in self._indices(name):
            self._files().set(index, api_files.MOVING)

    def reset_counter(self, name: str, joules: float = 0.0) -> None:
        """Let a counter stand at `joules` now, by every route, and go on from there."""
        self._restart(name, joules, before_wrap=False)

    def wrap_soon(self, name: str, joules: float = 1.0) -> None:
        """Let a counter stand `joules` before its wrap now, by every route."""
        self._restart(name, joules, before_wrap=True)

    def remove(self, name: str) -> None:
        """Remove a counter's powercap zone with the zones in it, or as "msr-0" the MSR files of package 0.

        Readers that have a file open meet its end, where the kernel would answer ENODEV.

        Raises:
            InvalidArgument: No such counter.
            StateError: It was removed before.
        """
        tree, _ = self._counted()
        if name in self._away:
            raise StateError(f"{name} is gone already", "Call restore first.")
        if name.startswith("msr-"):
            for index, paths in self._msr(name).items():
                self._files().set(index, api_files.GONE)
                for path in paths:
                    path.unlink(missing_ok=True)
            self._away[name] = tree.devfs
            return
        folder = self._zone(name)
        for zone in self._zones_in(folder):
            self._files().set(tree.texts[zone], api_files.GONE)
            self._class_link(tree.zones[zone]).unlink()
        away = tree.sysfs.parent / f"removed-{folder.name}"
        folder.rename(away)
        self._away[name] = away

    def restore(self, name: str) -> None:
        """Bring back what `remove` took: new files, as after loading a kernel module again.

        Raises:
            StateError: It was not removed.
        """
        tree, _ = self._counted()
        if name not in self._away:
            raise StateError(f"{name} was not removed")
        away = self._away.pop(name)
        if name.startswith("msr-"):
            for index in self._msr(name):
                self._files().set(index, api_files.MOVING)
            link_registers(tree)
            return
        folder = self._zone(name)
        away.rename(folder)
        for zone in self._zones_in(folder):
            link(self._class_link(tree.zones[zone]), tree.zones[zone])
            self._files().set(tree.texts[zone], api_files.MOVING)

    def clear_file_faults(self) -> None:
        """End all of these faults; counters that were reset or moved to their wrap stay there."""
        if self._tree is None:
            return
        for name in tuple(self._away):
            self.restore(name)
        for index in (*self._tree.texts.values(), *(i for words in self._tree.words.values() for i in words)):
            self._files().set(index, api_files.MOVING)
        if self._tree.zones:
            self.permit(ENERGY_MODE, "powercap")
            self.permit(MSR_MODE, "msr")

    # ---- own -------------------------------------------------------------------------------------------------------

    def _counted(self) -> tuple[Tree, Profile]:
        self._files()
        if self._tree is None or self._cpu is None or not self._tree.zones:
            raise NotSupported("this simulated node has no energy counters of CPUs", 'Give it one: cpu="intel_spr".')
        return self._tree, self._cpu

    def _files(self) -> MovedFiles:
        if self._tree is None:
            raise NotSupported("this simulated node has no CPUs", 'Give it one: cpu="intel_spr".')
        if self._moved is None:
            raise StateError("the simulated node is closed")
        return self._moved

    def _text(self, name: str) -> int:
        self._files()
        assert self._tree is not None
        if name not in self._tree.texts:
            raise InvalidArgument(f"no counter or meter {name!r}; there are {', '.join(self._tree.texts)}")
        return self._tree.texts[name]

    def _indices(self, name: str) -> list[int]:
        text = self._text(name)
        assert self._tree is not None
        return [text, *self._tree.words.get(name, ())]

    def _restart(self, name: str, joules: float, *, before_wrap: bool) -> None:
        tree, profile = self._counted()
        self._zone(name)
        domain = cpu.PSYS if name == cpu.PSYS else name.partition(".")[2] or "package"
        unit = cpu.unit(profile, domain)
        assert unit is not None
        counts = unit.counts(joules)
        for index in self._indices(name):
            modulus = tree.files[index].modulus
            if not 0 <= counts < modulus:
                raise InvalidArgument(f"{joules!r} J does not fit into the counter of {name}")
            self._files().restart(index, modulus - 1 - counts if before_wrap else counts)

    def _zone(self, name: str) -> Path:
        tree, _ = self._counted()
        if name not in tree.zones:
            raise InvalidArgument(f"no counter {name!r}; there are {', '.join(tree.zones)}")
        return tree.zones[name]

    def _zones_in(self, folder: Path) -> list[str]:
        assert self._tree is not None
        return [name for name, its in self._tree.zones.items() if its == folder or folder in its.parents]

    def _class_link(self, folder: Path) -> Path:
        assert self._tree is not None
        return self._tree.sysfs / "class/powercap" / folder.name

    def _msr(self, name: str) -> dict[int, tuple[Path, ...]]:
        tree, _ = self._counted()
        number = name.removeprefix("msr-")
        if not number.isdigit() or int(number) not in tree.registers:
            raise InvalidArgument(f"no {name}; there are {', '.join(f'msr-{one}' for one in tree.registers)}")
        return tree.registers[int(number)]
