"""One run of the pipeline on a recording: folder, files, progress, summary."""

import json
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

from tqdm import tqdm

from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.errors import IrstError
from irst_pipeline.pipeline import RunStatistics, run_pipeline
from irst_pipeline.sinks import RESULT_FILES, RunHeader, open_sinks
from irst_pipeline.sinks.base import OutputFile, prepare_folder
from irst_pipeline.sources import open_source

REPORT_FILE = "run.json"


def run_recording(uri: str, settings: RunSettings, out: Path | None, overwrite: bool, stop: Event) -> None:
    """Process the recording at `uri` to its end, or until `stop` is set, and write the results into a folder.

    Whatever ends the run, what was found so far is on disk and `run.json` says how it ended.
    Raises IrstError, a line for the user, when it could not go on.
    """
    weights = load_model(settings.model)
    engine = open_engine(weights.network, settings.device)
    with closing(open_source(uri, settings.image_rate)) as source:
        folder = out or Path("runs") / Path(source.name).stem
        prepare_folder(folder, (*RESULT_FILES, REPORT_FILE), [Path(uri)], overwrite)
        header = RunHeader(
            source=source.name,
            uri=uri,
            model=weights.name,
            weights_sha256=weights.sha256,
            device=engine.device,
            config=settings.model_dump(mode="json"),
            started=_now(),
            frame_rate=source.frame_rate,
            video=settings.video,
        )
        statistics = RunStatistics()
        try:
            with ExitStack() as opened:
                sinks = open_sinks(settings.sinks, folder, header)
                for sink in sinks:
                    opened.callback(sink.close)
                results = run_pipeline(source, engine, settings, sinks, stop, statistics)
                opened.callback(results.close)
                for _ in tqdm(results, total=source.frame_count, unit="frame", disable=None):
                    pass
        except BaseException as error:
            with suppress(IrstError):  # the first failure is the one to tell
                _write_report(folder, header, f"failed: {error}", statistics.report(source))
            raise
        outcome, report = "interrupted" if stop.is_set() else "complete", statistics.report(source)
        _write_report(folder, header, outcome, report)
    _summarise(folder, outcome, report)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _write_report(folder: Path, header: RunHeader, outcome: str, report: dict[str, Any]) -> None:
    """`run.json`: what ran, how it ended, what it counted."""
    ran = {"outcome": outcome, **header.record(), "finished": _now()}
    file = OutputFile(folder / REPORT_FILE)
    file.write((json.dumps(ran | report, indent=2) + "\n").encode())
    file.close()


def _summarise(folder: Path, outcome: str, report: dict[str, Any]) -> None:
    latency = report["latency_ms"].get("total", {})
    print(f"{outcome}: {report['frames_read']} frames, {report['frames_failed']} failed")
    print(f"speed    {report['frames_per_second']:.1f} frames/s")
    print("latency  " + ", ".join(f"{name} {value:.0f} ms" for name, value in latency.items()))
    print(f"tracks   {report['tracks_confirmed']} confirmed")
    written = [name for name in (*RESULT_FILES, REPORT_FILE) if (folder / name).exists()]
    print(f"results  {folder}: {' '.join(written)}")
