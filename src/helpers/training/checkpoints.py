"""Training checkpoints: whole or not at all, by wall time and at a signal; resuming gives equal
bits.

``transformers.Trainer`` saves and restores the weights, the optimiser, the schedule and the random
states. Ours are the moment of saving, the state that it forgets (the best weights so far, the loss
since the last line of the log, the random state that the epoch's order was drawn from), and that a
checkpoint of other settings, or a broken one, is never used. The library's ``*.pt`` and ``*.pth``
files are torch archives, which it reads with ``weights_only=True``: tensors, never code.
"""

import json
import os
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
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState

from helpers.study.files import fsync, read_json, write_json, write_whole

FOLDER = ".checkpoint"
"""Beside a run's results while it is trained; gone when the run is finished."""
_METADATA, _TENSORS, _ORDER = "checkpoint.json", "best.safetensors", "epoch's random state"


class Stopped(KeyboardInterrupt):
    """A signal asked the training to end; a checkpoint was written."""


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a model that are trained; the others are what a training starts from."""
    named = model.named_parameters()
    return {name: weight.detach() for name, weight in named if weight.requires_grad}


def remove(run: Path) -> None:
    """Remove the checkpoints of a finished run."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


class Checkpoints(TrainerCallback):
    """The best weights and the checkpoint of one fine-tuning of one or more stages.

    SIGTERM saves a checkpoint at the end of the running step and raises :class:`Stopped`; SIGUSR1
    saves one and goes on.

    Parameters
    ----------
    run
        Folder of the run; checkpoints lie in a hidden folder inside it.
    settings
        Plain data that the result depends on; a checkpoint of other settings is removed.
    minutes
        Wall time between two checkpoints; 0 saves one after every step.
    at_end
        Also save one after the last step, for a run that has more to do than its training.

    Attributes
    ----------
    stage, log
        The stage that the newest checkpoint lies in, and the log of the stages before it, which
        need not run again.
    score, step, weights
        The best score on English validation data, the first step that had it, and its weights.
    """

    def __init__(self, run: Path, settings: dict, minutes: float, at_end: bool = False):
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        self.folder, self.seconds_between, self.at_end = run / FOLDER, 60 * minutes, at_end
        self.staging = self.folder / f"begun-{os.getpid()}"
        self.settings = json.loads(json.dumps({**settings, "versions": versions}))
        self.found = self._newest()
        self.metadata = read_json(self.found / _METADATA) if self.found else {}
        self.stage, self.log = self.metadata.get("stage", 0), self.metadata.get("log", [])

    def train(self, trainer: Trainer, stage: int, log: list[dict]) -> float:
        """Train a stage from its checkpoint or its start; returns the seconds it took in all.

        ``log`` is what the stages before wrote. The model ends with the best weights.
        """
        self.trainer, self.now, self.before, self.signal = trainer, stage, log, None
        self.score, self.step, self.weights, self.order = -1.0, 0, None, None
        found = self.found if stage == self.stage else None
        saved = self.metadata if found else {}
        self.last = time.monotonic()
        self.begin = self.last - saved.get("seconds", 0.0)
        if found:
            self.score, self.step = saved["score"], saved["step"]
            tensors = safetensors.torch.load_file(found / _TENSORS)
            self.order, self.weights = tensors.pop(_ORDER), tensors or None
        self.resumed = saved
        if found and saved["done"]:
            trainer.state = TrainerState.load_from_json(str(found / "trainer_state.json"))
            trainer._load_rng_state(str(found))  # the next stage's head is drawn from it
        else:
            with self._signals():
                trainer.train(resume_from_checkpoint=str(found) if found else None)
        shutil.rmtree(self.staging, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        if self.weights is not None and trainer.model is not None:
            trainer.model.load_state_dict(self.weights, strict=False)
        return time.monotonic() - self.begin

    def on_train_begin(self, args, state, control, **_):
        if self.resumed:  # the library sums the loss anew, and the log's next line would differ
            self.trainer._tr_loss = torch.tensor(self.resumed["loss"], device=args.device)
            self.trainer._globalstep_last_logged = self.resumed["logged"]

    def on_epoch_begin(self, args, state, control, **_):
        if self.resumed:  # the epoch's order is drawn again; the library then goes on to its state
            torch.random.set_rng_state(self.order)
            self.resumed = {}
        self.order = torch.random.get_rng_state()

    def on_step_end(self, args, state, control, **_):
        last = state.global_step >= state.max_steps
        due = self.at_end if last else time.monotonic() - self.last >= self.seconds_between
        control.should_save = bool(due or self.signal)

    def on_evaluate(self, args, state, control, metrics, **_):
        if metrics["eval_score"] > self.score:  # the first of equals
            self.score, self.step = metrics["eval_score"], state.global_step
            found = trained(self.trainer.model).items()
            self.weights = {name: weight.to("cpu", copy=True) for name, weight in found}
        control.should_save = bool(control.should_save or self.signal)

    def on_save(self, args, state, control, **_):
        """Complete what the library wrote and name it; remove the checkpoints before it."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (path / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        weights = {name: value.contiguous() for name, value in (self.weights or {}).items()}
        safetensors.torch.save_file({_ORDER: self.order, **weights}, path / _TENSORS)
        metadata = {
            "settings": self.settings,
            "stage": self.now,
            "log": self.before,
            "done": state.global_step >= state.max_steps,
            "score": self.score,
            "step": self.step,
            "seconds": time.monotonic() - self.begin,
            "loss": self.trainer._tr_loss.item(),
            "logged": self.trainer._globalstep_last_logged,
            "sizes": {file.name: file.stat().st_size for file in path.iterdir()},
        }
        write_json(path / _METADATA, metadata)
        whole = self.folder / f"{self.now}-{state.global_step:09d}"
        write_whole(whole, path.replace)
        fsync(self.folder)
        for other in set(self.folder.iterdir()) - {whole}:
            shutil.rmtree(other, ignore_errors=True)
        self.last = time.monotonic()
        given, self.signal = self.signal, None
        if given == signal.SIGTERM:
            raise Stopped(f"stopped by a signal; a checkpoint of step {state.global_step} is kept")

    def _newest(self) -> Path | None:
        """The newest checkpoint that is whole and of these settings; all others are removed."""
        paths = sorted(self.folder.glob("*"), reverse=True)
        newest = next(filter(self._is_usable, paths), None)
        for path in set(paths) - {newest}:
            shutil.rmtree(path, ignore_errors=True)
        return newest

    def _is_usable(self, path: Path) -> bool:
        metadata = read_json(path / _METADATA)
        sizes = metadata.get("sizes", {}).items()
        return metadata.get("settings") == self.settings and all(
            (path / name).is_file() and (path / name).stat().st_size == size for name, size in sizes
        )

    @contextmanager
    def _signals(self):
        def note(number, _):
            if self.signal != signal.SIGTERM:
                self.signal = signal.Signals(number)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with ExitStack() as after:
            for number in (signal.SIGTERM, signal.SIGUSR1):
                after.callback(signal.signal, number, signal.signal(number, note))
            yield
