"""The Trainer's checkpoints, by wall time and at a signal, with the best weights kept beside them.

``transformers.Trainer`` saves and restores the weights, the optimiser, the schedule and the random
states. Beside them go the best weights so far and ``progress.json``, which is written last: a
checkpoint without it, or of other settings, is never used. The library's ``*.pt`` and ``*.pth``
files are read with ``weights_only=True``: tensors, never code.
"""

import json
import shutil
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import safetensors.torch
import torch
import transformers
from torch import nn
from transformers import TrainerCallback

from helpers.study.files import read_json, write_json

FOLDER = ".checkpoint"
"""Beside a run's results while it is trained; gone when the run is finished."""
_PROGRESS, _BEST = "progress.json", "best.safetensors"


class Stopped(KeyboardInterrupt):
    """A signal asked the training to end; a checkpoint was written."""

    def _render_traceback_(self) -> list[str]:
        return [f"Stopped: {self}"]  # all that a notebook shows


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a model that are trained; the others are what a training starts from."""
    named = model.named_parameters()
    return {name: weight.detach() for name, weight in named if weight.requires_grad}


class Clock:
    """Wall and processor time of a training, also of what ran before it was stopped."""

    def __init__(self, wall: float = 0.0, cpu: float = 0.0):
        self.wall, self.cpu = time.monotonic() - wall, time.process_time() - cpu

    def seconds(self) -> tuple[float, float]:
        """Wall and processor time so far, in seconds."""
        return time.monotonic() - self.wall, time.process_time() - self.cpu


class Checkpoints(TrainerCallback):
    """The best weights and the checkpoint of a fine-tuning of one or more stages.

    SIGINT and SIGTERM save a checkpoint at the end of the running step and raise
    :class:`Stopped`; the same signal again does not wait for that.

    Parameters
    ----------
    run
        Folder of the run; checkpoints lie in a hidden folder inside it.
    settings
        Plain data that the result depends on; a checkpoint of other settings is removed.
    minutes
        Wall time between two checkpoints; 0 saves one after every step.

    Attributes
    ----------
    score, step, weights
        The best score on English validation data, the first step that had it, and its weights.
    """

    def __init__(self, run: Path, settings: dict, minutes: float):
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        self.folder, self.seconds_between = run / FOLDER, 60 * minutes
        self.settings = json.loads(json.dumps({**settings, "versions": versions}))
        self.saved: Path | None = None
        self.progress: dict = {}
        for path in sorted(self.folder.glob("stage-*/checkpoint-*"), key=_age):
            progress = read_json(path / _PROGRESS)
            if progress.get("settings") == self.settings:
                self.saved, self.progress = path, progress
        self.log: list[dict] = self.progress.get("log", [])
        self.clock = Clock(*self.progress.get("seconds", []))

    def finished(self, stage: int) -> bool:
        """Whether a later stage's checkpoint holds what this one taught."""
        return stage < self.progress.get("stage", 0)

    def begin(self, stage: int) -> Path | None:
        """Begin a stage; returns the checkpoint that it goes on from, if there is one."""
        resumed = self.saved if self.progress.get("stage") == stage else None
        progress = self.progress if resumed else {}
        self.stage, self.signal = stage, None
        self.score, self.step = progress.get("score", -1.0), progress.get("step", 0)
        self.weights = safetensors.torch.load_file(resumed / _BEST) if resumed else {}
        self.last_save = time.monotonic()
        return resumed

    @property
    def output_dir(self) -> str:
        """Where the library writes the checkpoints of the stage."""
        return str(self.folder / f"stage-{self.stage}")

    def on_step_end(self, args, state, control, **_):
        waited = time.monotonic() - self.last_save
        # What a long training has learned should survive an end while it predicts.
        last = state.global_step >= state.max_steps and self.saved is not None
        control.should_save = bool(waited >= self.seconds_between or last or self.signal)

    def on_evaluate(self, args, state, control, metrics, model, **_):
        if metrics["eval_score"] > self.score:  # the first of equals
            self.score, self.step = metrics["eval_score"], state.global_step
            weights = trained_weights(model).items()
            self.weights = {name: weight.to("cpu", copy=True) for name, weight in weights}
        control.should_save = bool(control.should_save or self.signal)

    def on_save(self, args, state, control, **_):
        """Complete what the library wrote; remove the checkpoints before it."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (path / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        weights = {name: value.contiguous() for name, value in self.weights.items()}
        safetensors.torch.save_file(weights, path / _BEST)
        progress = {"settings": self.settings, "stage": self.stage, "log": self.log}
        progress |= {"score": self.score, "step": self.step, "seconds": self.clock.seconds()}
        write_json(path / _PROGRESS, progress)
        for other in set(self.folder.glob("stage-*/checkpoint-*")) - {path}:
            shutil.rmtree(other, ignore_errors=True)
        self.saved, self.last_save = path, time.monotonic()
        if self.signal:
            raise Stopped(f"stopped; a checkpoint of step {state.global_step} is kept")

    @contextmanager
    def signals(self):
        """Note SIGINT and SIGTERM, for the end of the running step."""

        def note(number, _):
            if (
                self.signal == number
            ):  # the other kind: a cluster asks a kernel and papermill to end
                raise KeyboardInterrupt
            self.signal = signal.Signals(number)

        with ExitStack() as after:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    after.callback(signal.signal, number, signal.signal(number, note))
            yield

    def remove(self) -> None:
        """Remove the checkpoints of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _age(path: Path) -> tuple[int, int]:
    """Stage and step of a checkpoint's folder."""
    return int(path.parent.name.split("-")[1]), int(path.name.split("-")[1])
