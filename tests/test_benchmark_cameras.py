"""The benchmark of what cameras' own ways cost."""

from collections.abc import Callable

import pytest


def test_a_setting_that_is_none_is_one_line(start_tool: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert start_tool("benchmark_cameras", "--set", "tracker.nothing=1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmark_cameras: error: ")
