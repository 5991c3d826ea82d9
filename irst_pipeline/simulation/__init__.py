"""Simulated infrared sequences with exact ground truth."""

from irst_pipeline.simulation.scene import SceneSettings
from irst_pipeline.simulation.simulate import simulate

__all__ = ["SceneSettings", "simulate"]
