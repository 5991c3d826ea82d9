"""Which of what was found serves which of what is true."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from irst_pipeline.types import Floats, Integers


def match(distance: Floats, reach: float) -> tuple[Integers, Integers]:
    """Rows and columns of `distance` (n, m) that are matched one to one.

    As many as lie within `reach`, and of all ways to do that the one with the least distance in sum.
    """
    # Any pair out of reach costs more than all pairs within it together.
    rows, columns = linear_sum_assignment(np.where(distance <= reach, distance, (len(distance) + 1) * reach))
    near = distance[rows, columns] <= reach
    return rows[near], columns[near]
