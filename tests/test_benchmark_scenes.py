"""The benchmark of the pipeline on simulated scenes."""

from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_folder_in_use_is_one_line(
    tmp_path: Path, start_tool: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scenes" / "weak-0").mkdir(parents=True)
    (tmp_path / "scenes" / "weak-0" / "truth.csv").write_text("mine")
    # 2 as of irst, for what cannot be carried out as written
    assert start_tool("benchmark_scenes", "--only", "weak", "--out", tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"benchmark_scenes: error: {tmp_path / 'scenes' / 'weak-0'}: not empty; add --overwrite to re"
    )
