"""The settings of `irst run`: one typed tree, defaults here and nowhere else; `configs/default.yaml` shows them all."""

from typing import Annotated, Literal

from pydantic import Field

from irst_pipeline.settings import Settings

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
SinkName = Literal["tracks_jsonl", "tracks_csv", "mot", "detections", "video"]


class DetectionSettings(Settings):
    """From target map to detections."""

    threshold: Probability = 0.5
    """Probability above which a pixel belongs to a target."""
    min_area: Count = 1
    """px; smaller blobs are ignored."""
    max_detections: Count = 100
    """A frame; the strongest are kept."""


class TrackerSettings(Settings):
    """Constant-velocity Kalman tracking with M-of-N confirmation."""

    velocity_walk: Positive = 60.0
    """px/s; the spread that a target's velocity gains in one second of white-noise acceleration."""
    speed_sd: Positive = 100.0
    """px/s; spread of the unknown velocity of a new track."""
    gate_probability: Probability = 0.999
    """Share of true detections that the gate lets through."""
    confirm_hits: Count = 4
    """M: a track is confirmed with so many detections ..."""
    confirm_frames: Count = 6
    """... in its first N frames, or else given up."""
    coast_seconds: Positive = 0.7
    """A confirmed track without detections lives so long."""


class VideoSettings(Settings):
    """The annotated video."""

    trail_seconds: Positive = 2.0
    """Length of a track's trail."""
    velocity_seconds: Positive = 0.5
    """A velocity vector points where the track will be after so long."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.7)
    """Grey levels shown as black and white; smoothed over time."""
    min_height: Count = 480
    """px; smaller frames are enlarged by a whole factor so that labels can be read."""


class RunSettings(Settings):
    """Everything `irst run` can be told."""

    model: str = "lsnet-nano"
    """Name of a shipped network, or path of a .safetensors file."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    image_rate: Positive = 30.0
    """frames/s; image sequences carry no times of their own."""
    queue_frames: Count = 2
    """Frames that may wait before each stage."""
    sinks: tuple[SinkName, ...] = ("tracks_jsonl", "tracks_csv", "mot", "detections", "video")
    """What is written."""
    detection: DetectionSettings = DetectionSettings()
    tracker: TrackerSettings = TrackerSettings()
    video: VideoSettings = VideoSettings()
