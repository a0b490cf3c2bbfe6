"""Training checkpoints: whole or not at all, by wall time and at a signal; what resumes gives the same bits.

``transformers.Trainer`` saves and restores the weights, the optimiser, the schedule and the random states. Ours are the
moment of saving, the state that it forgets (the best weights so far, the loss since the last line of the log, the
random state that the epoch's order was drawn from), and that a checkpoint of other settings, or a broken one, is never
used. The library's ``*.pt`` and ``*.pth`` files are torch archives, which it reads back with ``weights_only=True``:
tensors and plain values, never code.
"""

import json
import os
import random
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from helpers.study.files import fsync, write_json

FOLDER = ".checkpoint"
"""Beside a run's results while it is trained; gone when the run is finished."""
_ABOUT, _BEST = "checkpoint.json", "best.safetensors"


class Stopped(KeyboardInterrupt):
    """A signal asked the training to end; a checkpoint was written."""


def remove(run: Path) -> None:
    """Remove the checkpoints of a finished run."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


class Checkpoints(TrainerCallback):
    """The checkpoint of one fine-tuning, which may be several trainings one after the other (its stages).

    SIGTERM saves one at the end of the running step and raises :class:`Stopped`; SIGUSR1 saves one and goes on.

    Parameters
    ----------
    run
        Folder of the run; checkpoints lie in a hidden folder inside it.
    settings
        Plain data that the training's result depends on; a checkpoint of other settings is removed.
    minutes
        Wall time between two checkpoints; 0 saves one after every step.
    at_end
        Also save one after the last step, for a run that has more to do than its training.

    Attributes
    ----------
    stage, log
        The stage that the newest checkpoint lies in, and the log of the stages before it. Earlier stages need not run.
    """

    def __init__(self, run: Path, settings: dict, minutes: float, at_end: bool = False):
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        self.folder, self.seconds_between, self.at_end = run / FOLDER, 60 * minutes, at_end
        self.settings = json.loads(json.dumps({**settings, "versions": versions}))
        self.found = self._newest()
        about = read_about(self.found) if self.found else {}
        self.stage, self.log = about.get("stage", 0), about.get("log", [])

    @property
    def begun(self) -> Path:
        """Where a checkpoint is written until it is whole."""
        return self.folder / f"begun-{os.getpid()}"

    def train(self, trainer, best, stage: int, log: list[dict]) -> float:
        """Train ``trainer`` from the checkpoint, or from the start; returns the seconds that the stage took in all.

        ``best`` has the attributes score, step and weights; ``log`` is what the stages before wrote.
        """
        self.trainer, self.best, self.now, self.before = trainer, best, stage, log
        self.asked, self.resumed = None, None
        about, earlier = {}, 0.0
        if self.found and stage == self.stage:
            about = read_about(self.found)
            earlier, best.score, best.step = about["seconds"], about["score"], about["step"]
            best.weights = (
                safetensors.torch.load_file(self.found / _BEST)
                if (self.found / _BEST).exists()
                else None
            )
            self.resumed = about
        self.begin = self.last = time.monotonic()
        self.begin -= earlier
        if about and about["done"]:
            trainer.state = TrainerState.load_from_json(str(self.found / "trainer_state.json"))
            trainer._load_rng_state(str(self.found))  # the next stage's head is drawn from it
        else:
            with self._signals():
                trainer.train(resume_from_checkpoint=str(self.found) if about else None)
        shutil.rmtree(self.begun, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        return time.monotonic() - self.begin

    def on_train_begin(self, args, state, control, **_):
        if (
            self.resumed
        ):  # the library begins to sum the loss anew, so the log's next line would differ
            self.trainer._tr_loss = torch.tensor(self.resumed["loss"], device=args.device)
            self.trainer._globalstep_last_logged = self.resumed["logged"]

    def on_epoch_begin(self, args, state, control, **_):
        if self.resumed:  # the epoch's order is drawn again from here; the library then goes on to the saved state
            _set_random(self.resumed["epoch_random"])
            self.resumed = None
        self.epoch_random = _get_random()

    def on_step_end(self, args, state, control, **_):
        last = state.global_step >= state.max_steps
        due = self.at_end if last else time.monotonic() - self.last >= self.seconds_between
        control.should_save = bool(due or self.asked)

    def on_evaluate(self, args, state, control, **_):
        control.should_save = bool(control.should_save or self.asked)

    def on_save(self, args, state, control, **_):
        """Complete what the library wrote and give it its name; then remove the checkpoints before it."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (path / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        if self.best.weights is not None:
            weights = {k: v.contiguous() for k, v in self.best.weights.items()}
            safetensors.torch.save_file(weights, path / _BEST)
        about = {
            "settings": self.settings,
            "stage": self.now,
            "log": self.before,
            "done": state.global_step >= state.max_steps,
            "score": self.best.score,
            "step": self.best.step,
            "seconds": time.monotonic() - self.begin,
            "loss": self.trainer._tr_loss.item(),
            "logged": self.trainer._globalstep_last_logged,
            "epoch_random": self.epoch_random,
            "sizes": {file.name: file.stat().st_size for file in path.iterdir()},
        }
        write_json(path / _ABOUT, about)
        for file in path.iterdir():
            fsync(file)
        whole = self.folder / f"{self.now}-{state.global_step:09d}"
        shutil.rmtree(whole, ignore_errors=True)
        os.replace(path, whole)
        fsync(self.folder)
        for other in self.folder.iterdir():
            if other != whole:
                shutil.rmtree(other, ignore_errors=True)
        self.last = time.monotonic()
        asked, self.asked = self.asked, None
        if asked == signal.SIGTERM:
            raise Stopped(f"stopped by a signal; a checkpoint of step {state.global_step} is kept")

    def _newest(self) -> Path | None:
        """The newest checkpoint that is whole and of these settings; every other one is removed."""
        newest = None
        for path in sorted(self.folder.iterdir(), reverse=True) if self.folder.is_dir() else []:
            if newest is None and _is_whole(path) and read_about(path)["settings"] == self.settings:
                newest = path
            else:
                shutil.rmtree(path, ignore_errors=True)
        return newest

    @contextmanager
    def _signals(self):
        def ask(number, _):
            if self.asked != signal.SIGTERM:
                self.asked = signal.Signals(number)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def read_about(path: Path) -> dict:
    """What a checkpoint says about itself; empty when it does not."""
    try:
        return json.loads((path / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _is_whole(path: Path) -> bool:
    sizes = read_about(path).get("sizes")
    return bool(sizes) and all(
        (path / n).is_file() and (path / n).stat().st_size == s for n, s in sizes.items()
    )


def _get_random() -> dict:
    """The three generators that training may draw from, as plain data."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.random.get_rng_state().numpy().tobytes().hex(),
    }


def _set_random(state: dict) -> None:
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.random.set_rng_state(
        torch.frombuffer(bytearray.fromhex(state["torch"]), dtype=torch.uint8)
    )
