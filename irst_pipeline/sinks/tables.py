"""Tables of tracks and detections for spreadsheets and scoring tools."""

from collections.abc import Iterable
from itertools import compress

import numpy as np

from irst_pipeline.sinks.base import BEARINGS, decimals, significant, track_columns, utc_text
from irst_pipeline.sinks.log import Log
from irst_pipeline.types import FrameResult

Cell = float | int | str | None


class TracksCsv(Log):
    """`tracks.csv`: a row for every confirmed or coasting track and frame; a number that is not finite is left out.

    With a camera model the columns BEARINGS follow, and of a live source comes last when the frame came.
    """

    columns = (
        "time_s,frame,id,status,x_px,y_px,vx_px_per_s,vy_px_per_s,cov_xx_px2,cov_xy_px2,cov_yy_px2,"
        "left_px,top_px,width_px,height_px,score,snr,age_frames,hits"
    )

    def head(self) -> bytes:
        camera, live = self._header.camera, self._header.live
        return _lines([(self.columns, *(BEARINGS if camera else ()), *(("utc",) if live else ()))])

    def text(self, result: FrameResult) -> bytes:
        columns = track_columns(result.tracks, result.bearings)
        del columns["nis"]
        frame, came = result.frame, (utc_text(result.frame),) if self._header.live else ()
        shown = compress(zip(*columns.values(), strict=True), result.tracks.confirmed)
        return _lines(
            (round(frame.time, 6), frame.index, id_, status, x, y, vx, vy, *cov, *box, *rest, *came)
            for id_, status, x, y, vx, vy, cov, box, *rest in shown
        )


class Mot(Log):
    """`mot.txt`: the MOTChallenge form of confirmed and coasting tracks, frames counted from 1.

    frame,id,left,top,width,height,confidence,-1,-1,-1 with left + width / 2 = x and top + height / 2 = y, to 0.001 px.
    """

    def head(self) -> bytes:
        return b""

    def text(self, result: FrameResult) -> bytes:
        tracks = result.tracks
        size = np.round(tracks.box[:, 2:], 2)  # so that half of it has three decimals, like the centre
        centre = np.round(tracks.position, 3)
        boxes = np.column_stack((centre - size / 2, size))
        shown = tracks.confirmed & np.isfinite(boxes).all(axis=1)
        rows = zip(
            tracks.id[shown].tolist(),
            decimals(boxes[shown], 3),
            decimals(np.nan_to_num(tracks.score[shown]), 4),
            strict=True,
        )
        frame = result.frame.index + 1
        return _lines((frame, id_, *box, score, -1, -1, -1) for id_, box, score in rows)


class DetectionsCsv(Log):
    """`detections.csv`: a row for every detection, of weak ones for those that are a track's; a number that is not
    finite is left out."""

    columns = (
        "time_s,frame,x_px,y_px,cov_xx_px2,cov_xy_px2,cov_yy_px2,"
        "left_px,top_px,width_px,height_px,area_px,score,intensity_levels,snr"
    )

    def head(self) -> bytes:
        return _lines([(self.columns,)])

    def text(self, result: FrameResult) -> bytes:
        told = result.detections.score >= self._header.settings.detection.threshold
        told[result.tracks.detection[result.tracks.detection >= 0]] = True
        seen = result.detections.take(told)
        rows = zip(
            decimals(seen.x, 3),
            decimals(seen.y, 3),
            *significant(seen.covariance.T, 4),
            *decimals(seen.box.T, 3),
            seen.area.tolist(),
            decimals(seen.score, 4),
            decimals(seen.intensity, 2),
            decimals(seen.snr, 2),
            strict=True,
        )
        return _lines((round(result.frame.time, 6), result.frame.index, *row) for row in rows)


def _lines(rows: Iterable[tuple[Cell, ...]]) -> bytes:
    return "".join(",".join("" if cell is None else str(cell) for cell in row) + "\n" for row in rows).encode()
