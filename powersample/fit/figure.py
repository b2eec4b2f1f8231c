# SPDX-License-Identifier: Apache-2.0
"""One figure that was measured, or the reason why it was not."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        value: None when it could not be told.
        se: standard error; None where a range says more.
        low, high: 95 % range; None where a standard error says it.
        reason: why there is no value.
    """

    value: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @classmethod
    def unknown(cls, reason: str) -> "Figure":
        """Return no figure, and why."""
        return cls(None, reason=reason)

    @property
    def span(self) -> tuple[float, float] | None:
        """The 95 % range; None without a value or its error."""
        if self.value is None:
            return None
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return None if self.se is None else (self.value - 1.96 * self.se, self.value + 1.96 * self.se)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; `reason` is null beside a value."""
        span = self.span or (None, None)
        return {"value": self.value, "se": self.se, "low": span[0], "high": span[1], "reason": self.reason or None}
