"""Video files written with FFmpeg and read back through open_source."""

import logging
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame
from tests.running import read_csv
from tests.sources.cameras import jpegs_with_one_cut_short

WIDTH, HEIGHT = 160, 128
X265_LOSSLESS = {"x265-params": "lossless=1:log-level=none"}


def scenes(count: int, levels: int = 256, seed: int = 0) -> list[NDArray[np.uint16]]:
    """Moving gradients with noise that use the whole range 0 .. levels - 1."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) / (HEIGHT + WIDTH)
    noise = rng.normal(0, levels / 100, (count, HEIGHT, WIDTH))
    return [((ramp + i / 50) % 1 * levels + noise[i]).clip(0, levels - 1).astype(np.uint16) for i in range(count)]


def write(
    path: Path,
    codec: str,
    pixel_format: str,
    images: Sequence[NDArray[Any]],
    source_format: str = "gray",
    options: dict[str, str] | None = None,
    ticks: Sequence[int] | None = None,
) -> Path:
    """A video at 30 frames/s, or with times `ticks` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pixel_format
        if ticks:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=source_format)
            if source_format != pixel_format:
                frame = frame.reformat(format=pixel_format)
            frame.pts = ticks[index] if ticks else index
            if ticks:
                frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def grey_video(path: Path, count: int = 60, **options: str) -> Path:
    images = [image.astype(np.uint8) for image in scenes(count)]
    return write(path, "libx264", "yuv420p", images, options=options)


def read(path: Path) -> tuple[list[Frame], int]:
    """All frames, and how many failed."""
    source = open_source(str(path))
    try:
        return list(source), source.frames_failed
    finally:
        source.close()


@pytest.mark.parametrize(
    ("codec", "pixel_format", "levels", "options"),
    [
        ("ffv1", "gray", 256, {}),
        ("ffv1", "gray10le", 1024, {}),
        ("ffv1", "gray12le", 4096, {}),
        ("ffv1", "gray14le", 16384, {}),
        ("ffv1", "gray16le", 65536, {}),
        ("libx265", "gray12le", 4096, X265_LOSSLESS),
        ("png", "gray16be", 65536, {}),
    ],
)
def test_lossless_grey_comes_back_bit_for_bit(
    tmp_path: Path, codec: str, pixel_format: str, levels: int, options: dict[str, str]
) -> None:
    formats = av.Codec(codec, "w").video_formats if codec in av.codecs_available else None
    if pixel_format not in [f.name for f in formats or []]:
        pytest.skip(f"this FFmpeg does not write {codec} {pixel_format}")
    images: list[NDArray[Any]] = list(scenes(5, levels))
    kind = np.uint8 if levels == 256 else np.uint16
    stored = [image.astype(kind) for image in images]
    name = "video.mov" if codec == "png" else "video.mkv"
    path = write(tmp_path / name, codec, pixel_format, stored, pixel_format.replace("be", "le"), options)
    frames, failed = read(path)
    assert failed == 0
    assert len(frames) == 5
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.dtype == kind
        assert frame.image.dtype.isnative
        np.testing.assert_array_equal(frame.image, image)
    if levels > 256:
        assert len(np.unique(frames[0].image)) > 900


@pytest.mark.parametrize("fourcc", [b"Y16 ", bytes(4)])
def test_16_bit_grey_in_an_avi_comes_back_bit_for_bit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fourcc: bytes
) -> None:
    """FFmpeg does not know the one, and takes the other, which has no name, for colours of 5 bits."""
    images = scenes(4, 65536)
    path = write(tmp_path / "video.avi", "rawvideo", "gray16le", images, source_format="gray16le")
    content = bytearray(path.read_bytes())
    header = content.index(b"strf") + 8
    content[header + 16 : header + 20] = fourcc
    if any(fourcc):
        content[header + 8 : header + 12] = HEIGHT.to_bytes(4, "little")  # FFmpeg writes it negative
    path.write_bytes(content)
    frames, failed = read(path)
    assert (len(frames), failed, caplog.messages) == (4, 0, [])
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(4) / 30, atol=1e-4)


def test_colours_of_5_bits_in_an_avi_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    colours = [np.full((HEIGHT, WIDTH, 3), (0, 0, 248), np.uint8)]
    path = write(tmp_path / "video.avi", "rawvideo", "rgb555le", colours, source_format="rgb24")
    content = bytearray(path.read_bytes())
    header = content.index(b"strf") + 8
    content[header + 8 : header + 12] = HEIGHT.to_bytes(4, "little")  # as Windows writes it, the last line first
    path.write_bytes(content)
    frames, _ = read(path)
    assert frames[0].image.max() < 40, "blue is dark"
    assert caplog.messages == ["video.avi: colour video (rgb555le), converted to luminance"]


def test_the_header_of_a_file_of_raw_frames_is_left_out(tmp_path: Path) -> None:
    images, path = scenes(5, 1 << 14), tmp_path / "dump.raw"
    path.write_bytes(bytes(range(200)) + b"".join(image.tobytes() for image in images))
    uri = f"raw://{path}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=25&header="
    with closing(open_source(f"{uri}200")) as source:
        np.testing.assert_array_equal([frame.image for frame in source], images)
        assert source.frames_failed == 0
    with pytest.raises(IrstError, match="header -1: expected bytes before the first frame"):
        open_source(f"{uri}-1")


@pytest.mark.parametrize("kind", ["|u1", "<u2", ">u2"])
def test_of_an_array_of_frames_the_address_is_told(kind: str, tmp_path: Path) -> None:
    images = np.array(scenes(5, 200)).astype(kind)
    np.save(tmp_path / "scenes.npy", images)
    with pytest.raises(IrstError, match="this NumPy array is 'raw://") as told:
        open_source(str(tmp_path / "scenes.npy"))
    with closing(open_source(str(told.value).split("'")[1])) as source:
        np.testing.assert_array_equal([frame.image for frame in source], images)
        assert source.frames_failed == 0


@pytest.mark.parametrize(
    "array", [np.zeros((4, 20, 30), np.float32), np.zeros((4, 20, 30, 3), np.uint8), np.zeros((20, 30), "u1", "F")]
)
def test_of_another_array_it_is_told_what_is_taken(array: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "scenes.npy", array)
    with pytest.raises(IrstError, match=r"uint8 or uint16 of \(frames, height, width\) are taken, this is "):
        open_source(str(tmp_path / "scenes.npy"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "scenes.npy").read_bytes()[:40])
    with pytest.raises(IrstError, match=r"cut\.npy: .*give raw frames as 'raw://"):
        open_source(str(tmp_path / "cut.npy"))


def test_a_file_of_raw_frames_comes_back_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, path = scenes(12, 1 << 14), tmp_path / "dump.raw"
    path.write_bytes(b"".join(image.tobytes() for image in images))
    uri = f"raw://{path}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=25"
    with closing(open_source(uri)) as source:
        frames = list(source)
        assert (source.live, source.name, source.frame_count, source.frame_rate) == (False, "dump.raw", 12, 25)
    np.testing.assert_array_equal([frame.image for frame in frames], images)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 25)
    assert not caplog.text
    path.write_bytes(path.read_bytes()[:-100])
    with closing(open_source(uri)) as source:
        assert [len(list(source)), source.frames_failed] == [11, 1]
    assert f"its last {2 * WIDTH * HEIGHT - 100} bytes are no whole frame; check format, size and header" in caplog.text
    with pytest.raises(UsageError, match="need format and size"):
        open_source(f"raw://{path}?size=640x512")
    with pytest.raises(UsageError, match="no file /nowhere"):
        open_source("raw:///nowhere?format=gray8&size=640x512")


@pytest.mark.parametrize(("pixel_format", "shift"), [("yuv420p", 0), ("yuv420p10le", 2), ("yuv420p12le", 4)])
def test_yuv_gives_the_luma_plane_as_stored(tmp_path: Path, pixel_format: str, shift: int) -> None:
    """Limited range stays limited, 10 and 12 bits stay 10 and 12 bits."""
    luma = (16 + np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) * 219 // (HEIGHT + WIDTH)) << shift
    if shift:
        luma += np.arange(WIDTH) % (1 << shift)  # levels between those of 8 bits
    kind = np.dtype(np.uint16 if shift else np.uint8)
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    for plane, values in zip(frame.planes, (luma, 128 << shift, 128 << shift), strict=True):
        rows = np.full((plane.height, plane.line_size // kind.itemsize), 128 << shift, kind)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    with av.open(str(tmp_path / "video.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt, frame.pts = WIDTH, HEIGHT, pixel_format, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (read_back,), _ = read(tmp_path / "video.mkv")
    assert read_back.image.dtype == kind
    np.testing.assert_array_equal(read_back.image, luma)


def test_grey_yuv_is_not_called_colour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames, failed = read(grey_video(tmp_path / "video.mp4", 10))
    assert (len(frames), failed) == (10, 0)
    assert not caplog.records


@pytest.mark.parametrize(("codec", "pixel_format"), [("ffv1", "bgr0"), ("gif", "pal8"), ("ffv1", "gbrp16le")])
def test_colour_becomes_luminance_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, pixel_format: str
) -> None:
    images: list[NDArray[Any]] = []
    for shift in range(5):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[:, :, 0] = 200  # R
        image[:, shift * 20 :, 1] = 100  # G
        image[HEIGHT // 2 :, :, 2] = 50  # B
        images.append(image)
    path = tmp_path / ("video.gif" if codec == "gif" else "video.mkv")
    if pixel_format == "pal8":
        path = write_palette(path, images)
    else:
        path = write(path, codec, pixel_format, images, source_format="rgb24")
    frames, _ = read(path)
    assert len(frames) == 5
    depth = 257 if pixel_format == "gbrp16le" else 1
    assert frames[0].image.dtype == (np.uint16 if depth > 1 else np.uint8)
    for frame, image in zip(frames, images, strict=True):
        expected = image @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(frame.image / depth, expected, atol=1)
    assert [r.message for r in caplog.records if "luminance" in r.message] == [
        f"{path.name}: colour video ({'bgra' if codec == 'gif' else pixel_format}), converted to luminance"
    ]


def test_interlaced_frames_of_two_lines_are_read(tmp_path: Path) -> None:
    """Though none of their lines lies between two of a field."""
    images = [np.full((2, 64), level, np.uint8) for level in (40, 120)]
    options = {"flags": "+ilme+ildct", "b": "20000000"}
    frames, _ = read(write(tmp_path / "video.mkv", "mpeg2video", "yuv420p", images, options=options))
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_allclose(frame.image, 16 + image * (219 / 255), atol=2)


def passing_point(moment: float, height: int) -> NDArray[np.uint8]:
    """A point that flies 8 px a frame to the right over noise, at a moment in frames."""
    y, x = np.mgrid[:height, :WIDTH]
    point = 150 * np.exp(-(np.square(x - 30 - 8 * moment) + np.square(y - 60)) / (2 * 1.2**2))
    return (40 + point + np.random.default_rng(round(2 * moment)).normal(0, 1, point.shape)).astype(np.uint8)


@pytest.mark.parametrize(("codec", "height"), [("libx264", HEIGHT), ("mpeg2video", HEIGHT), ("mpeg2video", HEIGHT - 1)])
def test_interlaced_frames_show_one_moment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, height: int
) -> None:
    images = [passing_point(index, height) for index in range(5)]
    woven = [image.copy() for image in images]
    for index, image in enumerate(woven):
        image[1::2] = passing_point(index + 0.5, height)[1::2]
    path, options = tmp_path / "video.mkv", {"flags": "+ilme+ildct", "b": "20000000"}
    frames, _ = read(write(path, codec, "yuv422p" if height % 2 else "yuv420p", woven, options=options))
    assert caplog.messages == ["video.mkv: interlaced video; of each frame one field is used"]
    for index, frame in enumerate(frames):
        found = frame.image.astype(float)
        assert found.shape == (height, WIDTH)
        bright = np.where(found > found.max() / 2, found, 0).sum(0)
        place = bright @ np.arange(WIDTH) / bright.sum()
        assert place == pytest.approx(30 + 8 * index, abs=0.3)
        assert np.flatnonzero(bright).size <= 4  # the point's width, not its way
        np.testing.assert_allclose(found[1:-1:2], (found[:-2:2] + found[2::2])[: (height - 1) // 2] / 2, atol=0.5)


def write_palette(path: Path, images: list[NDArray[Any]]) -> Path:
    """A GIF whose palettes hold each image's colours exactly."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("gif", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "pal8"
        for index, image in enumerate(images):
            colours, indices = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
            palette = np.full((256, 4), 255, np.uint8)
            palette[: len(colours), 1:] = colours  # ARGB
            pair = (indices.reshape(HEIGHT, WIDTH).astype(np.uint8), palette)
            frame = av.VideoFrame.from_ndarray(pair, format="pal8")  # type: ignore[arg-type]
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_coloured_yuv_gives_its_luma_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.full((HEIGHT, WIDTH, 3), (255, 0, 0), np.uint8)
    frames, _ = read(write(tmp_path / "video.mp4", "libx264", "yuv420p", [image] * 5, source_format="rgb24"))
    red = 16 + 219 * 0.299
    assert abs(float(frames[0].image.mean()) - red) < 2
    assert sum("luminance" in r.message for r in caplog.records) == 1


def test_times_are_the_files_own(tmp_path: Path) -> None:
    ticks = [500, 533, 566, 700, 701, 1500]
    images = [image.astype(np.uint8) for image in scenes(len(ticks))]
    frames, _ = read(write(tmp_path / "video.mkv", "ffv1", "gray", images, ticks=ticks))
    np.testing.assert_allclose([frame.time for frame in frames], np.array(ticks) / 1000, atol=1e-6)
    assert [frame.index for frame in frames] == list(range(len(ticks)))


@pytest.mark.parametrize(
    ("ticks", "missing"),
    [
        ([*range(0, 1000, 40), *range(1000, 3000, 100)], 0),  # a rate that changes
        ([int(t) for t in np.cumsum(np.random.default_rng(0).choice([20, 40, 90], 60))], 0),  # and one that varies
        ([90_000_000 + 40 * i for i in range(60)], 0),
        ([40 * i for i in range(60) if not 20 <= i < 30], 10),
    ],
    ids=["changing", "varying", "late", "gap"],
)
def test_what_is_missing_is_told_by_the_files_own_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ticks: list[int], missing: int
) -> None:
    images = [image.astype(np.uint8) for image in scenes(len(ticks))]
    frames, failed = read(write(tmp_path / "video.mkv", "ffv1", "gray", images, ticks=ticks))
    assert (len(frames), failed) == (len(ticks), 0)
    said = [record.message for record in caplog.records if "missing" in record.message]
    assert said == [f"video.mkv: about {missing} of the 60 frames that fit its times are missing"] * bool(missing)


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_times_of_an_avi_are_even(tmp_path: Path, b_frames: str) -> None:
    """It has no time stamps, but the order in which frames are decoded, which B-frames do not keep."""
    frames, _ = read(grey_video(tmp_path / "video.avi", 40, bf=b_frames))
    assert len(frames) == 40
    np.testing.assert_allclose(np.diff([frame.time for frame in frames]), 1 / 30, atol=1e-6)


def test_empty_frames_by_which_an_avi_keeps_time_are_not_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [image.astype(np.uint8) for image in scenes(60)]
    ticks = [int(t) for t in np.cumsum(np.random.default_rng(0).choice([20, 40, 90], 60))]
    path = write(tmp_path / "video.avi", "ffv1", "gray", images, ticks=ticks)
    frames, failed = read(path)
    assert (len(frames), failed) == (60, 0)
    np.testing.assert_allclose(np.diff([frame.time for frame in frames])[1:], np.diff(ticks)[1:] / 1000, atol=1e-3)
    assert not caplog.records


def test_a_stream_without_times_gets_them_from_its_frame_rate(tmp_path: Path) -> None:
    source = open_source(str(grey_video(tmp_path / "video.h264", 30)))
    times = [frame.time for frame in source]
    source.close()
    assert source.frame_rate == 30
    np.testing.assert_allclose(times, np.arange(30) / 30, atol=1e-6)


def test_times_increase_where_the_files_do_not(tmp_path: Path) -> None:
    """Two recordings in one MPEG-TS: the clock starts again in the middle."""
    once = grey_video(tmp_path / "once.ts", 20).read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    frames, _ = read(tmp_path / "twice.ts")
    assert len(frames) >= 38
    steps = np.diff([frame.time for frame in frames])
    np.testing.assert_allclose(steps[-15:], 1 / 30, atol=1e-3)
    assert (steps > 0).all()


def test_times_go_on_where_a_file_begins_again_at_an_earlier_time(tmp_path: Path) -> None:
    """A recording of two uptimes of a camera: by its clock the second ended before the first began."""
    images = [image.astype(np.uint8) for image in scenes(20)]
    uneven = [*range(0, 400, 40), *range(400, 1400, 100)]
    late = [300_000 + 40 * i for i in range(20)]
    parts = [
        write(tmp_path / f"{name}.ts", "libx264", "yuv420p", images, ticks=ticks).read_bytes()
        for name, ticks in (("late", late), ("early", uneven))
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    frames, failed = read(tmp_path / "both.ts")
    assert (len(frames), failed) == (40, 0)
    steps = np.diff([frame.time for frame in frames])
    np.testing.assert_allclose(steps[:19], 0.04, atol=1e-4)
    assert 0 < steps[19] < 1
    np.testing.assert_allclose(steps[20:], np.diff(uneven) / 1000, atol=1e-4)


def test_a_single_time_stamp_that_is_damaged_moves_no_others(tmp_path: Path) -> None:
    images, ticks = [image.astype(np.uint8) for image in scenes(20)], [60_000 + 40 * i for i in range(20)]
    path = write(tmp_path / "video.ts", "libx264", "yuv420p", images, ticks=ticks)
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content.startswith(b"\0\0\1\xe0", at)]
    content[starts[10] + 9 : starts[10] + 14] = b"\x21\0\1\0\1"  # the time 0, as MPEG writes it
    path.write_bytes(content)
    frames, failed = read(path)
    assert (len(frames), failed) == (20, 0)
    steps = np.diff([frame.time for frame in frames])
    np.testing.assert_allclose(np.delete(steps, [9, 10]), 0.04, atol=1e-4)
    assert steps[9] + steps[10] == pytest.approx(0.08, abs=1e-4)


@pytest.mark.parametrize("name", ["video.nut", "video.asf", "video.mkv"])
def test_nothing_is_missing_from_a_file_that_begins_late(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    images = [image.astype(np.uint8) for image in scenes(30)]
    ticks = [90_000 + round(1000 * i / 30) for i in range(30)]
    path = write(tmp_path / name, "ffv1", "gray", images, ticks=ticks)
    with closing(open_source(str(path))) as source:
        assert source.frame_count in (29, 30)  # NUT says when its last frame begins, not when it ends
        np.testing.assert_allclose([frame.time for frame in source], np.array(ticks) / 1000, atol=1e-6)
    assert not caplog.records


@pytest.mark.parametrize("name", ["12:30:05.mkv", "file:a.mkv", "http:a.mkv"])
def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    images = [image.astype(np.uint8) for image in scenes(3)]
    write(tmp_path / "video.mkv", "ffv1", "gray", images).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name))[0]) == 3


def test_a_source_says_what_it_knows(tmp_path: Path) -> None:
    for name in ("video.mp4", "video.mkv"):
        source = open_source(str(grey_video(tmp_path / name, 45)))
        assert (source.name, source.frame_rate, source.frame_count, source.frames_failed) == (name, 30, 45, 0)
        assert next(iter(source)).source == name
        source.close()


@pytest.mark.parametrize(("name", "options"), [("video.mkv", {}), ("video.mp4", {"movflags": "faststart"})])
def test_a_truncated_video_is_read_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, options: dict[str, str]
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in scenes(60):
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="gray")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    frames, failed = read(path)
    assert 10 < len(frames) < 50
    assert [frame.index for frame in frames] == list(range(len(frames)))
    (said,) = [r.message for r in caplog.records if "missing" in r.message]
    if name == "video.mp4":  # declares a count
        assert failed == 60 - len(frames)
        assert f"{failed} frame(s) could not be read" in caplog.records[-1].message
    else:
        assert f"about {60 - len(frames) - failed} of the 60 frames" in said


def test_an_mp4_without_its_index_is_refused_in_one_line(tmp_path: Path) -> None:
    path = grey_video(tmp_path / "video.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(IrstError, match=r"video\.mp4: not a video, or one cut short") as error:
        open_source(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["y16.raw", "y16.bin", "y16.yuv"])
def test_how_raw_frames_are_given_is_said_of_a_file_of_them(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    np.random.default_rng(0).normal(8000, 20, (5, 48, 64)).astype("<u2").tofile(path)
    with pytest.raises(IrstError, match=rf"give raw frames as 'raw://{path}\?format=gray16le"):
        open_source(str(path))
    with closing(open_source(f"raw://{path}?format=gray16le&size=64x48")) as source:
        assert len(list(source)) == 5


def test_damage_in_the_middle_costs_only_the_frames_it_hits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = grey_video(tmp_path / "video.mp4", g="10")
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(0).integers(0, 256, 300, np.uint8).tobytes()
    path.write_bytes(data)
    frames, failed = read(path)
    assert failed > 0
    assert 50 <= len(frames) <= 60 - failed
    assert f"{failed} frame(s) could not be read" in caplog.records[-1].message
    for frame in frames:  # index and time still belong together
        assert frame.time == whole[frame.index].time
    np.testing.assert_array_equal(frames[-1].image, whole[-1].image)


@pytest.mark.parametrize("name", ["video.mkv", "video.ts", "video.h264"])
def test_a_damaged_video_is_read_on(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    path = grey_video(tmp_path / name, g="10")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    frames, failed = read(path)
    assert 20 <= len(frames) < 60
    assert (np.diff([frame.index for frame in frames]) > 0).all()
    assert (np.diff([frame.time for frame in frames]) > 0).all()
    assert failed > 0 or "missing" in caplog.text


@pytest.mark.parametrize("container", ["avi", "matroska"])
def test_of_a_jpeg_that_is_cut_short_nothing_is_made_up(tmp_path: Path, container: str) -> None:
    (path := tmp_path / "video").write_bytes(jpegs_with_one_cut_short(container))
    frames, failed = read(path)
    assert ([frame.index for frame in frames], failed) == ([*range(7), *range(8, 20)], 1)


def test_a_file_of_which_nothing_decodes_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "video.mov", "png", "gray", [image.astype(np.uint8) for image in scenes(30)])
    path.write_bytes(path.read_bytes().replace(b"IHDR", b"XXXX"))
    source = open_source(str(path))
    with pytest.raises(IrstError, match=r"video\.mov: not one frame could be read \(30 failed\)"):
        list(source)
    source.close()
    assert source.frames_failed == 30
    assert len(caplog.records) < 15


@pytest.mark.parametrize("name", ["video.h264", "video.ts"])
def test_frames_of_another_size_are_skipped_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    large = [image.astype(np.uint8) for image in scenes(20)]
    small = [image[::2, ::2].copy() for image in large]
    first = write(tmp_path / f"first-{name}", "libx264", "yuv420p", large)
    second = write(tmp_path / f"second-{name}", "libx264", "yuv420p", small)
    (tmp_path / name).write_bytes(first.read_bytes() + second.read_bytes())
    frames, failed = read(tmp_path / name)
    assert len(frames) >= 19
    assert failed >= 19
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH)}
    (said,) = [r.message for r in caplog.records if "80x64 uint8" in r.message]
    assert "160x128 uint8" in said


def test_what_ffmpeg_does_not_know_is_told_how_to_be_stored(tmp_path: Path) -> None:
    images = [image.astype(np.uint8) for image in scenes(2)]
    path = write(tmp_path / "video.avi", "rawvideo", "gray", images)
    data = path.read_bytes()
    assert b"Y800" in data
    path.write_bytes(data.replace(b"Y800", b"Y17 "))
    with pytest.raises(IrstError, match=r"video\.avi: FFmpeg has no decoder for its video; export it as FFV1"):
        open_source(str(path))


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(IrstError, match=r"sound\.mkv: no video stream in it; give raw frames as 'raw://"):
        open_source(str(path))


@pytest.mark.parametrize(("name", "content"), [("a.mp4", b""), ("b.mp4", b"no video" * 99), ("c.txt", b"words\n" * 99)])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IrstError, match=name) as error:
        open_source(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"nowhere/video\.mp4: no such file"):
        open_source("nowhere/video.mp4")


@pytest.mark.real
def test_every_frame_of_real_recordings_is_read(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = real_data / "drone-ir"
    rows = [row for row in read_csv(data / "index.csv") if row["split"] == "val"][::24]
    assert len(rows) >= 3
    with caplog.at_level(logging.WARNING, "irst"):
        for row in rows:
            frames, failed = read(data / "val" / f"{row['name']}.mp4")
            assert failed == 0
            assert [frame.index for frame in frames] == list(range(int(row["frames"])))
            assert frames[0].image.shape == (256, 320)
    assert not caplog.records
