"""The shipped network and the default settings on real recordings that were kept out of training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from irst_pipeline.cli import main

EVERY = 12  # of the recordings in val, one in so many


@pytest.mark.real
def test_real_targets_are_covered_with_few_false_tracks(real_data: Path, tmp_path: Path) -> None:
    scorer = real_data.parent / "tools" / "score_tracks.py"
    if not scorer.is_file():
        pytest.skip(f"{scorer} is not there")
    recordings = sorted((real_data / "drone-ir" / "val").glob("*.mp4"))[::EVERY]
    assert main(["run", *map(str, recordings), "--out", str(tmp_path), "--no-video"]) == 0
    command = [sys.executable, str(scorer), str(real_data / "drone-ir" / "val"), str(tmp_path)]
    scores = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert scores["sequences"] == len(recordings)
    assert scores["coverage"] >= 85
    assert scores["false/min"] <= 15
