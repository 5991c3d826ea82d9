"""Take a camera away from a run again and again, and lose datagrams of another one: the tracks must not suffer.

usage: python -m tools.soak_outages [--outages kill:10 kill:10 freeze:10 kill:10] [--apart 15] [--again 2] [--loss 0.05]
                                    [--out DIR]

One `irst run` watches two cameras of live_cameras.py. That on RTSP is killed and started again, or stopped and
continued, for so many seconds each, at random moments `--apart` to twice as many seconds after the last time; of the
other one, on UDP, datagrams are lost. Printed, and the exit status: that each outage was noticed within 5 s and that
frames came again within `--again` s of the camera's return, that the point kept one id, and that nothing else was
tracked for more than 0.5 s. Needs GStreamer's RTSP server in Debian's Python (gir1.2-gst-rtsp-server-1.0,
gstreamer1.0-plugins-ugly, python3-gi).
"""

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from tools.live_cameras import place
from tools.streaming import free_port

CAMERAS = str(Path(__file__).with_name("live_cameras.py"))
SYSTEM_PYTHON = "/usr/bin/python3"
NOTICED_MAX = 5.0  # s
FALSE_MAX = 0.5  # s
NEAR = 10.0  # px
START_SECONDS = 180.0


class RtspCamera:
    """The camera's process, again and again on one port."""

    def __init__(self, begun: float) -> None:
        port = free_port()
        self._command = [SYSTEM_PYTHON, CAMERAS, "rtsp", str(port), str(begun)]
        self.uri, self.name = f"rtsp://127.0.0.1:{port}/ir", f"127-0-0-1-{port}-ir"
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit("the RTSP camera does not start; see above")

    def outage(self, kind: str, seconds: float) -> None:
        if kind == "freeze":
            self._process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            self._process.send_signal(signal.SIGCONT)
        else:
            self.close()
            time.sleep(seconds)
            self._start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Watched:
    """A run, and when it said what."""

    def __init__(self, uris: list[str], out: Path, coast_seconds: float) -> None:
        command = [sys.executable, "-m", "irst_pipeline.cli", "run", *uris, "--out", str(out), "--overwrite"]
        options = ["--no-video", "--device", "cpu", "--set", f"tracker.coast_seconds={coast_seconds}"]
        self.process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        self._said: list[tuple[float, str]] = []
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append((time.monotonic(), line))
            print("   ", line, end="")

    def said(self, words: str, since: float, patience: float) -> float:
        """Seconds from `since` until the RTSP camera's line with these words; infinite if it did not come in time."""
        while True:
            for when, line in list(self._said):
                if when >= since and "-ir: " in line and words in line:
                    return when - since
            if time.monotonic() > since + patience or self.process.poll() is not None:
                return float("inf")
            time.sleep(0.05)

    def tracks(self, folder: Path) -> bool:
        """Whether a track is confirmed within START_SECONDS."""
        log = folder / "tracks.jsonl"
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if log.exists() and '"confirmed"' in log.read_text():
                return True
            time.sleep(0.2)
        return False

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()


def judge(folder: Path) -> tuple[int, int, dict[str, Any]]:
    """Ids that the point had, tracks of nothing that lasted, and the report of the run."""
    paths: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
    for line in (folder / "tracks.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["record"] == "track" and record["status"] != "tentative":
            paths[record["id"]].append((record["time"], record["x"], record["y"]))
    tracks = {number: np.array(path) for number, path in paths.items()}
    longest = max(tracks.values(), key=len)
    begun = np.median(longest[:, 1] - place(0.0)[0] - longest[:, 0])  # of the run, after the cameras: the point drifts
    true, false = 0, 0
    for path in tracks.values():
        distance = np.array([np.hypot(*np.subtract(place(when + begun), (x, y))) for when, x, y in path])
        true += bool((distance < NEAR).mean() > 0.5)
        away = path[distance >= NEAR, 0]
        false += bool(len(away) and np.ptp(away) > FALSE_MAX and (distance < NEAR).mean() <= 0.5)
    return true, false, json.loads((folder / "run.json").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outages", nargs="+", default=["kill:10", "kill:10", "freeze:10", "kill:10"])
    parser.add_argument("--apart", type=float, default=15.0)
    parser.add_argument("--again", type=float, default=2.0)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--out", type=Path, default=Path("runs/soak_outages"))
    options = parser.parse_args()
    outages = [(kind, float(seconds)) for kind, seconds in (outage.split(":") for outage in options.outages)]
    chance = random.Random(1)
    begun = time.time()
    sound = True
    with ExitStack() as opened:
        camera = RtspCamera(begun)
        opened.callback(camera.close)
        port = free_port(socket.SOCK_DGRAM)
        other = f"127-0-0-1-{port}"
        sender = subprocess.Popen([sys.executable, CAMERAS, "udp", str(port), str(options.loss), str(begun)])
        opened.callback(sender.wait)
        opened.callback(sender.kill)
        uris = [camera.uri, f"udp://127.0.0.1:{port}"]
        run = Watched(uris, options.out, max(seconds for _, seconds in outages) + 10)
        opened.callback(run.close)
        if not all(run.tracks(options.out / name) for name in (camera.name, other)):
            raise SystemExit("no track was confirmed")
        for kind, seconds in outages:
            time.sleep(options.apart * chance.uniform(1, 2))
            taken = time.monotonic()
            camera.outage(kind, seconds)
            returned = time.monotonic()
            noticed = run.said("no frames", taken, seconds)
            again = run.said("frames come again", returned, 30.0)
            print(
                f"{kind} for {seconds:g} s: noticed after {noticed:.1f} s, frames again {again:.1f} s after its return"
            )
            sound &= noticed < NOTICED_MAX and again < options.again
        time.sleep(options.apart)
    for name, losses in ((camera.name, len(outages)), (other, 0)):
        true, false, report = judge(options.out / name)
        counts = f"{report['frames_read']} frames, {report['frames_failed']} failed, {report['reconnects']} reconnects"
        print(f"{report['source']}: {counts}; ids of the point: {true}, false tracks: {false}")
        sound &= (true, false, report["reconnects"]) == (1, 0, losses)
    print("sound" if sound else "NOT SOUND")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
