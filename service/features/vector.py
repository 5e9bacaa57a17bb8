"""Named numbers in a fixed order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FeatureVector:
    """Features of one region, in an order that is part of their meaning.

    Attributes:
        names: F unique names.
        values: float64 (F,), read-only; NaN or infinite where a feature is not defined on the region.

    Raises:
        ValueError: the lengths differ or a name occurs twice.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if values.shape != (len(self.names),):
            raise ValueError(f"{len(self.names)} names for values of shape {values.shape}")
        if len(self._positions) != len(self.names):
            raise ValueError("feature names must be unique")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @classmethod
    def concatenate(cls, parts: Sequence["FeatureVector"]) -> "FeatureVector":
        """Return the parts one after the other."""
        values = [part.values for part in parts]
        return cls(
            tuple(name for part in parts for name in part.names), np.concatenate(values) if values else np.empty(0)
        )

    def prefixed(self, prefix: str) -> "FeatureVector":
        """Return the same values with `prefix` in front of every name."""
        return FeatureVector(tuple(prefix + name for name in self.names), self.values)

    def select(self, names: Iterable[str]) -> "FeatureVector":
        """Return the named features, in the order asked for.

        Raises:
            KeyError: with the first name that is not there.
        """
        chosen = tuple(names)
        return FeatureVector(chosen, self.values[[self._positions[name] for name in chosen]])

    def not_finite(self) -> tuple[str, ...]:
        """Return the names whose values are NaN or infinite."""
        return tuple(self.names[at] for at in np.flatnonzero(~np.isfinite(self.values)))

    def items(self) -> Iterable[tuple[str, float]]:
        """Return the names with their values as plain floats."""
        return zip(self.names, self.values.tolist(), strict=True)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    def __eq__(self, other: Any) -> bool:
        """Whether names, order and bits are the same; NaN equals NaN."""
        return (
            isinstance(other, FeatureVector)
            and self.names == other.names
            and np.array_equal(self.values, other.values, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]
