"""GigE Vision and USB3 Vision cameras, through Aravis."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from threading import Event
from time import perf_counter
from typing import Any

import numpy as np

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.sources.base import PIXELS_MAX, SILENT, Damage, FeedFrame, refuse_size
from irst_pipeline.stage import POLL_SECONDS

try:
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis, GLib
except (ImportError, ValueError):
    Aravis = None

# Codes of the Pixel Format Naming Convention, which GigE Vision and USB3 Vision share.
MONO8 = 0x01080001
FORMATS = {"Mono8": MONO8, "Mono10": 0x01100003, "Mono12": 0x01100005, "Mono14": 0x01100025, "Mono16": 0x01100007}
BUFFERS = 8  # in which frames wait
BYTES_MAX = 2 * PIXELS_MAX


@dataclass(frozen=True)
class CameraFeed:
    """A camera, and what it is to be set to; what is None stays as the camera has it."""

    name: str
    place: str
    """Its network address, or its name as Aravis lists it."""
    format: str | None = None
    """One of FORMATS."""
    exposure: float | None = None
    """us"""
    gain: float | None = None
    """In the camera's own unit, mostly dB."""
    frame_rate: float | None = None
    region: tuple[int, ...] | None = None
    """px: left, top, width, height."""
    reopens = True

    def __post_init__(self) -> None:
        if Aravis is None:
            packages = "Aravis 0.8 (gir1.2-aravis-0.8 in Debian) and, in the source folder, pip install -e '.[gige]'"
            raise UsageError(f"{self.place}: cameras need {packages}")

    def connect(self, settings: LiveSettings, ended: Event) -> Generator[FeedFrame | Damage | None]:
        """As `Feed`."""
        try:
            camera = Aravis.Camera.new(self.place)
            self._set(camera)
            stream = camera.create_stream(None, None)
            size = camera.get_payload()
            if size > BYTES_MAX:
                raise IrstError(f"frames of {size} bytes are refused")
            for _ in range(BUFFERS):
                stream.push_buffer(Aravis.Buffer.new_allocate(size))
            camera.set_acquisition_mode(Aravis.AcquisitionMode.CONTINUOUS)
            camera.start_acquisition()
            try:
                yield from _pictures(stream, settings.read_seconds)
            finally:
                if ended.is_set():  # one that is lost would not hear it
                    camera.stop_acquisition()
        except GLib.Error as error:
            raise IrstError(error.message) from None

    def _set(self, camera: Any) -> None:
        """Raises GLib.Error or IrstError for what the camera does not take, and for pixels that are not taken of it."""
        if self.format:
            camera.set_pixel_format_from_string(self.format)
        if camera.get_pixel_format() not in FORMATS.values():
            found = camera.get_pixel_format_as_string()
            raise IrstError(f"it is set to {found}; ask for one of {', '.join(FORMATS)} with ?format=")
        if self.region:
            camera.set_region(*self.region)
        region = tuple(camera.get_region())
        if self.region and self.region != region:
            raise IrstError(f"of region={self.region} it makes {region}")
        refuse_size(*region[2:])
        for name, value, bounds, put in (
            ("exposure", self.exposure, camera.get_exposure_time_bounds, camera.set_exposure_time),
            ("gain", self.gain, camera.get_gain_bounds, camera.set_gain),
            ("fps", self.frame_rate, camera.get_frame_rate_bounds, camera.set_frame_rate),
        ):
            if value is None:
                continue
            low, high = bounds()
            if not low <= value <= high:
                raise IrstError(f"{name}={value:g}: it takes {low:g} to {high:g}")
            put(value)


def _pictures(stream: Any, silence: float) -> Iterator[FeedFrame | Damage | None]:
    """What comes in the buffers of a stream that runs; raises IrstError after `silence` (s) without any."""
    came = perf_counter()
    while True:
        buffer = stream.timeout_pop_buffer(round(1e6 * POLL_SECONDS))
        if buffer is None:
            if perf_counter() - came >= silence:
                raise IrstError(SILENT)
            yield None
            continue
        came = perf_counter()
        arrival = _picture(buffer, came)
        stream.push_buffer(buffer)
        yield arrival


def _picture(buffer: Any, arrived: float) -> FeedFrame | Damage:
    status = buffer.get_status()
    if status != Aravis.BufferStatus.SUCCESS:
        return Damage(f"is not whole: {status.value_nick.replace('-', ' ')}")
    code, width, height = buffer.get_image_pixel_format(), buffer.get_image_width(), buffer.get_image_height()
    kind = np.dtype("u1" if code == MONO8 else "<u2")
    data = buffer.get_image_data()
    if code not in FORMATS.values() or not 0 < width * height * kind.itemsize <= len(data):
        return Damage("is of another kind than the camera was set to")
    image = np.frombuffer(data, kind, width * height).reshape(height, width)  # of bytes, which nobody may write to
    return FeedFrame(image.copy(), buffer.get_timestamp() / 1e9, arrived)
