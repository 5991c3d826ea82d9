"""The benchmark of the pipeline on simulated scenes."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "benchmark_scenes.py"


def test_a_folder_in_use_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "scenes" / "weak-0").mkdir(parents=True)
    (tmp_path / "scenes" / "weak-0" / "truth.csv").write_text("mine")
    run = subprocess.run(
        [sys.executable, str(TOOL), "--only", "weak", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2  # as of irst, for what cannot be carried out as written
    (line,) = run.stderr.splitlines()
    assert line.startswith(
        f"benchmark_scenes: error: {tmp_path / 'scenes' / 'weak-0'}: holds results already; add --over"
    )
