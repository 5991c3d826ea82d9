"""Drawing tracks on infrared frames."""

from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.config import VideoSettings
from irst_pipeline.sinks.agc import AutomaticGain, Picture
from irst_pipeline.types import CameraMotion, Floats, FrameResult, Tracks, TrackStatus

Colour = tuple[int, int, int]
Line = NDArray[np.int32]
"""(n, 2) screen px with _SHIFT fractional bits: x, y."""

_PALETTE: tuple[Colour, ...] = (  # BGR, bright and apart from each other on grey
    (80, 220, 60),
    (60, 190, 255),
    (255, 190, 50),
    (120, 120, 255),
    (230, 230, 60),
    (255, 110, 220),
    (50, 240, 230),
    (255, 160, 160),
)
_GREY: Colour = (170, 170, 170)
_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)

# Lines of a box from -1 to 1: the whole of it, its corners alone, and four ticks about its middle.
_WHOLE = np.array([[(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]], float)
_CORNERS = np.array([[(a, 0.5 * b), (a, b), (0.5 * a, b)] for a in (-1, 1) for b in (-1, 1)], float)
_TICKS = np.array([[(0.4 * x, 0.4 * y), (0.8 * x, 0.8 * y)] for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))], float)
_TRAIL_GRID = 4
"""Screen px; of a trail's points in one cell of this grid the first is enough."""
_FADING = (0.5, 0.7, 0.9)
"""Strength of a trail's thirds, the oldest first."""
_FONT, _LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_SHIFT = 4
"""Bits below the pixel in OpenCV's coordinates."""
ENLARGED_MAX = 4096
"""px; the longest side that a small frame is enlarged to."""


class Annotator:
    """What an operator sees of frames, in their order: their grey levels as brightness, and the tracks on them."""

    def __init__(self, settings: VideoSettings) -> None:
        self._settings, self._levels = settings, AutomaticGain(settings)
        self._trails = Trails(settings.trail_seconds)

    def __call__(self, result: FrameResult) -> Picture:
        """(scale H, scale W, 3) uint8, BGR."""
        frame, tracks = result.frame, result.tracks
        jumped = [event.id for event in result.events if event.kind == "jumped"]
        return draw(
            self._levels(frame.image, frame.time),
            tracks,
            trails=self._trails.update(tracks, frame.time, result.motion, jumped),
            caption=f"{frame.time:.3f} s   frame {frame.index}",
            scale=self._scale(*frame.image.shape),
            velocity_seconds=self._settings.velocity_seconds,
        )

    def _scale(self, height: int, width: int) -> int:
        """How many times a frame is enlarged."""
        enough = -(-self._settings.min_height // height)
        return max(1, min(enough, ENLARGED_MAX // max(height, width)))


class Trails:
    """Where the living tracks have been lately."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times, self._ids, self._places = np.empty(0), np.empty(0, np.int64), np.empty((0, 2))

    def update(
        self, tracks: Tracks, time: float, motion: CameraMotion, jumped: Collection[int] = ()
    ) -> dict[int, Floats]:
        """Add the tracks of one frame, before which the camera moved so; id -> (n, 2) px: x, y, oldest first.

        The trails of those that `jumped` begin anew.
        """
        if motion.moved:
            self._places = motion.apply(self._places)
        kept = (self._times >= time - self._seconds) & np.isin(self._ids, tracks.id)
        if jumped:
            kept &= ~np.isin(self._ids, [*jumped])
        self._times = np.append(self._times[kept], np.full(len(tracks), time))
        self._ids = np.append(self._ids[kept], tracks.id)
        self._places = np.concatenate([self._places[kept], tracks.position])
        order = np.argsort(self._ids, kind="stable")
        ids, begins = np.unique(self._ids[order], return_index=True)
        return dict(zip(ids.tolist(), np.split(self._places[order], begins[1:]), strict=False))


def draw(
    image: Picture,
    tracks: Tracks,
    *,
    trails: Mapping[int, Floats] | None = None,
    caption: str = "",
    scale: int = 1,
    velocity_seconds: float = 0.5,
) -> Picture:
    """An (H, W) uint8 grey picture enlarged `scale` times with its tracks on it: (scale H, scale W, 3) uint8, BGR.

    A confirmed track has a box with its id, a line from the box to where it will be after `velocity_seconds`, and a
    trail (`trails`: id -> (n, 2) px, oldest first); a coasting one the same in a darker shade with only the corners of
    its box; a tentative one four small grey ticks. Boxes and trails stand clear of the target. A track with a number
    that is not finite is left out.
    """
    big = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    picture = np.asarray(cv2.cvtColor(big, cv2.COLOR_GRAY2BGR), np.uint8)
    unit = max(1, round(len(picture) / 512))  # strokes and letters grow with the picture
    centre = _screen(tracks.position, scale)
    half = np.maximum(scale * tracks.box[:, 2:] / 2 + 5 * unit, 11 * unit)
    ahead = scale * velocity_seconds * np.column_stack((tracks.vx, tracks.vy))
    known = np.isfinite(np.hstack((centre, half, ahead))).all(axis=1)
    tentative, coasting, confirmed = (
        np.flatnonzero(known & (tracks.status == status))
        for status in (TrackStatus.TENTATIVE, TrackStatus.COASTING, TrackStatus.CONFIRMED)
    )

    def boxes(rows: NDArray[np.intp], shape: Floats) -> NDArray[np.int32]:
        # On whole pixels lines are crisp.
        return _fixed(np.rint(centre[rows, None, None] + half[rows, None, None] * shape))

    _lines(picture, {_GREY: list(boxes(tentative, _TICKS).reshape(-1, 2, 2))}, unit)
    rows = np.concatenate((coasting, confirmed))  # coasting tracks first, so that the others lie on them
    ids = tracks.id[rows].tolist()
    shades = [0.8] * len(coasting) + [1.0] * len(confirmed)
    colours = [_shade(_PALETTE[id_ % len(_PALETTE)], shade) for id_, shade in zip(ids, shades, strict=True)]
    if trails is not None:
        _lines(picture, _trails([trails.get(id_) for id_ in ids], centre[rows], half[rows], colours, scale), unit)
    outlines = [list(box) for box in (*boxes(coasting, _CORNERS), *boxes(confirmed, _WHOLE))]
    reach = np.abs(ahead[rows] / half[rows]).max(axis=1)
    edge = ahead[rows] / np.maximum(reach, 1)[:, None]
    vectors = _fixed(centre[rows, None] + np.stack((edge, ahead[rows]), 1))
    for row in np.flatnonzero(reach > 1).tolist():
        outlines[row].append(vectors[row])
    _lines(picture, {_BLACK: [line for lines in outlines for line in lines]}, unit + 2)
    _lines(picture, _by_colour(zip(colours, outlines, strict=True)), unit)
    labels = np.clip(centre[rows] + (1, -1) * half[rows] + (5 * unit, 6 * unit), -1e5, 1e5).astype(int).tolist()
    for id_, (x, y), colour in zip(ids, labels, colours, strict=True):
        _text(picture, str(id_), (x, y), colour, unit)
    if caption:
        _text(picture, caption, (8 * unit, 18 * unit), _WHITE, unit)
    return picture


def _screen(points: Floats, scale: int) -> Floats:
    """Screen px of image px: the centre of an image pixel becomes that of its block of screen pixels."""
    return scale * points + (scale - 1) / 2


def _fixed(points: Floats) -> NDArray[np.int32]:
    """Screen px as OpenCV takes them, with _SHIFT fractional bits."""
    return np.rint(np.clip(points, -1e5, 1e5) * (1 << _SHIFT)).astype(np.int32)


def _by_colour(drawn: Iterable[tuple[Colour, list[Line]]]) -> dict[Colour, list[Line]]:
    lines: dict[Colour, list[Line]] = {}
    for colour, more in drawn:
        lines.setdefault(colour, []).extend(more)
    return lines


def _lines(picture: Picture, lines: Mapping[Colour, list[Line]], width: int) -> None:
    """All of one colour at once: a call takes longer than the line it draws."""
    for colour, chains in lines.items():
        cv2.polylines(picture, chains, False, colour, width, cv2.LINE_AA, _SHIFT)


def _trails(
    trails: list[Floats | None], centre: Floats, half: Floats, colours: list[Colour], scale: int
) -> dict[Colour, list[Line]]:
    """What of each track's trail lies outside of its box; it fades in three steps towards its oldest point."""
    if not trails:
        return {}
    paths = [np.empty((0, 2)) if trail is None else trail for trail in trails]
    lengths = [len(path) for path in paths]
    points = _screen(np.concatenate(paths), scale)
    own = np.repeat(np.arange(len(paths)), lengths)
    cells = np.column_stack((own, points // _TRAIL_GRID))
    shown = (np.abs(points - centre[own]) > half[own]).any(axis=1) & np.diff(cells, axis=0, prepend=-1).any(axis=1)
    ends = np.bincount(own[shown], minlength=len(paths)).cumsum()[:-1]
    drawn = []
    for path, colour in zip(np.split(_fixed(points[shown]), ends), colours, strict=True):
        marks = [len(path) * third // 3 for third in range(4)]
        for start, end, strength in zip(marks[:-1], marks[1:], _FADING, strict=True):
            drawn.append((_shade(colour, strength), [path[start : end + 1]]))
    return _by_colour(drawn)


@lru_cache(maxsize=1024)
def _extent(words: str, unit: int) -> tuple[int, int, int]:
    """Width, height above the base line and depth below it, screen px."""
    (width, height), below = cv2.getTextSize(words, _FONT, _LETTERS * unit, unit)
    return width, height, below


def _text(picture: Picture, words: str, place: tuple[int, int], colour: Colour, unit: int) -> None:
    """`place` (screen px) is the left end of the base line; moved so that all of it is in the picture."""
    height, width = picture.shape[:2]
    wide, high, below = _extent(words, unit)
    x = max(unit, min(place[0], width - wide - unit))
    y = max(high + unit, min(place[1], height - below - unit))
    # The dark edge is moved copies, not a thicker one: OpenCV 5 spaces letters by their thickness.
    for dx, dy in ((-unit, 0), (unit, 0), (0, -unit), (0, unit)):
        cv2.putText(picture, words, (x + dx, y + dy), _FONT, _LETTERS * unit, _BLACK, unit, cv2.LINE_AA)
    cv2.putText(picture, words, (x, y), _FONT, _LETTERS * unit, colour, unit, cv2.LINE_AA)


@cache
def _shade(colour: Colour, strength: float) -> Colour:
    blue, green, red = colour
    return round(strength * blue), round(strength * green), round(strength * red)
