"""Score a network on the test split of a set in the field's layout (images/ masks/ img_idx/test_*.txt).

usage: score_detection.py FOLDER [--model lsnet-nano]

Native size, threshold 0.5. IoU pools all pixels; nIoU is its mean over images; Pd counts targets with a predicted blob
whose centroid is within 3 px, each blob serving one target; Fa is the area of the blobs that served none, per pixel.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from irst_pipeline.datasets import MASKED, read_masked_images
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.lsnet.weights import load_weights

REACH = 3.0  # px


def blobs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Centroids (n, 2) and areas (n,) of 8-connected blobs."""
    _, _, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(centroids, float)[1:], np.asarray(stats, np.int64)[1:, cv2.CC_STAT_AREA]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="lsnet-nano")
    options = parser.parse_args()
    network = load_weights(options.model).network
    overlap, union, ratios = 0, 0, []
    targets = hits = false_area = pixels = 0
    for sample in tqdm(read_masked_images(options.folder, "test")):
        with torch.inference_mode():
            logits = network(normalise(torch.from_numpy(sample.image)[None, None]).frames).logits
        found, truth = (logits[0, 0] > 0).numpy(), sample.mask == MASKED
        both, either = int((found & truth).sum()), int((found | truth).sum())
        overlap, union = overlap + both, union + either
        ratios.append(both / either if either else 1.0)
        (true_xy, _), (found_xy, area) = blobs(truth), blobs(found)
        distance = np.linalg.norm(true_xy[:, None] - found_xy[None], axis=-1)
        rows, columns = linear_sum_assignment(np.where(distance <= REACH, distance, 1e6))
        served = columns[distance[rows, columns] <= REACH]
        targets, hits = targets + len(true_xy), hits + len(served)
        false_area += int(np.delete(area, served).sum())
        pixels += truth.size
    print(
        f"{options.folder.name}: IoU {100 * overlap / union:.2f}  nIoU {100 * np.mean(ratios):.2f}  "
        f"Pd {100 * hits / targets:.2f}  Fa {1e6 * false_area / pixels:.2f}e-6  ({len(ratios)} images)"
    )


if __name__ == "__main__":
    main()
