"""What a trial may use of the machine."""

from __future__ import annotations

from tasks.base import memory
from tasks.pipeline.schema import Search


def trial_memory(search: Search) -> int:
    """Bytes that a trial may use: as the file says, or a slot's share of the machine's memory.

    A quarter is left to everything else, at least 2 GB, but never more than a half.
    """
    if search.trial_memory is not None:
        unit = memory.MEGABYTE if search.trial_memory.endswith("m") else memory.GIGABYTE
        return int(search.trial_memory[:-1]) * unit
    there = memory.total()
    reserve = min(max(there // 4, 2 * memory.GIGABYTE), there // 2)
    return (there - reserve) // search.slots
