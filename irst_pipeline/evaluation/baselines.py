"""The field's classical detectors, written from their mathematics: each makes a saliency map of a frame.

All look for small bright targets, MPCM for dark ones as well; "small" is what SPIE calls so, less than 81 px, which is
9x9.
"""

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, median_filter

from irst_pipeline.types import Floats, Image, Map

TARGET_SIDE = 9  # px
CELL_SIDES = (3, 5, 7, 9)  # px, the scales of the local contrast
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1))  # rows and columns; each has its opposite


def white_top_hat(image: Image) -> Map:
    """The image (H, W) less its opening with a disc that no small target fills, in grey levels (H, W).

    Serra, "Image Analysis and Mathematical Morphology", 1982.
    """
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (TARGET_SIDE, TARGET_SIDE))
    return np.asarray(cv2.morphologyEx(image.astype(np.float32), cv2.MORPH_TOPHAT, disc), np.float32)


def max_median(image: Image) -> Map:
    """The image (H, W) less the largest of the medians along four directions, in grey levels (H, W), never negative.

    The lines are longer than twice a target, so that it is not their median. Deshpande, Er, Venkateswarlu and Chan,
    "Max-mean and max-median filters for detection of small targets", Proc. SPIE 3809, 1999.
    """
    levels = image.astype(np.float32)
    diagonal = np.eye(2 * TARGET_SIDE + 1, dtype=bool)
    lines = (np.ones((1, len(diagonal)), bool), np.ones((len(diagonal), 1), bool), diagonal, diagonal[::-1])
    background = np.max([median_filter(levels, footprint=line) for line in lines], axis=0)
    return np.maximum(levels - background, 0)


def local_contrast(image: Image) -> Map:
    """Multiscale patch-based contrast measure (MPCM) of an image (H, W), in squared grey levels (H, W).

    At each scale a cell stands in the middle of 3x3; with d_i the difference of its mean to that of neighbour i, the
    contrast is the least product d_i d_j over the four pairs of opposite neighbours: high for what stands out to all
    sides, bright or dark. The result is the largest over the scales. Wei, You and Li, "Multiscale patch-based contrast
    measure for small infrared target detection", Pattern Recognition 58, 2016.
    """
    reach = max(CELL_SIDES)
    padded = cv2.copyMakeBorder(image.astype(np.float32), reach, reach, reach, reach, cv2.BORDER_REFLECT)
    height, width = image.shape

    def at_scale(side: int) -> Map:
        mean = np.asarray(cv2.blur(padded, (side, side)), np.float32)

        def moved(rows: int, columns: int) -> Map:
            y, x = reach + rows * side, reach + columns * side
            return mean[y : y + height, x : x + width]

        centre = moved(0, 0)
        return np.min([(centre - moved(r, c)) * (centre - moved(-r, -c)) for r, c in NEIGHBOURS], axis=0)

    return np.max([at_scale(side) for side in CELL_SIDES], axis=0)


PATCH_SIDE = 40  # px; also the greatest step from one patch to the next
SPARSITY = 0.6  # lambda_L
KEPT_VALUES = 1  # of each slice's singular values, how many are not shrunk
PENALTY, PENALTY_GROWTH, PENALTY_MAX = 3e-3, 1.1, 1e10  # mu and rho
WEIGHT_FLOOR = 0.01
RESIDUAL_MAX = 1e-7
ROUNDS_MAX = 200


def pstnn(image: Image) -> Map:
    """The sparse part of the image's patch tensor, (H, W) with the image stretched to 0..255, never negative.

    min ||B||_PSTNN + lambda ||W T||_1 with D = B + T, by ADMM; W is small at corners and large along edges, and is
    reweighted by |T|. Zhang and Peng, "Infrared small target detection based on partial sum of the tensor nuclear
    norm", Remote Sensing 11(4), 2019.
    """
    low, high = float(image.min()), float(image.max())
    levels = (image.astype(np.float64) - low) * (255 / max(high - low, 1.0))
    side = min(PATCH_SIDE, *image.shape)
    tops, lefts = (_starts(length, side) for length in image.shape)
    windows = [np.s_[top : top + side, left : left + side] for top in tops for left in lefts]

    def patches(plane: Floats) -> Floats:
        return np.stack([plane[window] for window in windows])

    sparse = _separate(patches(levels), patches(_corner_prior(levels)))
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    for window, patch in zip(windows, sparse, strict=True):
        total[window] += patch
        count[window] += 1
    return np.maximum(total / count, 0).astype(np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Evenly spaced starts of windows that cover `length`."""
    return [int(s) for s in np.rint(np.linspace(0, length - side, -(-length // side)))]


def _corner_prior(levels: Floats) -> Floats:
    """What looks like a corner or a blob, 0..1: det/trace of the structure tensor times its larger eigenvalue."""

    def smooth(plane: Floats, sigma: float) -> Floats:
        # The other way of mirroring, which repeats the outermost pixels, makes corners at the frame's edge.
        return gaussian_filter(plane, sigma, mode="mirror")

    gy, gx = np.asarray(np.gradient(smooth(levels, 1.0)))
    xx, xy, yy = (smooth(product, 2.0) for product in (gx * gx, gx * gy, gy * gy))
    trace, determinant = xx + yy, xx * yy - xy * xy
    larger = trace / 2 + np.sqrt(np.maximum(trace**2 / 4 - determinant, 0))
    prior = larger * determinant / np.maximum(trace, 1e-9)
    return np.asarray((prior - prior.min()) / max(float(np.ptp(prior)), 1e-9))


def _separate(d: Floats, prior: Floats) -> Floats:
    """The sparse part of patches (n, S, S), by ADMM with a growing penalty, until its support stays as it is."""
    strength = SPARSITY / np.sqrt(max(d.shape[1:]) * len(d))
    weight = 1 / (prior + WEIGHT_FLOOR)
    t = y = np.zeros_like(d)
    scaled = weight
    support, mu, scale = -1, PENALTY, np.linalg.norm(d)
    for _ in range(ROUNDS_MAX):
        b = _shrink_singular_values(d - t + y / mu, 1 / mu)
        rest = d - b + y / mu
        t = np.sign(rest) * np.maximum(np.abs(rest) - strength * scaled / mu, 0)
        scaled = weight / (np.abs(t) + WEIGHT_FLOOR)
        residual = d - b - t
        y = y + mu * residual
        mu = min(PENALTY_GROWTH * mu, PENALTY_MAX)
        before, support = support, int(np.count_nonzero(t))
        if support == before or np.linalg.norm(residual) < RESIDUAL_MAX * scale:
            break
    return np.asarray(t)


def _shrink_singular_values(tensor: Floats, threshold: float) -> Floats:
    """Proximal step of the partial sum: all but the first singular values of each Fourier slice lose `threshold`.

    The right-hand vectors and squared values come from the Gram matrix, which is faster than a decomposition. It is
    PyTorch because numpy's OpenBLAS spends ten times as long on its threads as on so small matrices.
    """
    slices = torch.fft.rfft(torch.from_numpy(tensor), dim=0)
    squares, vectors = torch.linalg.eigh(slices.mH @ slices)
    gain = (1 - threshold / squares.clamp(min=1e-18).sqrt()).clamp(min=0)
    gain[:, -KEPT_VALUES:] = 1  # in ascending order
    shrunk = slices @ (vectors * gain[:, None]) @ vectors.mH
    return torch.fft.irfft(shrunk, len(tensor), dim=0).numpy()
