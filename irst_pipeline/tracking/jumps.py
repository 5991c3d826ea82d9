"""Targets that are suddenly elsewhere: the camera was struck, the recording cut, or they turned as no model expects.

That one target is hidden or gone in the very frame in which another one comes into view is rarer than any of these
where there are few. Where there are many, those that fly on tell that neither camera nor recording has changed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from irst_pipeline.tracking.kalman import positions
from irst_pipeline.tracking.motion import beyond
from irst_pipeline.tracking.population import Population
from irst_pipeline.types import Integers

GAP_MAX = 2
"""Frames between that show neither."""
FASTEST = 3.0
"""Of the spread of velocities; no target flies faster."""


def gone_on(
    tracks: Population, confirm: NDArray[np.bool_], shape: tuple[int, ...], speed_sd: float
) -> tuple[Integers, Integers]:
    """Rows of confirmed tracks that were last seen just before one of those to `confirm` (n,) began, and of that one.

    Only targets that are well seen are sure not to have been missed by chance, and only those that should be in the
    picture (H, W). Of several the nearest are taken for one another. Where more of them fly on than are lost, a
    target is elsewhere only as far as it may have turned: `speed_sd`, px/s, is the spread of velocities.
    """
    places = positions(tracks.mixture.by_model).mean[:, 0]
    old = (tracks.confirmed & ~tracks.dim & (beyond(places, shape) <= 0)).nonzero()[0]
    new = (confirm & ~tracks.dim).nonzero()[0]
    gap = tracks.missed[old, None] - tracks.age[new]
    apart = np.linalg.norm(places[old, None] - places[new], axis=-1)
    fits = (gap >= 0) & (gap <= GAP_MAX)
    fly_on = (gap < 0) & (tracks.unbroken[old, None] > tracks.age[new] + GAP_MAX)
    near = apart <= FASTEST * speed_sd * (tracks.last_seen[new] - tracks.last_seen[old, None])
    fits &= near | (fly_on.sum(0) <= fits.sum(0))
    i, j = linear_sum_assignment(np.where(fits, apart, len(apart) * sum(shape)))
    found = fits[i, j]
    return old[i[found]], new[j[found]]
