"""Simulated infrared sequences with exact ground truth."""

from irst_pipeline.simulation.scene import SceneSettings
from irst_pipeline.simulation.simulate import TrueFrame, render, simulate

__all__ = ["SceneSettings", "TrueFrame", "render", "simulate"]
