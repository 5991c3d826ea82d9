"""A training run: network, running mean, optimisers and step, which a checkpoint holds whole."""

import copy
import json
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from irst_pipeline.disk import write_file
from irst_pipeline.engine import load_model
from irst_pipeline.engine.cpu import has_bfloat16
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.lsnet.model import Decomposition, LSNet, LSNetConfig
from irst_pipeline.lsnet.threads import one_thread
from irst_pipeline.lsnet.weights import WEIGHTS_FILE, packed, packed_weights, unpacked
from irst_pipeline.settings import read_settings
from irst_pipeline.state import part_of
from irst_pipeline.training.batches import Batch
from irst_pipeline.training.loss import cross_entropy, training_loss
from irst_pipeline.training.muon import Muon
from irst_pipeline.training.settings import TrainSettings

log = logging.getLogger("irst")

STATE_FILE = "state.safetensors"
WARM_UP_STEPS = 100
DECAY_SHARE = 0.8  # of all steps, at the end, over which the learning rate falls to zero
RECORDED_AFTER = 3  # steps with one shape of batch: what is made once, at its first use, is then there

Gradients = tuple[Tensor, tuple[Tensor | None, ...]]
"""The loss of some crops, a scalar, and its gradient by each of the network's parameters."""


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Warm-up, a long plateau, then a linear fall to zero."""
    falling = settings.steps * DECAY_SHARE
    factor = min(1.0, (step + 1) / WARM_UP_STEPS, (settings.steps - step) / falling)
    return settings.learning_rate * factor


class TrainingRun:
    """A training run in a folder: network, running mean, optimisers and step, saved and restored as one."""

    def __init__(self, network: LSNet, teacher: LSNet | None, settings: TrainSettings, folder: Path) -> None:
        self.network, self.teacher, self.settings, self.folder, self.step = network, teacher, settings, folder, 0
        self._started = time.monotonic()  # were all of it one sitting
        self.device = next(network.parameters()).device
        self.mixed_precision = self.device.type == "cuda" or has_bfloat16()
        self.mean = copy.deepcopy(network).eval()
        parts = (network.stages, network.glance, network.head)
        kernels = [p for part in parts for p in part.parameters() if _mixes_channels(p)]
        chosen = set(map(id, kernels))
        others = [p for p in network.parameters() if id(p) not in chosen]
        rate, decay = settings.learning_rate, settings.weight_decay
        # On the device: a recorded step reads there what changes from step to step.
        rates = [torch.tensor(rate, device=self.device) for _ in range(2)]
        on_gpu = self.device.type == "cuda"
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(kernels, rates[0], decay),
            "adam": torch.optim.AdamW(others, rates[1], betas=(0.9, 0.99), weight_decay=decay, capturable=on_gpu),
        }
        self.follow = torch.tensor(0.0, device=self.device)
        """How far the running mean goes towards the weights in a step."""
        self.losses: list[float] = []
        """Of the steps since the last row of the curve."""
        self.complete = False
        """Whether it was restored from its end, with its logits shifted."""
        self.recorded = RecordedStep(self) if on_gpu else None
        self._loss = training_loss
        if on_gpu:
            # Many operations then read and write a pixel once: 1.6 times as fast, after two minutes for each size of
            # crop in which it is compiled. Where it cannot be, as without a C compiler, it goes on as it was.
            torch._dynamo.config.suppress_errors = True
            for part in (*network.stages, network.head):
                part.compile(dynamic=False, options={"force_layout_optimization": True})
            self._loss = torch.compile(training_loss, dynamic=False)

    def train_step(self, batch: Batch, shards: ThreadPoolExecutor | None) -> float:
        """One step of the optimisers; returns the loss. Raises IrstError, with no checkpoint made, if it is not finite.

        On a CPU each of the threads of `shards` takes its share of the crops: the network's many small operations leave
        most of a core idle when each is divided over all cores instead.
        """
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"].fill_(learning_rate(self.settings, self.step))
        # Early on the running mean would remember the random start: it follows faster then.
        self.follow.fill_(1 - min(self.settings.average, (self.step + 1) / (self.step + 11)))
        if self.recorded is not None:
            outcome = self.recorded(batch)
        elif shards is None:
            outcome = self.whole_step(batch)
        else:
            count = min(torch.get_num_threads(), len(batch.frames))
            pieces = zip(*(plane.chunk(count) for plane in batch), strict=True)
            results = list(shards.map(lambda piece: self._gradients(Batch(*piece)), pieces))
            with one_thread():
                outcome = self._follow_gradients(_pooled(results, batch))
        loss, norm = outcome.tolist()
        self._refuse_ruined(loss, norm)
        self.step += 1
        return float(loss)

    def check(self, batch: Batch) -> None:
        """Raises IrstError if the loss of a batch or its gradient is not finite, so that a step could not go on."""
        loss, by_parameter = self._gradients(Batch(*(plane.to(self.device) for plane in batch)))
        norm = torch.nn.utils.get_total_norm([gradient for gradient in by_parameter if gradient is not None])
        self._refuse_ruined(loss.item(), norm.item())

    def _refuse_ruined(self, loss: float, norm: float) -> None:
        if not math.isfinite(loss + norm):
            raise IrstError(
                f"{self.folder}: the loss or its gradient is not finite at step {self.step} (loss {loss}, gradient "
                f"{norm}); {STATE_FILE} holds the last good checkpoint: go on from it with a lower learning_rate"
            )

    def whole_step(self, batch: Batch) -> Tensor:
        """One step with a batch on the device, without waiting for it: loss and norm of the gradient, a tensor (2,)."""
        return self._follow_gradients(self._gradients(batch))

    def _follow_gradients(self, gradients: Gradients) -> Tensor:
        loss, by_parameter = gradients
        for parameter, gradient in zip(self.network.parameters(), by_parameter, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        for optimiser in self.optimisers.values():
            optimiser.step()
        with torch.no_grad():
            means: list[Tensor] = list(self.mean.parameters())
            away = torch._foreach_sub(list(self.network.parameters()), means)
            torch._foreach_mul_(away, self.follow)
            torch._foreach_add_(means, list(away))
        return torch.stack([loss.detach(), norm])

    def _gradients(self, batch: Batch) -> Gradients:
        frames, mask, weight = batch
        # The cache of rounded weights is one for all threads: what a thread finds in it, and so how its gradients are
        # rounded, would depend on how far the others are. Each weight is used once: nothing is rounded twice.
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.mixed_precision, cache_enabled=False):
            stages = self.network.unfold(frames, len(self.network.stages))
            with torch.no_grad():
                taught = self.teacher(frames).logits if self.teacher else None
        stages = [Decomposition(*(part.float() for part in stage)) for stage in stages]
        loss = self._loss(stages, frames, mask, weight, self.settings.decomposition)
        if taught is not None:
            entropy = cross_entropy(stages[-1].logits, taught.float().sigmoid(), weight).mean()
            loss = loss + self.settings.distillation * entropy
        return loss, torch.autograd.grad(loss, list(self.network.parameters()), allow_unused=True)

    @property
    def seconds(self) -> float:
        """Spent on it so far, in all sittings."""
        return time.monotonic() - self._started

    def files(self) -> dict[str, bytes]:
        """Weights and checkpoint as they are now, by the files that they are for."""
        note = {"steps": str(self.step), "seed": str(self.settings.seed)}
        return {WEIGHTS_FILE: packed_weights(self.mean, note), STATE_FILE: self.state()}

    def write(self, files: dict[str, bytes]) -> None:
        """Replace files of the folder, each whole: a kill in the middle leaves the one before."""
        for name, data in files.items():
            write_file(self.folder / name, data)

    def state(self) -> bytes:
        """The checkpoint as it is now."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        tensors["losses"] = torch.tensor(self.losses)
        return packed(tensors, {"step": str(self.step), "seconds": f"{self.seconds:.3f}"} | self._asked())

    def _asked(self) -> dict[str, str]:
        """The network and the settings, as a checkpoint holds them."""
        return {"config": json.dumps(self.network.config.model_dump()), "settings": self.settings.model_dump_json()}

    def restore(self) -> bool:
        """Go on from the folder's checkpoint, and say if it has one; settings that are not what they were are logged.

        Raises UsageError for that of another network, or of a run with another start.
        """
        path = self.folder / STATE_FILE
        if not path.exists():
            return False
        try:
            tensors, metadata = unpacked(path)
            asked = self._asked()
            if metadata["config"] != asked["config"]:
                raise ValueError(f"it has another network than {self.settings.model}")
            before, now = json.loads(metadata["settings"]), json.loads(asked["settings"])
            if before["start"] != now["start"]:
                raise ValueError(f"that started from {before['start'] or 'nothing'}, not {now['start'] or 'nothing'}")
            self.step = int(metadata["step"])
            if self.step < 0:
                raise ValueError(f"its step is {self.step}")
            self._started -= float(metadata.get("seconds", 0.0))  # those of older versions have none
            # A run that was stopped, and is to have no more steps than it has had, still lacks its end.
            self.complete = self.step >= max(before["steps"], now["steps"])
            self._load(tensors)
        except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise UsageError(f"{path}: not a checkpoint of this run ({reason}); train into another folder") from None
        changed = sorted(key for key, value in now.items() if before.get(key) != value)
        if changed and not self.complete:
            log.warning("%s: goes on from step %d with other settings: %s", self.folder, self.step, ", ".join(changed))
        return True

    def _load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` has packed."""
        self.network.load_state_dict(part_of(tensors, "network"))
        self.mean.load_state_dict(part_of(tensors, "mean"))
        self.losses = tensors.get("losses", torch.empty(0)).tolist()  # those of older versions have none
        for name, optimiser in self.optimisers.items():
            moments: dict[int, dict[str, Any]] = {}
            for key, value in part_of(tensors, name).items():
                index, _, moment = key.partition(".")
                moments.setdefault(int(index), {})[moment] = value
            optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


class RecordedStep:
    """A run's whole step on a GPU as one CUDA graph: thousands of small operations take longer to ask for than to do.

    The first steps of each shape of batch are done as they are, the next is recorded, and from there on played.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._run, self._stream = run, torch.cuda.Stream(run.device)
        self._shape, self._seen = torch.Size(), 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._outcome: Tensor | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Loss and norm, (2,) on the device, of a step with a batch in the CPU's memory."""
        if batch.frames.shape != self._shape:
            self._graph, self._shape, self._seen = None, batch.frames.shape, 0
            self._batch = Batch(*(torch.empty_like(plane, device=self._run.device) for plane in batch))
        assert self._batch is not None
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for here, plane in zip(self._batch, batch, strict=True):
                here.copy_(plane, non_blocking=True)
            if self._seen < RECORDED_AFTER:
                self._outcome = self._run.whole_step(self._batch)
                self._seen += 1
            else:
                if self._graph is None:
                    self._graph = torch.cuda.CUDAGraph()
                    # What other threads do meanwhile, as to pin batches, is none of the recording's business.
                    with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                        self._outcome = self._run.whole_step(self._batch)
                self._graph.replay()
        torch.cuda.current_stream().wait_stream(self._stream)
        assert self._outcome is not None
        return self._outcome


def _pooled(results: list[Gradients], batch: Batch) -> Gradients:
    """Of shards of a batch: every loss is a mean over frames, so shards weigh by their number of frames."""
    shares = [len(plane) / len(batch.frames) for plane in batch.frames.chunk(len(results))]
    loss = torch.stack([share * loss.detach() for share, (loss, _) in zip(shares, results, strict=True)]).sum()
    pooled = []
    for gradients in zip(*(g for _, g in results), strict=True):
        parts = [share * g for share, g in zip(shares, gradients, strict=True) if g is not None]
        pooled.append(torch.stack(parts).sum(0) if parts else None)
    return loss, tuple(pooled)


def _mixes_channels(parameter: nn.Parameter) -> bool:
    """Whether Muon suits it: a kernel over several channels, neither depthwise nor very thin."""
    return parameter.dim() == 4 and parameter.shape[1] > 1 and min(parameter.flatten(1).shape) >= 8


def build_network(path: Path, seed: int, device: torch.device) -> LSNet:
    """An untrained network of the configuration in a YAML file."""
    torch.manual_seed(seed)
    try:
        network = LSNet(read_settings(LSNetConfig, path))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def open_run(settings: TrainSettings, folder: Path, device: torch.device) -> TrainingRun:
    """A run at its first step; raises UsageError for a teacher or a start that is not there or does not fit.

    The start is not asked for where the folder has a checkpoint to go on from: it may be gone by then.
    """
    with _naming("teacher"):
        teacher = load_model(settings.teacher).network.to(device) if settings.teacher else None
    with _naming("model"):
        network = build_network(settings.model, settings.seed, device)
    if settings.start and not (folder / STATE_FILE).exists():
        with _naming("start"):
            start = load_model(settings.start).network
            if start.config != network.config:
                raise UsageError(f"{settings.start}: is of another network than {settings.model}")
        network.load_state_dict(start.state_dict())
    return TrainingRun(network, teacher, settings, folder)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Have a UsageError name the setting that it is of."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from None
