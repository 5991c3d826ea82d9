"""Image sequences: 8 and 16-bit as they are, colour as luminance, other depths through one fixed map to 16 bits."""

import os
import struct
from collections.abc import Iterator
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from natsort import natsorted, ns
from numpy.typing import NDArray

from irst_pipeline.errors import FrameError, UsageError
from irst_pipeline.sources.address import redact
from irst_pipeline.sources.base import Recording, log
from irst_pipeline.types import Frame, Image

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
JPEG_SIGNATURE, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
VALUE_MAX = 1e30  # no camera gives more
MARKED_MAX = 0.01  # of an image's pixels may have no value
LEVEL_MAX = 65535
TIFF_SIGNATURES = (b"II", b"MM")
SAVE_AGAIN = "if it is whole, save it uncompressed, or with LZW or deflate"  # of a TIFF; OpenCV's reads few others
STACK_MAX = 1 << 32  # bytes of a TIFF; of more ImageJ lists the first image alone as a page
AHEAD_MAX = 1 << 27  # bytes of pages decoded at once, for to find one takes longer the further back it lies
NEARLY_ALL = 0.1  # % of the pixels at either end of an image's values may lie apart
OUTLYING = 10.0


class ImageFile(NamedTuple):
    """An image on disk: a file, or one of the pages of a TIFF."""

    path: Path
    page: int = 0
    pages: int = 1

    @property
    def name(self) -> str:
        return self.path.name if self.pages == 1 else f"{self.path.name} page {self.page + 1}"


def files_of(uri: str) -> list[Path]:
    """What there is in a folder, matching a glob, or of the name itself, in natural order."""
    path = Path(uri)
    pattern = f"{escape(uri)}/*" if path.is_dir() else escape(uri) if path.exists() else uri
    names = glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob refuses absolute patterns)
    return [Path(name) for name in natsorted(names, alg=ns.PATH)]


def find_images(uri: str) -> list[ImageFile]:
    """The images in a folder, matching a glob or of one file, in natural order; raises UsageError if there are none."""
    path = Path(uri)
    if not uri:
        raise UsageError("an empty name: give a video file, a folder of images or a glob")
    if not path.exists() and not has_magic(uri):
        raise UsageError(f"{redact(uri)}: no such file or folder")
    images = [path for path in files_of(uri) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not images:
        raise UsageError(f"{redact(uri)}: no images here; images end in {', '.join(SUFFIXES)}")
    return [ImageFile(path, page, pages) for path in images for pages in [count_pages(path)] for page in range(pages)]


def count_pages(path: Path) -> int:
    """How many images a file holds; 1 also where none can be read, as is said when it is tried.

    A TIFF that was cut short, as one that is still being written, has one more, which then fails as any other.
    Raises UsageError for a TIFF of which all but the first could not be found.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        name = os.fsencode(path).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: OpenCV takes no name of a TIFF that is not UTF-8; rename it") from None
    pages = cv2.imcount(name, cv2.IMREAD_UNCHANGED)
    if pages and _lists_more_pages(path, pages):
        return pages + 1
    pages = max(1, pages)
    if pages == 1 and path.stat().st_size > STACK_MAX:
        mend = f"save it as an image sequence, or in parts of under {STACK_MAX >> 30} GB"
        raise UsageError(f"{path}: a stack of which only the first image is a page, as of ImageJ; {mend}")
    return pages


def _lists_more_pages(path: Path, pages: int) -> bool:
    """Whether a TIFF says after so many pages that there is another one."""
    with path.open("rb") as file:
        order, version = {b"II": "<", b"MM": ">"}.get(file.read(2)), file.read(2)
        if order is None:
            return False
        big = version in (b"+\0", b"\0+")  # BigTIFF
        place, count, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)

        def number(kind: str) -> int:
            return int(struct.unpack(order + kind, file.read(struct.calcsize(order + kind)))[0])

        file.seek(8 if big else 4)
        try:
            for _ in range(pages):
                file.seek(number(place))
                file.seek(number(count) * entry_bytes, os.SEEK_CUR)
            return number(place) != 0
        except (struct.error, OSError, OverflowError):  # it ends, or points anywhere
            return True


def luminance(image: NDArray[Any]) -> NDArray[Any]:
    """(H, W, channels) to (H, W) at the image's depth, or float32 where that is another than 8 or 16 bits.

    BGR and BGRA become 0.299 R + 0.587 G + 0.114 B; of grey with alpha the grey stays.
    """
    if image.shape[2] < 3:
        return image[..., 0]
    if image.dtype not in (np.uint8, np.uint16):
        image = image.astype(np.float32)
    code = cv2.COLOR_BGR2GRAY if image.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    return np.asarray(cv2.cvtColor(image, code))


class ImageSource(Recording):
    """Images as frames, `image_rate` of them a second.

    Levels other than 8 or 16 bits become 16 by the range of the first image, and from one on of which less than half
    would fit, by the range of that one. With `each`, every file has a range of its own, for all of its pages.
    """

    def __init__(self, name: str, files: list[ImageFile], image_rate: float, each: bool = False) -> None:
        super().__init__(name, image_rate, len(files))
        self._files = files
        self._each = each
        self._ahead: dict[ImageFile, NDArray[Any]] = {}  # pages
        self._levels: dict[Path | None, tuple[float, float]] = {}  # by file with `each`, or one for all
        self._colour_said = False
        self._marks_said = False

    def place(self, index: int) -> str:
        return self._files[index].name

    def close(self) -> None:
        """Nothing stays open between images."""

    def read(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            try:
                image = self._to_levels(self._to_grey(self._decode(file)), file)
            except FrameError as error:
                alone = self.name in (file.path.name, str(file.path))
                self.fail(str(error).removeprefix(f"{file.path}: ") if alone else str(error))
                continue
            yield Frame(image, index, index / self.frame_rate, self.name)

    def _decode(self, file: ImageFile) -> NDArray[Any]:
        if file.pages == 1:
            return decode(file.path)
        if file not in self._ahead:
            self._ahead = self._decode_pages(file)
        if file not in self._ahead:
            none_behind = " or find one behind it" if file.page + 1 == file.pages else ""
            raise FrameError(f"{file.path}: cannot read page {file.page + 1}{none_behind}; {SAVE_AGAIN}")
        return self._ahead[file]

    def _decode_pages(self, file: ImageFile) -> dict[ImageFile, NDArray[Any]]:
        """A page, and as many of those behind it as fit into AHEAD_MAX if they are like the one before."""
        size = max((image.nbytes for image in self._ahead.values()), default=AHEAD_MAX)
        self._ahead = {}
        count = min(max(1, AHEAD_MAX // size), file.pages - file.page)
        while count:
            try:
                _, pages = cv2.imreadmulti(str(file.path), file.page, count, flags=cv2.IMREAD_UNCHANGED)
                return {file._replace(page=page): image for page, image in enumerate(pages, file.page)}
            except cv2.error:  # one page that is refused, as for its size, refuses all that are asked for with it
                count //= 2
        return {}

    def _to_grey(self, image: NDArray[Any]) -> NDArray[Any]:
        if image.ndim == 2:
            return image
        if image.shape[2] >= 3 and not self._colour_said:
            log.warning("%s: colour images, converted to luminance", self.name)
            self._colour_said = True
        return luminance(image)

    def _to_levels(self, image: NDArray[Any], file: ImageFile) -> Image:
        """Grey levels (H, W) uint8 or uint16; other types are mapped to uint16."""
        if image.dtype in (np.uint8, np.uint16):
            return image
        image = self._without_marks(image, file)
        values, path = image.astype(np.float64), file.path if self._each else None
        low, high = self._levels.get(path, (np.nan, np.nan))  # which nothing fits
        if ((values >= low) & (values <= high)).mean() < 0.5:
            low, high = self._levels[path] = level_range(image)
            name = path.name if path else self.name
            log.warning("%s: %s levels; %g .. %g becomes 0 .. %d", name, image.dtype, low, high, LEVEL_MAX)
        return np.rint((values - low) * (LEVEL_MAX / (high - low))).clip(0, LEVEL_MAX).astype(np.uint16)

    def _without_marks(self, image: NDArray[Any], file: ImageFile) -> NDArray[Any]:
        """The image with its usual value in pixels that have none, as dead ones are marked by NaN."""
        valued = np.abs(image) <= VALUE_MAX
        if valued.all():
            return image
        marks = f"NaN, infinite or beyond {VALUE_MAX:g}"
        if (share := 1 - valued.mean()) > MARKED_MAX:
            why = f"{share:.0%} of its pixels are {marks}; fill in all but {MARKED_MAX:.0%}"
            raise FrameError(f"{file.path.with_name(file.name)}: {why}")
        if not self._marks_said:
            log.warning("%s: pixels of %s are %s; such get the median of the others", self.name, file.name, marks)
            self._marks_said = True
        return np.where(valued, image, np.median(image[valued]).astype(image.dtype))


def level_range(image: NDArray[Any]) -> tuple[float, float]:
    """Values that become 0 and 65535: all of int16, or else the image's own range and its extent to either side.

    Pixels that lie apart from nearly all others by more than `OUTLYING` times what those differ by, as a mark for "no
    data" does, are not in the range.
    """
    if image.dtype == np.int16:
        return -32768.0, 32767.0
    low, high = float(image.min()), float(image.max())
    most = np.percentile(image, [NEARLY_ALL, 100 - NEARLY_ALL])
    if reach := OUTLYING * float(np.ptp(most)):
        low, high = max(low, most[0] - reach), min(high, most[1] + reach)
    extent = high - low or 1.0
    return low - extent, high + extent


def decode(path: Path) -> NDArray[Any]:
    """The image at its own depth, (H, W) or (H, W, channels). Raises FrameError if it cannot be read whole."""
    try:
        data = path.read_bytes()
        if data.startswith(PNG_SIGNATURE) and not _has_all_chunks(data):
            raise FrameError(f"{path}: the image is cut short or damaged")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise FrameError(f"{path}: cannot read it ({error.strerror})") from None
    except cv2.error:
        image = None
    if image is None:
        raise FrameError(f"{path}: not a readable image{f'; {SAVE_AGAIN}' if data[:2] in TIFF_SIGNATURES else ''}")
    if data.startswith(JPEG_SIGNATURE) and data.find(JPEG_END, len(data) // 2) < 0:
        raise FrameError(f"{path}: the image is cut short")
    return np.asarray(image)


def _has_all_chunks(png: bytes) -> bool:
    """Whether the chunks are no longer than the file: OpenCV takes the memory that one claims, up to 4 GB."""
    at = len(PNG_SIGNATURE)
    while at < len(png):
        kind = png[at + 4 : at + 8]
        at += 12 + int.from_bytes(png[at : at + 4], "big")
        if kind == b"IEND":
            break
    return at <= len(png)
