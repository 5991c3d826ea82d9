"""What the camera sees behind the targets."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from irst_pipeline.simulation.camera import CameraPath, Window
from irst_pipeline.simulation.clouds import Clouds
from irst_pipeline.simulation.layers import Layer, StillLayer
from irst_pipeline.simulation.scene import SceneSettings
from irst_pipeline.simulation.sea import Sea
from irst_pipeline.simulation.terrain import terrain
from irst_pipeline.simulation.urban import urban
from irst_pipeline.types import Floats


@dataclass(frozen=True)
class Scenery:
    """The scene behind the targets at one time, over the pixels of `window`."""

    window: Window
    level: Floats
    """Grey levels."""
    opacity: Floats
    """The share of light from behind that clouds swallow."""

    def transmission(self, place: complex) -> float:
        """The share of light from behind the clouds that comes through at a place x + iy px of the scene."""
        at = [[place.imag - self.window.top], [place.real - self.window.left]]
        return 1 - float(ndimage.map_coordinates(self.opacity, at, order=1, mode="nearest")[0])


class Background:
    """The scene without targets and noise.

    All arithmetic is float64: the FFTs of two machines differ by some 1e-12 grey levels, which rounding to whole levels
    after the noise removes.
    """

    def __init__(self, scene: SceneSettings, camera: CameraPath, streams: Mapping[str, np.random.Generator]) -> None:
        self._camera = camera
        self._frame_rate_hz = scene.frame_rate_hz
        self._contrast = scene.clouds.contrast
        shape, extent = scene.shape, camera.extent
        sky, psf = scene.sky.level, scene.sensor.psf_sigma_px
        self._clouds = Clouds(scene.clouds, shape, extent, streams["clouds"])
        self._layers: list[Layer] = []
        if scene.sea.height_px:
            self._layers.append(Sea(scene.sea, shape, sky, psf, streams["sea"]))
        if scene.terrain.height_px:
            self._layers.append(
                StillLayer(extent, psf, *terrain(scene.terrain, shape, extent, sky, streams["terrain"]))
            )
        if scene.urban.height_px:
            self._layers.append(StillLayer(extent, psf, *urban(scene.urban, shape, extent, sky, streams["urban"])))
        above = np.maximum(scene.sky_px - extent.rows, 0)
        glow = scene.sky.glow * np.exp(-above / scene.sky.glow_height_px)
        self._sky = np.broadcast_to(scene.sky.level + glow, extent.shape)

    def at(self, frame: int) -> Scenery:
        """What there is behind the targets in `frame`."""
        time, window = frame / self._frame_rate_hz, self._camera.window(frame)
        opacity = self._clouds.at(time, window)
        level = self._camera.extent.cut(self._sky, window) + self._contrast * opacity
        for layer in self._layers:
            nearer, cover = layer.at(time, window)
            level = level + cover * (nearer - level)
            opacity = opacity * (1 - cover)
        return Scenery(window, level, opacity)
