"""Runs of the pipeline on recordings and live streams: folders, files, progress, summaries."""

import logging
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from threading import Event
from typing import Any, Never

from tqdm import tqdm

from irst_pipeline.bearings import open_platform
from irst_pipeline.calibration import open_calibrator
from irst_pipeline.checkpoint import CHECKPOINT_FILES, read_checkpoint, refuse_another_run
from irst_pipeline.config import RunSettings
from irst_pipeline.disk import allow_many_files, parts_set_aside
from irst_pipeline.engine import Engine, SharedEngine, load_model, open_engine
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.folders import claim_folder, clear_folder, held, let_go, make_folder
from irst_pipeline.metrics import WatchedRun, answering
from irst_pipeline.pipeline import fitting
from irst_pipeline.run import Run, carry_out_and_report, exhaust, run_header
from irst_pipeline.sinks import RECORDED_FILES, RESULT_FILES, open_senders
from irst_pipeline.sinks.base import REPORT_FILE, read_report
from irst_pipeline.sources import Source, open_source, redact, resume_source
from irst_pipeline.sources.address import DEVICES, is_live, printable, scheme_of
from irst_pipeline.sources.images import SUFFIXES
from irst_pipeline.stage import POLL_SECONDS
from irst_pipeline.statistics import Account, Counts, RunStatistics
from irst_pipeline.types import FrameResult
from irst_pipeline.worker import RunProcess

log = logging.getLogger("irst")

RECORDINGS_AT_ONCE = min(max(2, len(os.sched_getaffinity(0))), 16)  # the next ones wait; cameras do not


def run_recordings(
    uris: list[str],
    settings: RunSettings,
    out: Path | None,
    overwrite: bool,
    realtime: bool,
    stop: Event,
    resume: bool = False,
) -> None:
    """Process recordings and live streams to their ends, or until `stop` is set, and write the results into a folder.

    Several are run at once through one engine, each in a process of its own, into a folder of its own in `out`. With
    `realtime` they are replayed as live cameras. With `resume` each goes on in the folder where an earlier process was
    stopped or killed. Whatever ends a run, what was found so far is on disk and `run.json` says how it ended; the
    others go on. Raises IrstError, a line for the user, when one could not go on.
    """
    _refuse_devices_named_twice(uris)
    settings_of_each = _settings_of_each(settings, len(uris))
    allow_many_files()
    weights = load_model(settings.model)
    platforms = [open_platform(settings.camera, redact(uri)) for uri in uris]
    watched: list[WatchedRun] = []
    calibrators = [open_calibrator(settings.calibration, redact(uri)) for uri in uris]
    with ExitStack() as opened:
        opened.enter_context(answering(settings.metrics, watched))
        sources, unreadable = _open_sources(uris, settings, realtime, stop, opened)
        _refuse_single_images(uris, sources)
        folders = result_folders(_names(uris, sources), out)
        live = any(source.live for source in sources if source)
        engine: Engine[Any] = open_engine(
            weights.network, settings.device, settings.detection.lowest, newest=live, compiled=settings.compile
        )
        if live or len(sources) > 1:  # a shared engine gives a frame back as soon as it is done, not with the next one
            engine = opened.enter_context(closing(SharedEngine(engine)))
        runs = [
            Run(source, folder, run_header(uri, source, weights, engine, own, platform), platform, calibrate)
            for uri, source, folder, own, platform, calibrate in zip(
                uris, sources, folders, settings_of_each, platforms, calibrators, strict=True
            )
            if source
        ]
        for run in runs:
            for sender in open_senders(run.header).values():  # before folders are touched, if a host has no address
                sender.close()
        if not resume:
            _refuse_misfits(runs)
        runs = take_folders(runs, [Path(uri) for uri in uris], overwrite, resume, stop, opened)
        workers = [RunProcess(run, realtime) if len(runs) > 1 else _RunHere(run) for run in runs]
        watched += _watched(workers, unreadable)
        progress = opened.enter_context(_progress(runs))
        ended = _carry_out_all(workers, engine, stop, progress, tell=len(uris) > 1)
    for run, result in zip(runs, ended, strict=True):
        if not result.exception():
            _summarise(run.folder, result.result())
    failures = [*(error for _, error in unreadable), *(error for result in ended if (error := _failure(result)))]
    unforeseen = [error for error in failures if not isinstance(error, IrstError)]
    if unforeseen or (failures and len(uris) == 1):
        raise (unforeseen or failures)[0]
    if failures:
        raise type(failures[0])(f"{len(failures)} of {len(uris)} sources could not go on")


def _settings_of_each(settings: RunSettings, sources: int) -> list[RunSettings]:
    """Those of so many sources: the video of each is sent to a port of its own, the next one's to the next.

    Raises UsageError where there are not so many ports.
    """
    if not (video := settings.send.video):
        return [settings] * sources
    host, _, first = video.rpartition(":")
    ports = range(int(first), int(first) + sources)
    if ports[-1] >= 1 << 16:
        raise UsageError(f"send.video: {video}: there are not {sources} ports from there on, one for each source")
    sent = [settings.send.model_copy(update={"video": f"{host}:{port}"}) for port in ports]
    return [settings.model_copy(update={"send": each}) for each in sent]


def _refuse_single_images(uris: list[str], sources: list[Source | None]) -> None:
    """Raises UsageError where each of several sources is one image, as where the shell has taken a glob apart."""
    single = (
        source and source.frame_count == 1 and scheme_of(uri) is None and Path(uri).suffix.lower() in SUFFIXES
        for uri, source in zip(uris, sources, strict=True)
    )
    if len(uris) > 1 and all(single):
        raise UsageError(f"{len(uris)} images, each a run of its own; give their folder, or put the glob in quotes")


def _refuse_devices_named_twice(uris: list[str]) -> None:
    devices = ["-" if scheme_of(uri) == "stdin" else uri.partition("?")[0] for uri in uris if scheme_of(uri) in DEVICES]
    if twice := next((uri for uri in devices if devices.count(uri) > 1), None):
        raise UsageError(f"{twice}: gives each of its frames once; name it once")


def _open_sources(
    uris: list[str], settings: RunSettings, realtime: bool, stop: Event, opened: ExitStack
) -> tuple[list[Source | None], list[tuple[str, IrstError]]]:
    """The sources, each closed with `opened`; None for one that cannot be read, and its name and why, which is told:
    the others go on. Raises IrstError for a source that is alone, and UsageError for one that is none."""
    sources, unreadable = list[Source | None](), list[tuple[str, IrstError]]()
    for uri in uris:
        try:
            source = open_source(uri, settings.image_rate, realtime, settings.live, stop, settings.frame_times)
            sources.append(opened.enter_context(closing(source)))
        except IrstError as error:
            if len(uris) == 1 or isinstance(error, UsageError):
                raise
            _tell(error)
            unreadable.append((printable(Path(uri).name), error))
            sources.append(None)
    return sources, unreadable


def _names(uris: list[str], sources: list[Source | None]) -> list[str]:
    """What the results of each source are called; namesakes are told apart, also in what is logged and sent.

    A file goes by its name without the suffix. A folder, or a glob for what is in one, has none.
    """
    names = distinct([source.name if source else uri for uri, source in zip(uris, sources, strict=True)])
    for source, name in zip(sources, names, strict=True):
        if source:
            source.name = name
    whole = (scheme_of(uri) is None and not Path(uri).is_file() for uri in uris)
    return [name if kept else Path(name).stem for name, kept in zip(names, whole, strict=True)]


def _refuse_misfits(runs: list[Run]) -> None:
    """Raises UsageError for a recording that camera model or calibration are not for, before folders are touched.

    One that cannot be read fails by itself while the others go on, unless that would cost earlier results.
    """
    for run in runs:
        uri, rate = run.header.uri, run.header.settings.image_rate
        if not (run.platform or run.calibrate) or is_live(uri):
            continue
        with closing(open_source(uri, rate)) as source:  # once more, for it gives its frames once
            try:
                next(fitting(source, run.calibrate, run.platform))
            except IrstError as error:
                if isinstance(error, UsageError) or run.folder.is_dir():
                    raise


def take_folders(
    runs: list[Run], inputs: list[Path], overwrite: bool, resume: bool, stop: Event, opened: ExitStack
) -> list[Run]:
    """The runs that are left to do, from where they are; the folder of each is held until it ends, and prepared."""
    for run in runs:
        make_folder(run.folder)
    runs = [replace(run, lock=opened.enter_context(held(run.folder))) for run in runs]
    if resume:
        runs = [resumed for run in runs if (resumed := _resumed(run, stop))]
    fresh = [run for run in runs if run.checkpoint is None]
    # All are claimed before anything is removed from one.
    claimed = [claim_folder(run.folder, _results(run.folder), inputs, overwrite or resume) for run in fresh]
    for run, earlier in zip(fresh, claimed, strict=True):
        clear_folder(run.folder, earlier, keep=resume and not _has_nothing_to_keep(run))
    return runs


def _has_nothing_to_keep(run: Run) -> bool:
    """Whether it ended before its first result, and recorded no frame of a camera, which would not come again."""
    recorded = is_live(run.header.uri) and any((run.folder / name).exists() for name in RECORDED_FILES)
    return read_report(run.folder).get("frames_processed") == 0 and not recorded


class _RunHere:
    """A run that is carried out in this process, with the same methods as one in a process of its own."""

    def __init__(self, run: Run) -> None:
        self.run, self._statistics = run, RunStatistics()

    def account(self) -> Account:
        return self._statistics.account(self.run.source, self.run.header.settings.metrics.stale_seconds)

    def results(self, engine: Engine[Any], stop: Event) -> Generator[FrameResult, None, dict[str, Any]]:
        return carry_out_and_report(self.run, engine, stop, self._statistics)


Worker = RunProcess | _RunHere


def _watched(workers: Sequence[Worker], unreadable: list[tuple[str, IrstError]]) -> list[WatchedRun]:
    """What may be asked about, also of sources that could not be opened."""
    accounts: list[Callable[[], Account]] = [worker.account for worker in workers]
    accounts += [partial(_never_begun, error) for _, error in unreadable]
    names = [*(worker.run.source.name for worker in workers), *(name for name, _ in unreadable)]
    return list(map(WatchedRun, distinct(names), accounts))


def _never_begun(error: IrstError) -> Account:
    return Account(Counts(), 0, 0, waiting={}, frames_not_written={}, memory_bytes=0, ailment=f"failed: {error}")


def _progress(runs: list[Run]) -> "tqdm[Never]":
    counts = [run.source.frame_count for run in runs]
    total = None if None in counts else sum(count or 0 for count in counts)
    done = sum(run.checkpoint.position.frame + 1 for run in runs if run.checkpoint)
    return tqdm(total=total, initial=done, unit="frame", disable=None)


def _carry_out_all(
    workers: Sequence[Worker], engine: Engine[Any], stop: Event, progress: "tqdm[Never]", tell: bool
) -> list[Future[dict[str, Any]]]:
    """Carry out all runs to their ends; what `run.json` says of each, or why it failed, which is told if so wanted."""
    with ThreadPoolExecutor(max(1, len(workers))) as cameras, ThreadPoolExecutor(RECORDINGS_AT_ONCE) as recordings:
        ended = [
            (cameras if worker.run.source.live else recordings).submit(_carry_out, worker, engine, stop, progress)
            for worker in workers
        ]
        for result in ended if tell else ():
            result.add_done_callback(_tell_failure)  # at once, for the others may go on for weeks
        try:
            while wait(ended, POLL_SECONDS).not_done:
                pass  # of one wait for all Python may answer a signal that comes as it begins only at its end
        except BaseException:  # as Ctrl-C is in a program that does not catch it
            stop.set()
            wait(ended)  # before what they work with is closed
            raise
    return ended


def _carry_out(worker: Worker, engine: Engine[Any], stop: Event, progress: "tqdm[Never]") -> dict[str, Any]:
    """Carry a run out to its end; returns what `run.json` says of it."""
    try:
        return exhaust(worker.results(engine, stop), lambda _: progress.update())
    finally:
        let_go(worker.run.lock)  # so that one that failed can be resumed while the others go on


def _failure(ended: Future[dict[str, Any]]) -> BaseException | None:
    """Why a run could not go on, or could not report that it did."""
    return ended.exception() or (IrstError(error) if (error := ended.result().get("error")) else None)


def _tell_failure(ended: Future[dict[str, Any]]) -> None:
    if error := _failure(ended):
        _tell(error)


def _tell(error: BaseException) -> None:
    log.error("error: %s", error)


def result_folders(names: list[str], out: Path | None) -> list[Path]:
    """A folder for each source: of one alone `out` itself, of several one in it by each one's name.

    Raises UsageError where they would lie among the results of one.
    """
    if out and len(names) == 1:
        return [out]
    if out and any((out / name).exists() for name in _results(out)):
        raise UsageError(f"{out}: holds the results of one source; choose another folder for several with --out")
    return [(out or Path("runs")) / name for name in distinct(names)]


def distinct(names: list[str]) -> list[str]:
    """The names, a namesake's with -2 behind it, the next one's with -3, or whatever number nobody has yet."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}-{number}" for number in count(2))
        found.append(next(free for free in chain([name], numbered) if free not in found))
    return found


def _resumed(run: Run, stop: Event) -> Run | None:
    """The run from where an earlier process came to, or from its beginning; None if it was complete.

    Raises UsageError for a folder of another run.
    """
    before = read_checkpoint(run.folder)
    report = read_report(run.folder)
    complete = report.get("outcome") == "complete"
    if known := before.header if before and not complete else report:
        refuse_another_run(run.folder, known, run.header.record())
    if complete:
        _say(f"complete already: {report.get('frames_read', 'all')} frames, results in {run.folder}")
        return None
    if before is None:
        return run
    if "smoothed" in run.header.settings.sinks:
        raise UsageError(
            f"{run.folder}: smoothed tracks need all of a recording in one go; begin again with --overwrite"
        )
    header = replace(run.header, started=before.header["started"])
    source = resume_source(run.source, before.position, stop, run.calibrate)
    return replace(run, source=source, header=header, checkpoint=before)


def _results(folder: Path) -> list[str]:
    """Names of all that a run may have written there; first what `--resume` asks, so that it finds no complete run
    where a process was killed as it removed one."""
    parts = [part.name for name in RESULT_FILES for part in parts_set_aside(folder / name)]
    return [REPORT_FILE, *CHECKPOINT_FILES, *RESULT_FILES, *parts]


def _summarise(folder: Path, report: dict[str, Any]) -> None:
    latency = report["latency_ms"]["glass_to_track"]
    dropped = f", {report['frames_dropped']} dropped" if report["frames_dropped"] else ""
    again = f", {report['reconnects']} reconnects" if report["reconnects"] else ""
    lacking = "".join(f", {count} not in {name}" for name, count in report["frames_not_written"].items())
    counted = f"{report['frames_read']} frames, {report['frames_failed']} failed{dropped}{lacking}{again}"
    written = [name for name in (*RESULT_FILES, REPORT_FILE) if (folder / name).exists()]
    _say(f"{report['outcome']}: {counted}")
    if report["frames_dropped"] > report["frames_processed"]:
        causes = ", ".join(f"{count} {cause}" for cause, count in report["dropped"].items() if count)
        _say(f"dropped  {causes}; a recording is waited for where it is given as a file, or as raw://FILE")
    _say(f"speed    {report['frames_per_second']:.1f} frames/s")
    _say("latency  " + (", ".join(f"{name} {value:.0f} ms" for name, value in latency.items()) or "unknown"))
    _say(f"tracks   {report['tracks_confirmed']} confirmed")
    _say(f"results  {folder}: {' '.join(written)}")


def _say(line: str) -> None:
    """Print a line; if whoever reads has gone, the other runs go on, and it is in the report."""
    with suppress(OSError):
        print(line)
