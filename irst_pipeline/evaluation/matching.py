"""Which of what was found serves which of what is true."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from irst_pipeline.types import Floats, Integers


def distances(one: Floats, other: Floats) -> Floats:
    """px (n, m) between places (n, 2) and (m, 2), to 1e-9 px.

    So what is at a limit is there wherever in the picture it lies, whatever the last bits of its coordinates.
    """
    return np.linalg.norm(one[:, None] - other[None], axis=-1).round(9)


def match(distance: Floats, reach: float, before: NDArray[np.bool_] | None = None) -> tuple[Integers, Integers]:
    """Rows and columns of `distance` (n, m) that are matched one to one.

    As many as lie within `reach`; of all ways to do that the one with the most pairs that were matched `before` (n, m),
    and of these the one with the least distance in sum.
    """
    most = len(distance) + 1
    # A pair that is new costs more than all distances together, and one out of reach more than all that are new.
    cost = distance / reach + (0 if before is None else most * ~before)
    rows, columns = linear_sum_assignment(np.where(distance <= reach, cost, most * (most + 1)))
    near = distance[rows, columns] <= reach
    return rows[near], columns[near]
