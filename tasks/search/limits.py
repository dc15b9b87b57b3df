"""How much of the machine a trial may use."""

from __future__ import annotations

from tasks.base import memory
from tasks.pipeline.schema import Search


def trial_memory(search: Search) -> int:
    """Bytes that a trial may use: what the file says, or a slot's share of the machine's memory.

    A quarter of the memory is reserved for everything else: at least 2 GB, at most a half.
    """
    if search.trial_memory is not None:
        unit = memory.MEGABYTE if search.trial_memory.endswith("m") else memory.GIGABYTE
        return int(search.trial_memory[:-1]) * unit
    available = memory.total()
    reserve = min(max(available // 4, 2 * memory.GIGABYTE), available // 2)
    return (available - reserve) // search.slots
