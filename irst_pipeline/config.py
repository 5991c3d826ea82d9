"""The settings of `irst run`: one typed tree, defaults here and nowhere else; `configs/default.yaml` shows them all."""

import math
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from irst_pipeline.settings import Count, NotNegative, Positive, Settings

Percentile = Annotated[float, Field(ge=0, le=100)]
Probability = Annotated[float, Field(gt=0, lt=1)]
CameraMotionModel = Literal["off", "translation", "similarity", "homography"]
Agc = Literal["percentile", "plateau"]
Stripes = Literal["off", "columns", "rows"]
SinkName = Literal["tracks_jsonl", "tracks_csv", "mot", "detections", "smoothed", "video", "recorded"]


class DetectionSettings(Settings):
    """From target pixels to detections."""

    threshold: Probability = 0.3
    """Probability above which a pixel belongs to a target; detections of no such pixel are weak."""
    weak_threshold: Probability | None = 0.01
    """Probability above which it may belong to a dim target, which the tracker decides; None: none is looked for."""
    min_area: Count = 1
    """px; smaller blobs are ignored."""
    max_detections: Count = 100
    """A frame; the strongest are kept."""

    @property
    def lowest(self) -> float:
        """Probability above which the engine passes pixels on."""
        return self.threshold if self.weak_threshold is None else self.weak_threshold

    @model_validator(mode="after")
    def _weak_is_not_above_strong(self) -> Self:
        if self.lowest > self.threshold:
            raise ValueError(f"a weak_threshold of at most the threshold ({self.threshold:g}), or null for none")
        return self


ScoreMoments = tuple[Probability, Positive]


class TrackerSettings(Settings):
    """Motion models, association, and confirmation by accumulated evidence."""

    velocity_walk: Positive = 10.0
    """px/s; the spread that a cruising target's velocity gains in one second of white-noise acceleration."""
    manoeuvre_walk: Positive = 150.0
    """px/s; the same of a target that manoeuvres."""
    turn_rate: NotNegative = 0.0
    """deg/s; above 0 targets may also turn left and right at this rate."""
    acceleration_sd: NotNegative = 0.0
    """px/s^2; above 0 targets may also accelerate steadily, with this standard deviation."""
    cruise_seconds: Positive = 3.0
    """Mean time between manoeuvres."""
    manoeuvre_seconds: Positive = 0.3
    """Mean time that one takes."""
    speed_sd: Positive = 100.0
    """px/s; spread of the unknown velocity of a new track."""
    association: Literal["nearest", "joint"] = "nearest"
    """Which detection is a track's: the best one-to-one choice, or each in its gate as far as it is probable."""
    gate_probability: Probability = 0.999
    """Share of true detections that the gate lets through."""
    detection_probability: Probability = 0.9
    """Share of frames in which a target is detected."""
    false_alarms: Positive = 1.0
    """Per frame, before anything is known; the tracker then learns the density of clutter by region."""
    weak_false_alarms: Positive = 5.0
    """The same of weak detections."""
    false_tracks_per_hour: Positive = 0.01
    """Tracks of independent clutter that may be confirmed: the evidence asked of a track follows from it. Clutter that
    comes again makes more, which is why so few are allowed."""
    clutter_seconds: NotNegative = 0.03
    """How long clutter stays: a frame dt s after the last adds only min(1, dt / clutter_seconds) of its evidence."""
    weak_clutter_seconds: NotNegative = 0.08
    """The same of weak detections, and of frames in which a target is missed."""
    target_score: ScoreMoments = (0.99, 0.03)
    """Mean and spread of the probabilities that detections of targets have ..."""
    clutter_score: ScoreMoments = (0.7, 0.26)
    """... and those of clutter."""
    start_score: Probability = 0.95
    """A track that begins with a detection of less probability must move to be confirmed ..."""
    start_snr: Positive = 12.0
    """... unless that is not weak and has so high an SNR."""
    speed_min: NotNegative = 0.0
    """px/s; above 0 every track must surely move as fast across the scene to be confirmed. At 0 so is a bright target
    that stands still, as one that hovers; and then also a lit window."""
    coast_seconds: Positive = 1.0
    """A track is dropped after so long without a detection."""

    @model_validator(mode="after")
    def _scores_are_spread(self) -> Self:
        for mean, sd in (self.target_score, self.clutter_score):
            if sd**2 >= mean * (1 - mean):
                raise ValueError(f"scores of mean {mean} with a spread below {math.sqrt(mean * (1 - mean)):.3f}")
        return self


class CalibrationSettings(Settings):
    """What is done to every frame before anything else sees it."""

    file: str | None = None
    """As `irst calibrate` writes it; {} in it stands for the recording's path without its suffix."""
    covered: str | None = None
    """An image as large as a frame, black but for what text, a reticle or the rim of a window covers, which is filled
    in from around it; {} as in `file`."""
    destripe: Stripes = "off"
    """Which stripes are taken away from each frame by itself."""
    polarity: Literal["white_hot", "black_hot"] = "white_hot"
    """black_hot: what is dark is warm, so levels are inverted; targets must be brighter than their background."""


class BearingSettings(Settings):
    """Where pixels lie in the world: with a camera model, tracks have bearings."""

    model: str | None = None
    """YAML of the camera, as in configs/cameras."""
    pointing: str | None = None
    """CSV of where the camera's platform points; {} in it stands for the recording's path without its suffix. Without
    one the platform stands still at azimuth and elevation 0."""

    @model_validator(mode="after")
    def _only_a_camera_points(self) -> Self:
        if self.pointing is not None and self.model is None:
            raise ValueError("a model (--camera) beside a pointing")
        return self


class LiveSettings(Settings):
    """Live sources, and when they count as lost."""

    open_seconds: Positive = 10.0
    """A connection that has given no picture after so long is closed and tried again; soon after a loss, sooner."""
    read_seconds: Positive = 3.0
    """A connection that sends nothing for so long is lost."""
    retry_seconds: Positive = 1.0
    """The longest wait between two tries to connect; the first wait is 0.25 s, each next one twice as long."""
    give_up_seconds: Positive | None = None
    """A run ends after so long without a frame; None: it waits for ever."""


class MetricsSettings(Settings):
    """What a monitoring system may ask over HTTP, at /metrics and /healthz."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: nothing can be asked."""
    host: str = "127.0.0.1"
    """Address of this machine to answer at; 0.0.0.0 for all of them: whoever reaches it can read everything there."""
    stale_seconds: Positive = 5.0
    """/healthz answers 503 when the last frame of a source is older, or a stage has worked on one frame for longer."""


def _udp_address(address: str) -> str:
    found = re.fullmatch(r"udp://(?:\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[^\s\[\]:/?#@]+):([0-9]{1,5})", address)
    if not found or not 0 < int(found[1]) < 1 << 16:
        raise ValueError("udp://HOST:PORT, of a machine or a multicast group, with IPv6 in brackets")
    return address


UdpAddress = Annotated[str, AfterValidator(_udp_address)]


class SendSettings(Settings):
    """What is sent over the network while a run lasts; None: nothing is."""

    tracks: UdpAddress | None = None
    """udp://HOST:PORT; where the records of each frame go, as lines of JSON."""
    video: UdpAddress | None = None
    """udp://HOST:PORT; where the annotated video goes, H.264 in MPEG-TS; that of the next source to the next port."""


class VideoSettings(Settings):
    """The annotated video."""

    trail_seconds: Positive = 2.0
    """Length of a track's trail."""
    velocity_seconds: Positive = 0.5
    """A velocity vector points where the track will be after so long."""
    percentiles: tuple[Percentile, Percentile] = (0.5, 99.7)
    """Grey levels shown as black and white; smoothed over time."""
    agc: Agc = "percentile"
    """How grey levels become brightness: evenly between two percentiles, or by a plateau histogram."""
    clahe: NotNegative = 0.0
    """Clip limit of an adaptive equalisation (CLAHE) of 8 x 8 parts of the picture, 2 to 4 as a rule; 0 for none."""
    min_height: Count = 480
    """px; smaller frames are enlarged by a whole factor so that labels can be read."""
    min_free_megabytes: Positive = 200.0
    """With less left on the disk videos stop, so that the logs have the rest; with twice as much they go on."""

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Self:
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError("percentiles with the first below the second")
        return self


class RotateSettings(Settings):
    """When the next part of a log or video begins; 0: never, save that a video has 25,000 frames at most."""

    megabytes: NotNegative = 0.0
    """After a part that is so large ..."""
    hours: NotNegative = 0.0
    """... and after one that covers so much of the source's time."""


def _once_each(names: tuple[SinkName, ...]) -> tuple[SinkName, ...]:
    if len(set(names)) < len(names):
        raise ValueError("each name once, for each is one file")
    return names


class RunSettings(Settings):
    """Everything `irst run` can be told."""

    model: str = "lsnet-nano"
    """Name of a shipped network, or path of a .safetensors file."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    compile: bool = False
    """Whether the network is compiled for a CUDA device: twice as fast, a minute or two later for each frame size."""
    image_rate: Annotated[float, Field(ge=1e-3, lt=1e9)] = 30.0
    """frames/s; image sequences carry no times of their own."""
    frame_times: str | None = None
    """CSV of when each frame of a recording was taken, in place of its own times; {} as in `calibration.file`."""
    queue_frames: Annotated[int, Field(ge=1, le=100)] = 2
    """Frames that may wait before each stage."""
    sinks: Annotated[tuple[SinkName, ...], AfterValidator(_once_each)] = (
        "tracks_jsonl",
        "tracks_csv",
        "mot",
        "detections",
        "video",
    )
    """What is written."""
    calibration: CalibrationSettings = CalibrationSettings()
    detection: DetectionSettings = DetectionSettings()
    camera_motion: CameraMotionModel = "similarity"
    """How the camera may move between frames; tracks move with the scene. off: it is not looked for in the picture."""
    tracker: TrackerSettings = TrackerSettings()
    camera: BearingSettings = BearingSettings()
    live: LiveSettings = LiveSettings()
    metrics: MetricsSettings = MetricsSettings()
    send: SendSettings = SendSettings()
    video: VideoSettings = VideoSettings()
    rotate: RotateSettings = RotateSettings()
