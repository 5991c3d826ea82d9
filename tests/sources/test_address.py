"""Addresses of live streams: what is meant, what is shown."""

import os
import re
from pathlib import Path

import pytest

from irst_pipeline.errors import UsageError
from irst_pipeline.sources import open_source, redact
from irst_pipeline.sources.address import without_passwords


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@cam:554/live", "rtsp://***@cam:554/live"),
        ("RTSP://user:se/cr?et@secret@cam/live?key=secret", "RTSP://***@cam/live?***"),
        ("rtsp://cam/user=admin_password=secret_channel=1", "rtsp://cam/user=***"),
        ("http://cam/video.cgi?user=a&pwd=secret", "http://cam/video.cgi?***"),
        ("rtsp:/user:secret@cam", "rtsp:/***@cam"),
        ("rtsp:user:secret@cam/ir", "rtsp:***@cam/ir"),
        ("rtsp://user%3Asecret%40cam/ir", "rtsp://***@cam/ir"),
        ("http://cam/v%3Fpassword%3Dsecret", "http://cam/v%3F***"),
        ("http://cam/v%253Ftoken%25253Dsecret", "http://cam/v%253F***"),
        ("http://cam/v%25253dsecret", "http://cam/v%25253d***"),
        ("rtsp://user%253Asecret%2540cam/ir", "rtsp://***@cam/ir"),
        ("udp://239.0.0.1:5004", "udp://239.0.0.1:5004"),
        ("v4l2:///dev/video0?format=gray16le", "v4l2:///dev/video0?format=gray16le"),
        ("gige://10.0.0.9?format=Mono16&gain=3", "gige://10.0.0.9?format=Mono16&gain=3"),
        ("a@b?c=d.mp4", "a@b?c=d.mp4"),
    ],
)
def test_what_is_shown_of_an_address_holds_no_password(uri: str, shown: str) -> None:
    assert redact(uri) == shown


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("rtsp://user:secret@10.0.0.5:554/ir/1", "10-0-0-5-554-ir-1"),
        ("http://cam/v.cgi?pwd=secret", "cam-v-cgi"),
        ("http://cam/v%3Fpwd%3Dsecret", "cam-v"),
        ("http://cam/v%253Fpwd%253Dsecret", "cam-v"),
        ("udp://@239.0.0.1:5004", "239-0-0-1-5004"),
        ("tcp://[::1]:7000/ir", "1-7000-ir"),
        ("RTSP://cam/ir", "cam-ir"),
        ("-", "stdin"),
    ],
)
def test_names_are_fit_for_folders(uri: str, name: str) -> None:
    assert open_source(uri).name == name


@pytest.mark.parametrize("address", ["gige://10.0.0.9", "usb3://cam", "v4l2:///dev/video0", "stdin://"])
def test_a_password_that_a_device_does_not_ask_for_is_not_shown(address: str) -> None:
    with pytest.raises(UsageError, match=r"no field password; there are") as refused:
        open_source(f"{address}?format=Mono16&password=secret")
    assert str(refused.value).startswith(f"{address}: ")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("v4l2:///dev/video99?format=gray16le&size=640x512&fps=60", "no camera /dev/video99"),
        ("v4l2://?size=640x512", "there is no camera ; cameras are /dev/video0 and so on"),
        (f"v4l2://{__file__}", f"there is no camera {__file__}"),
        ("v4l2:///dev/null", "there is no camera /dev/null"),
        ("v4l2:///dev/null?bits=14", "no field bits"),
        ("stdin://?format=gray16le", "need format and size"),
        ("stdin://?format=grey16&size=64x48", "no pixel format grey16"),
        ("stdin://?format=gray16le&size=100000x100000", "16 to 8192 px a side are taken, and 16 Mpx in all"),
        ("stdin://?format=gray16le&size=8192x8192", "16 to 8192 px a side are taken, and 16 Mpx in all"),
        ("stdin://?format=gray16le&size=640x8", "16 to 8192 px a side are taken, and 16 Mpx in all"),
        ("tcp://user:secret@cam", "no port of 1 to 65535 in it; write tcp://HOST:PORT/PATH"),
        ("udp://239.0.0.1:99999", "no port of 1 to 65535 in it"),
        ("rtsp://cam:ir/1", "no port of 1 to 65535 in it"),
        ("udp://239.0.0.1:5000?fifo_size=1000000", "fifo_size is too large; give 356961 or less"),
        ("stdin://?format=gray16le&size=64x48&fps=0", "fps 0"),
        ("fifo:///dev/null?format=gray&size=64x48", "no FIFO"),
        ("/dev/null", "is a device; a camera's is written as v4l2:///dev/null"),
        (
            "gige://10.0.0.9?format=Mono12Packed",
            "format Mono12Packed: expected one of Mono8, Mono10, Mono12, Mono14, Mono16",
        ),
        ("gige://10.0.0.9?region=640x512", "region 640x512: expected X,Y,WIDTH,HEIGHT in px"),
        ("gige://10.0.0.9?exposure=fast", "exposure fast: expected microseconds"),
        ("usb3://?gain=3", "no camera in it"),
        ("gige://user:secret@10.0.0.9?size=640x512", "10.0.0.9: such a camera asks for no user"),
        ("gige://10.0.0.9?size=640x512", "no field size; there are format, exposure, gain, region and fps"),
        ("rtsp://user:secret@", "no host"),
        ("rtsp://user:secret@/ir", "no host"),
        ("carrier-pigeon://user:secret@loft", "no such kind"),
        ("rtsp:/user:secret@cam", "no such file"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(uri: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        open_source(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("user:secret@cam/ir: no such file or folder", "user:***@cam/ir: no such file or folder"),
        ("//user:secret@cam/ir: no such file or folder", "//user:***@cam/ir: no such file or folder"),
        ("live.read_seconds: found 'rtsp://a:secret@b'", "live.read_seconds: found 'rtsp://***@b'"),
        ("http:/u:secret@h/x.yaml: is not there", "http:/***@h/x.yaml: is not there"),
        ("rtsp://***@h/ir: no frames", "rtsp://***@h/ir: no frames"),
        ("out/rtsp://a:secret@b: is not there", "out/rtsp://***@b: is not there"),
        ("a.mp4: 8x8 px; give a@b.mp4", "a.mp4: 8x8 px; give a@b.mp4"),
        ("runs/2024-01-01T10:30/cam@north.mp4: no video", "runs/2024-01-01T10:30/cam@north.mp4: no video"),
    ],
)
def test_a_line_says_no_password_wherever_an_address_has_got_into_it(line: str, said: str) -> None:
    assert without_passwords(line) == said


def test_a_fifo_is_not_waited_for_as_if_it_were_a_file(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "camera.nut")
    with pytest.raises(UsageError, match=re.escape(f"is a FIFO; write fifo://{fifo}")):
        open_source(str(fifo))
