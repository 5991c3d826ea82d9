"""The annotated video plays everywhere, keeps the source's times, and shows tracks where they are."""

from pathlib import Path

import av
import numpy as np
import pytest

from irst_pipeline.config import VideoSettings
from irst_pipeline.disk import parts_set_aside
from irst_pipeline.errors import IrstError
from irst_pipeline.sinks import open_sinks
from irst_pipeline.sinks.agc import Picture
from irst_pipeline.sinks.annotate import Trails, draw
from irst_pipeline.types import STANDS_STILL, FrameResult, Integers, TrackStatus
from tests.running import forget_memory_peak, memory_peak
from tests.sinks.sink_streams import C, P, T, header, ramp, result, tracks

GREY = np.full((60, 80), 100, np.uint8)


def write(folder: Path, results: list[FrameResult], rate: float = 30.0, min_height: int = 480) -> Path:
    (sink,) = open_sinks(
        ["video"], folder, header(frame_rate=rate, video=VideoSettings(min_height=min_height))
    ).values()
    for item in results:
        sink.write(item)
    sink.close()
    return folder / "annotated.mp4"


def read(path: Path) -> tuple[list[float], list[Picture]]:
    """Times (s) and BGR pictures."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [float(frame.time) for frame in frames if frame.time is not None]
    return times, [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames]


def coloured(picture: Picture) -> tuple[Integers, Integers]:
    """Rows and columns where a picture made from grey has colour."""
    rows, columns = np.nonzero(np.ptp(picture.astype(int), axis=2) > 40)
    return rows, columns


def mp4_boxes(path: Path) -> set[str]:
    """Kinds of the file's outermost parts."""
    data, place, kinds = path.read_bytes(), 0, set()
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kinds.add(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place + 8 : place + 16], "big") if size == 1 else size
    return kinds


def test_it_is_what_browsers_play(tmp_path: Path) -> None:
    path = write(tmp_path, [result(i, tracks([i], [9])) for i in range(40)])
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (640, 512)  # 8 times 80x64, the first factor that gives 480 rows
        keys = [
            packet.pts * packet.time_base
            for packet in container.demux()
            if packet.is_keyframe and packet.pts is not None
        ]
    assert keys == [0, 1]
    assert len(read(path)[0]) == 40
    assert mp4_boxes(path) == {"ftyp", "free", "mdat", "moov"}  # one index, no fragments: any player can seek


def test_its_times_are_the_sources(tmp_path: Path) -> None:
    times = [7.0, 7.04, 7.1, 9.5, 9.5, 9.533, 13.0]  # uneven, a gap, and one time twice
    shown, _ = read(write(tmp_path, [result(i, time=time) for i, time in enumerate(times)]))
    np.testing.assert_allclose(shown, np.array(times) - 7.0, atol=2 / 90_000)
    assert (np.diff(shown) > 0).all()


@pytest.mark.parametrize("rate", [1e-5, 999_999.9999])
def test_its_times_are_true_also_at_a_rate_that_no_container_can_be_told(tmp_path: Path, rate: float) -> None:
    """As that of a picture a day."""
    shown, _ = read(write(tmp_path, [result(i, time=time) for i, time in enumerate([0.0, 0.25, 2.0])], rate=rate))
    assert shown == pytest.approx([0.0, 0.25, 2.0])


def test_after_a_pause_of_hours_times_are_true(tmp_path: Path) -> None:
    """An MP4 counts how long a frame is shown in 32 bits: what is longer would spoil the times of all that follows."""
    times = [0.0, 1.0, 23_861.0, 50_000.0, 50_001.0]  # the first pause is just short enough
    path = write(tmp_path, [result(i, time=time) for i, time in enumerate(times)])
    (before,) = parts_set_aside(path)
    assert [read(part)[0] for part in (before, path)] == [
        pytest.approx([0.0, 1.0, 23_861.0]),
        pytest.approx([0.0, 1.0]),
    ]


@pytest.mark.parametrize(("height", "width"), [(33, 47), (480, 641), (16, 16)])
def test_odd_frames_lose_nothing(height: int, width: int, tmp_path: Path) -> None:
    image = np.full((height, width), 50, np.uint8)
    image[-1, -1] = 200
    _, pictures = read(write(tmp_path, [result(0, image=image)], min_height=33))
    scale = 3 if height == 16 else 1
    expected = (scale * height + scale * height % 2, scale * width + scale * width % 2, 3)
    assert pictures[0].shape == expected
    assert pictures[0][-1, -1].min() > 150


def test_a_stream_that_changes_its_size_is_shown_to_its_end(tmp_path: Path) -> None:
    sizes = [(60, 80), (120, 90), (41, 81), (60, 80)]
    images = [np.full(size, 10, np.uint8) for size in sizes]
    for image in images:
        image[:, image.shape[1] // 2 :] = 200
    _, pictures = read(write(tmp_path, [result(i, image=image) for i, image in enumerate(images)]))
    assert [picture.shape for picture in pictures] == [pictures[0].shape] * 4
    for picture in pictures:
        width = picture.shape[1]
        assert picture[:, : width // 2 - 20].mean() < 60
        assert picture[:, width // 2 + 20 :].mean() > 180


def test_a_frame_that_is_larger_than_the_first_is_not_enlarged_like_it(tmp_path: Path) -> None:
    """The first is enlarged 30 times; as many times the second would be 38,400 px wide, of 3.5 GB."""
    forget_memory_peak()
    before = memory_peak()
    sizes = [(16, 16), (1024, 1280)]
    path = write(tmp_path, [result(i, image=np.full(size, 10, np.uint8)) for i, size in enumerate(sizes)])
    assert memory_peak() - before < 300_000  # kB
    assert [picture.shape for picture in read(path)[1]] == 2 * [(480, 480, 3)]


def test_pictures_that_cannot_be_encoded_are_told_in_one_line(tmp_path: Path) -> None:
    """H.264 has 16,384 lines at most."""
    (sink,) = open_sinks(["video"], tmp_path, header()).values()
    with pytest.raises(IrstError, match=r"annotated.mp4: cannot encode it \(.*\); run with --no-video"):
        sink.write(result(0, image=np.zeros((16_386, 16), np.uint8)))
    sink.close()
    assert not [*tmp_path.iterdir()]


def test_of_a_run_without_frames_there_is_no_video(tmp_path: Path) -> None:
    """No player would open it."""
    assert not write(tmp_path, []).exists()


def test_the_box_of_the_video_is_around_the_target(tmp_path: Path) -> None:
    _, pictures = read(write(tmp_path, [result(i, tracks([50.5], [30.25], velocity=(0, 0))) for i in range(3)]))
    rows, columns = coloured(pictures[-1][:, :450])  # 8 screen px a pixel; the id stands right of the box
    left, top, bottom = columns.min(), rows.min(), rows.max()
    assert (top + bottom) / 2 == pytest.approx(8 * 30.25 + 3.5, abs=2)
    assert left == pytest.approx(8 * 50.5 + 3.5 - (8 * 1.5 + 5), abs=3)  # 1.5 px to the edge of the target, 5 beyond


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("place", [(40.0, 30.0), (40.5, 29.75)])
def test_a_box_is_centred_on_its_track(scale: int, place: tuple[float, float]) -> None:
    boxed = draw(GREY, tracks([place[0]], [place[1]], [P], velocity=(0, 0), size=(9, 5)), scale=scale)
    assert boxed.shape == (60 * scale, 80 * scale, 3)
    rows, columns = coloured(boxed)
    half = (max(scale * 9 / 2 + 5, 11), max(scale * 5 / 2 + 5, 11))
    centre = [scale * value + (scale - 1) / 2 for value in place]
    assert columns.min() == pytest.approx(centre[0] - half[0], abs=1.1)
    box = columns <= centre[0] + half[0] + 1  # the id is right of it
    assert rows[box].max() == pytest.approx(centre[1] + half[1], abs=1.1)
    assert rows[box].min() == pytest.approx(centre[1] - half[1], abs=1.1)


def test_a_target_is_not_painted_over() -> None:
    path = np.column_stack((np.linspace(5, 40, 30), np.linspace(5, 30, 30)))
    picture = draw(GREY, tracks([40], [30], velocity=(60, 20)), trails={1: path}, scale=4)
    np.testing.assert_array_equal(picture[4 * 29 : 4 * 32, 4 * 39 : 4 * 42], 100)
    assert (np.ptp(picture[: 4 * 25, : 4 * 30].astype(int), axis=2) > 40).any()  # the trail outside


def test_a_velocity_line_ends_where_the_track_will_be() -> None:
    still = draw(GREY, tracks([30], [30], velocity=(0, 0)), scale=4)
    moving = draw(GREY, tracks([30], [30], velocity=(0, 40)), scale=4, velocity_seconds=0.5)
    rows = np.nonzero((still != moving).any(axis=2))[0]
    assert rows.max() == pytest.approx(4 * (30 + 20) + 1.5, abs=3)


def test_status_can_be_told() -> None:
    def ink(status: TrackStatus) -> float:
        picture = draw(GREY, tracks([40], [30], [status], velocity=(0, 0)), scale=4)
        return float(np.ptp(picture.astype(int), axis=2).sum())

    assert ink(T) == 0
    assert (draw(GREY, tracks([40], [30], [T]), scale=4) != 100).any()  # grey, but there
    assert 0 < ink(P) < 0.7 * ink(C)


def test_ids_have_their_own_colours() -> None:
    brightest = set()
    for id_ in range(1, 9):
        picture = draw(GREY, tracks([40], [30], velocity=(0, 0), first_id=id_), scale=4)
        flat = picture.reshape(-1, 3)
        brightest.add(tuple(flat[np.ptp(flat.astype(int), axis=1).argmax()].tolist()))
    assert len(brightest) == 8


def test_drawing_changes_nothing_and_takes_anything() -> None:
    image = GREY.copy()
    wild = tracks([np.nan, 1e12, -50, 79, 5], [5, -1e12, 30, 59, np.inf], velocity=(1e9, np.nan))
    draw(image, wild, trails={2: np.array([[1e12, 0.0]]), 3: np.empty((0, 2))}, caption="0.000 s", scale=2)
    wild.vy[:] = -1e9
    draw(image, wild, scale=2)
    np.testing.assert_array_equal(image, GREY)
    np.testing.assert_array_equal(draw(image, tracks()), np.repeat(GREY[..., None], 3, axis=2))


def test_trails_reach_back_so_long_and_end_with_the_track() -> None:
    trails = Trails(seconds=1.0)
    for step in range(30):
        paths = trails.update(tracks([step], [2 * step]), step / 10, STANDS_STILL)
    np.testing.assert_array_equal(paths[1], [(step, 2 * step) for step in range(19, 30)])
    np.testing.assert_array_equal(trails.update(tracks([500], [80]), 2.95, STANDS_STILL, [1])[1], [(500, 80)])
    assert trails.update(tracks(), 3.0, STANDS_STILL) == {}
    assert len(trails.update(tracks([5], [5]), 3.1, STANDS_STILL)[1]) == 1


def test_16_bit_frames_have_contrast_in_the_video(tmp_path: Path) -> None:
    _, pictures = read(write(tmp_path, [result(0, image=ramp(8000, 8100))], min_height=120))
    below = pictures[0][40:]  # under the caption
    assert below.max() > 240
    assert np.ptp(below[:, 50].astype(int).mean(axis=1)) > 120
