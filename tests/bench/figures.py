"""Samples, percentiles, and figures with what is demanded of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured values of one kind, all of them kept."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        """Return the sample of some values, sorted.

        Raises:
            ValueError: There are none.
        """
        if not values:
            raise ValueError("nothing was measured")
        return cls(tuple(sorted(values)))

    def percentile(self, share: float) -> float:
        """Return the smallest value that so much of the sample does not exceed (nearest rank)."""
        return self.values[max(0, math.ceil(share / 100 * len(self.values)) - 1)]

    @property
    def p50(self) -> float:
        """Return the median."""
        return self.percentile(50)

    def summary(self, factor: float = 1000.0) -> dict[str, float]:
        """Return what a report shows; by default seconds in milliseconds."""
        shares = {f"p{share}": self.percentile(share) for share in (5, 25, 50, 75, 90, 95, 99)}
        whole = {
            "min": self.values[0],
            **shares,
            "max": self.values[-1],
            "mean": sum(self.values) / len(self.values),
        }
        return {"n": len(self.values)} | {
            name: round(value * factor, 3) for name, value in whole.items()
        }


Better = Literal["less", "more"]
Verdict = Literal["aim", "must", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    """In the unit of must and aim."""
    unit: str
    must: float | None = None
    aim: float | None = None
    better: Better = "less"
    shown: str = ""
    """What was measured to get the value, for a reader."""

    @property
    def verdict(self) -> Verdict | None:
        """Say which of the two marks is reached; None where nothing is demanded."""
        if self.must is None or self.aim is None:
            return None
        if self._reaches(self.aim):
            return "aim"
        return "must" if self._reaches(self.must) else "missed"

    def _reaches(self, mark: float) -> bool:
        return self.value <= mark if self.better == "less" else self.value >= mark

    def as_json(self) -> dict[str, Any]:
        """Return it for the file."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "must": self.must,
            "aim": self.aim,
            "better": self.better,
            "verdict": self.verdict,
            "shown": self.shown,
        }
