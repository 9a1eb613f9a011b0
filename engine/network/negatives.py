"""Which items a step of the sampled losses compares with: drawn once a batch and shared by all its positions.

Sharing turns 256 gathered vectors a position into one matrix product.
Legend: P targets of the batch, C candidates, I rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Negatives:
    """How many candidates are drawn, and from where."""

    uniform: int = 256
    """Drawn evenly from the catalogue: reaches the items nobody asks for."""
    popular: int = 0
    """Drawn by how often an item was a target: the hard ones."""
    in_batch: bool = True
    """The targets of the batch are candidates for each other: free, since their vectors are there anyway."""


@dataclass(frozen=True)
class Candidates:
    """Distinct rows with the chance that each had to be among them."""

    rows_C: NDArray[np.int64]
    log_q_C: NDArray[np.float32]

    def without(self, rows_I: NDArray[np.bool_]) -> "Candidates":
        """Those that are not marked."""
        kept_C = ~rows_I[self.rows_C]
        return Candidates(self.rows_C[kept_C], self.log_q_C[kept_C])


def draw(
    config: Negatives, targets_P: NDArray[np.int64], counts_I: NDArray[np.float64], generator: np.random.Generator
) -> Candidates:
    """Draws the candidates of one batch.

    An item is drawn from each source a Poisson-like number of times with mean m, so it is among the candidates with
    probability q = 1 - exp(-sum of m). Adding -log q to its score makes the sampled sum of exponentials an unbiased
    estimate of the full one (Bengio & Senecal 2008), whatever the mixture.

    Args:
        config: Size of each source.
        targets_P: Rows that the batch asks for.
        counts_I: How often each row has been a target so far; row 0 is never drawn.
        generator: Source of randomness.
    """
    rows = len(counts_I)
    total = counts_I.sum()
    drawn = [generator.integers(1, rows, config.uniform)]
    if config.popular:
        cumulative_I = np.cumsum(counts_I)
        drawn.append(np.searchsorted(cumulative_I, generator.random(config.popular) * total, side="right"))
    if config.in_batch:
        drawn.append(targets_P)
    rows_C = np.unique(np.concatenate(drawn)).astype(np.int64)
    by_count = config.popular + (len(targets_P) if config.in_batch else 0)
    expected_C = config.uniform / (rows - 1) + by_count * counts_I[rows_C] / max(total, 1.0)
    return Candidates(rows_C, np.log(-np.expm1(-expected_C)).astype(np.float32))
