# SPDX-License-Identifier: Apache-2.0
"""One line of the doctor, and what all lines come to."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1
OK, SKIP, WARN, FAIL = "OK", "SKIP", "WARN", "FAIL"  # SKIP: not here, and no harm in that
SIMULATED = "PS-SIM-01"  # of a check that finds what nobody has called simulated
ALL_WELL, DEGRADED, UNUSABLE = 0, 1, 3  # exit codes; 2 is a wrong use of the command, as everywhere


@dataclass(frozen=True, slots=True)
class Tried:
    """What was looked at or called, and the errno that came back; None when it answered."""

    path: str
    errno: int | None = None

    def __str__(self) -> str:
        return self.path if self.errno is None else f"{self.path}: {errno_name(self.errno)}"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        code: Of `codes.CODES`; says which finding it is, whatever the words.
        level: OK, SKIP, WARN or FAIL.
        what: What was found and what it means, for people.
        tried: The evidence.
        fix: One shell command to paste, the safer one where there are two; None when no command helps.
        other: The other one.
        gives: Channels that can be measured because of it.
        section: Set by `diagnose`.
    """

    code: str
    level: str
    what: str
    tried: tuple[Tried, ...] = ()
    fix: str | None = None
    other: str | None = None
    gives: tuple[str, ...] = ()
    section: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as an entry of `checks[]`."""
        return {
            "code": self.code,
            "level": self.level,
            "section": self.section,
            "what": self.what,
            "tried": [{"path": one.path, "errno": one.errno} for one in self.tried],
            "fix": self.fix,
            "or": self.other,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings.

    Attributes:
        checks: In the order in which they are to be read.
        simulated: What is simulated, as text; None on a real machine.
    """

    checks: tuple[Check, ...]
    simulated: str | None

    @property
    def measurable(self) -> tuple[str, ...]:
        """Channels that a recording would have."""
        return tuple(dict.fromkeys(name for check in self.checks for name in check.gives))

    @property
    def counts(self) -> Counter[str]:
        """Number of checks by level."""
        return Counter(check.level for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0 all well, 1 less than this machine could give, 3 nothing measurable."""
        if not self.measurable:
            return UNUSABLE
        return DEGRADED if self.counts[WARN] or self.counts[FAIL] else ALL_WELL

    def to_json(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {
            "schema_version": SCHEMA_VERSION,
            "simulated": self.simulated is not None,
            "checks": [check.to_json() for check in self.checks],
            "measurable": list(self.measurable),
        }


def errno_name(code: int) -> str:
    """Return "EACCES (13)"."""
    return f"{errno.errorcode.get(code, 'errno')} ({code})"
