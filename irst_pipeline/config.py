"""The settings of `irst run`: one typed tree, defaults here and nowhere else; `configs/default.yaml` shows them all."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from irst_pipeline.settings import Count, Positive, Settings

Percentile = Annotated[float, Field(ge=0, le=100)]
Probability = Annotated[float, Field(gt=0, lt=1)]
SinkName = Literal["tracks_jsonl", "tracks_csv", "mot", "detections", "video"]


class DetectionSettings(Settings):
    """From target map to detections."""

    threshold: Probability = 0.3
    """Probability above which a pixel belongs to a target."""
    min_area: Count = 1
    """px; smaller blobs are ignored."""
    max_detections: Count = 100
    """A frame; the strongest are kept."""


class TrackerSettings(Settings):
    """Constant-velocity Kalman tracking with M-of-N confirmation."""

    velocity_walk: Positive = 30.0
    """px/s; the spread that a target's velocity gains in one second of white-noise acceleration."""
    speed_sd: Positive = 100.0
    """px/s; spread of the unknown velocity of a new track."""
    gate_probability: Probability = 0.999
    """Share of true detections that the gate lets through."""
    start_score: Probability = 0.95
    """Probability that a detection must have to start a track; weaker ones keep tracks alive."""
    confirm_hits: Annotated[int, Field(ge=2)] = 6
    """M: a track is confirmed with so many detections ..."""
    confirm_frames: Count = 8
    """... in its first N frames, or else given up."""
    coast_seconds: Positive = 0.7
    """A confirmed track without detections lives so long."""

    @model_validator(mode="after")
    def _can_confirm(self) -> Self:
        if self.confirm_frames < self.confirm_hits:
            raise ValueError(f"confirm_frames of at least confirm_hits ({self.confirm_hits})")
        return self


class VideoSettings(Settings):
    """The annotated video."""

    trail_seconds: Positive = 2.0
    """Length of a track's trail."""
    velocity_seconds: Positive = 0.5
    """A velocity vector points where the track will be after so long."""
    percentiles: tuple[Percentile, Percentile] = (0.5, 99.7)
    """Grey levels shown as black and white; smoothed over time."""
    min_height: Count = 480
    """px; smaller frames are enlarged by a whole factor so that labels can be read."""

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Self:
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError("percentiles with the first below the second")
        return self


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
