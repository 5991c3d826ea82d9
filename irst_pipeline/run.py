"""One run of the pipeline on a recording: folder, files, progress, summary."""

import json
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

from tqdm import tqdm

from irst_pipeline import __version__
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import open_engine
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.lsnet.weights import Weights, WeightsError, load_weights
from irst_pipeline.pipeline import RunStatistics, run_pipeline
from irst_pipeline.sinks import RESULT_FILES, RunHeader, open_sinks
from irst_pipeline.sources import Source, open_source

REPORT_FILE = "run.json"


def run_recording(uri: str, settings: RunSettings, out: Path | None, overwrite: bool, stop: Event) -> None:
    """Process the recording at `uri` to its end, or until `stop` is set, and write the results into a folder.

    Whatever ends the run, what was found so far is on disk and `run.json` says how it ended.
    Raises IrstError, a line for the user, when it could not go on.
    """
    weights = _load(settings.model)
    source = open_source(uri, settings.image_rate)
    try:
        folder = _prepare(out or Path("runs") / source.name, overwrite)
        engine = open_engine(weights.network, settings.device)
        header = RunHeader(
            source=uri,
            model=weights.name,
            weights_sha256=weights.sha256,
            device=engine.device,
            config=settings.model_dump(mode="json"),
            started=datetime.now(UTC).isoformat(timespec="milliseconds"),
            frame_rate=source.frame_rate,
            video=settings.video,
        )
        statistics = RunStatistics()
        outcome = "failed"
        try:
            with open_sinks(settings.sinks, folder, header) as sinks:
                results = run_pipeline(source, engine, settings, sinks, stop, statistics)
                for _ in tqdm(results, total=source.frame_count, unit="frame", disable=None):
                    pass
            outcome = "interrupted" if stop.is_set() else "complete"
            if not statistics.frames and not stop.is_set():
                raise IrstError(f"{uri}: no frame could be read")
        except IrstError as error:
            outcome = f"failed: {error}"
            raise
        finally:
            _write_report(folder, header, outcome, statistics.report(source))
        _summarise(folder, outcome, statistics.report(source))
    finally:
        source.close()
