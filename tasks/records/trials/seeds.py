"""Random numbers of a trial. They depend only on the search's seed and the trial's number."""

from __future__ import annotations

import numpy as np


def trial_seed(search_seed: int, tid: int) -> int:
    """The seed of a trial's estimator."""
    return int(sequence(search_seed, tid).generate_state(1)[0])


def sequence(search_seed: int, tid: int) -> np.random.SeedSequence:
    """The sequence from which all random numbers of a trial come."""
    return np.random.SeedSequence([search_seed, tid])
