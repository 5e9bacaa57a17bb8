"""Which boxes of one image are filtered together: several regions then share the work of a filter.

A filter reaches beyond the box where its result is wanted, so neighbouring boxes have much of it in common. They
are joined into the smallest box around them wherever filtering that costs less than filtering each by itself.
A filter's cost is the number of voxels that it visits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.features.engine.region import Box

Cost = Callable[[Box], float]


@dataclass(frozen=True)
class Group:
    """Boxes that are filtered together.

    Attributes:
        box: around all of them.
        members: their positions in the list that was grouped.
    """

    box: Box
    members: tuple[int, ...]


def group(boxes: Sequence[Box], cost: Cost) -> list[Group]:
    """Join boxes greedily: each, in the order of their first voxels, to the group where it saves most.

    Args:
        boxes: at least one.
        cost: of filtering one box; infinite where it must not be joined.

    Returns:
        Disjoint groups of all boxes; a single one where that costs less than those found.
    """
    groups = [Group(box, (index,)) for index, box in enumerate(boxes)]
    if len(boxes) == 1:
        return groups
    joined: list[tuple[Group, float]] = []
    for single in sorted(groups, key=lambda one: one.box.lower):
        _add(joined, single, cost)
    everything = _join_all([found for found, _ in joined])
    if cost(everything.box) < sum(spent for _, spent in joined):
        return [everything]
    return [found for found, _ in joined]


def _add(joined: list[tuple[Group, float]], single: Group, cost: Cost) -> None:
    """Join a box to one of the groups, or open another for it."""
    alone, best, place = cost(single.box), 0.0, len(joined)
    chosen = (single, alone)
    for index, (other, spent) in enumerate(joined):
        together = _join_all([other, single])
        needed = cost(together.box)
        if spent + alone - needed > best:
            best, place, chosen = spent + alone - needed, index, (together, needed)
    joined[place : place + 1] = [chosen]


def _join_all(groups: Sequence[Group]) -> Group:
    box = groups[0].box
    for other in groups[1:]:
        box = box.join(other.box)
    return Group(box, tuple(sorted(index for one in groups for index in one.members)))
