"""The Trainer's checkpoints, by wall time and at a signal, with the best weights kept beside them.

``transformers.Trainer`` saves and restores weights, optimiser, schedule, random states and log.
Beside them go the best weights so far and ``progress.json``, which is written last: a checkpoint
without it, or of other settings, is never used. The library's ``*.pt`` and ``*.pth`` files are read
with ``weights_only=True``: tensors, never code.
"""

import json
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from helpers.study.files import read_json, write_json

FOLDER = ".checkpoint"
"""Beside a run's results while it is trained; gone when the run is finished."""
_PROGRESS = "progress.json"
VERSION = "2026-11-30"
"""When this package last changed what the same settings train: older checkpoints are not used."""


class Stopped(KeyboardInterrupt):
    """A signal asked the training to end; a checkpoint was written."""

    def _render_traceback_(self) -> list[str]:
        return [f"Stopped: {self}"]  # all that a notebook shows


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a model that are trained; the others do not change."""
    named = model.named_parameters()
    return {name: w.detach().contiguous() for name, w in named if w.requires_grad}


def copy(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights that are trained, in main memory."""
    return {name: w.to("cpu", copy=True) for name, w in trained_weights(model).items()}


class Checkpoints(TrainerCallback):
    """The best weights and the checkpoint of a fine-tuning of one or more stages.

    Checkpoints lie in the folder ``run``, and those of other ``settings`` are never used. One is
    saved every ``minutes`` of wall time (0: after every step). SIGINT and SIGTERM save one at the
    end of the running step and raise :class:`Stopped`; the same signal again does not wait. With
    ``averages`` the mean of the weights at every validation is kept too.
    """

    def __init__(self, run: Path, settings: dict, minutes: float, averages: bool = False):
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        versions["training"] = VERSION
        self.folder, self.seconds_between = run / FOLDER, 60 * minutes
        self.names = ["best", "average"] if averages else ["best"]
        self.settings = json.loads(json.dumps({**settings, "versions": versions}))
        self.saved: Path | None = None
        progress = {}
        files = self.folder.glob(f"stage-*/checkpoint-*/{_PROGRESS}")
        for file in sorted(files, key=lambda file: file.stat().st_mtime):
            if read_json(file).get("settings") == self.settings:
                self.saved, progress = file.parent, read_json(file)
        self.stage = progress.get("stage", 0)
        self.log: list[dict] = progress.get("log", [])  # of the stages before
        wall, cpu = progress.get("seconds", (0.0, 0.0))
        self.began = time.monotonic() - wall, time.process_time() - cpu

    def seconds(self) -> tuple[float, float]:
        """Wall and processor time, in seconds, including the time before a stop."""
        return time.monotonic() - self.began[0], time.process_time() - self.began[1]

    def begin(self, stage: int) -> Path | None:
        """Begin a stage; returns the checkpoint that it goes on from, if there is one."""
        self.stage, self.signal, self.last_save = stage, None, time.monotonic()
        self.output_dir = self.folder / f"stage-{stage}"  # where the library writes
        resumed = self.saved if self.saved and self.saved.parent == self.output_dir else None
        self.weights: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self.names}
        if resumed:
            self.weights = {name: load_file(resumed / f"{name}.safetensors") for name in self.names}
        return resumed

    def on_step_end(self, args, state, control, **_):
        waited = time.monotonic() - self.last_save
        # If a long training is stopped while it predicts, its weights must not be lost.
        last = state.global_step >= state.max_steps and self.saved is not None
        control.should_save = bool(waited >= self.seconds_between or last or self.signal)

    def on_evaluate(self, args, state, control, model, **_):
        scores = [line["eval_score"] for line in state.log_history if "eval_score" in line]
        weights = copy(model)
        if scores[-1] > max(scores[:-1], default=-1.0):  # the first if equal
            self.weights["best"] = weights
        if "average" in self.weights:
            mean = self.weights["average"]
            for name, weight in weights.items():
                mean[name] = torch.lerp(mean.get(name, weight), weight, 1 / len(scores))
        control.should_save = bool(control.should_save or self.signal)

    def on_save(self, args, state, control, **_):
        """Complete what the library wrote; remove the checkpoints before it."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (path / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        for name, weights in self.weights.items():
            save_file(weights, path / f"{name}.safetensors")
        progress = {"settings": self.settings, "stage": self.stage, "log": self.log}
        write_json(path / _PROGRESS, progress | {"seconds": self.seconds()})
        for other in set(self.folder.glob("stage-*/checkpoint-*")) - {path}:
            shutil.rmtree(other, ignore_errors=True)
        self.saved, self.last_save = path, time.monotonic()
        if self.signal:
            raise Stopped(f"stopped; a checkpoint of step {state.global_step} is kept")

    @contextmanager
    def signals(self):
        """Note SIGINT and SIGTERM, to stop at the end of the running step."""
        both = (signal.SIGINT, signal.SIGTERM)
        handlers = {number: signal.signal(number, self._note) for number in both}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note(self, number, _):
        if self.signal == number:  # the other kind: a cluster asks a kernel and papermill to end
            raise KeyboardInterrupt
        self.signal = number

    def remove(self) -> None:
        """Remove the checkpoints of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)
