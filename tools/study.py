"""Run a study: ``python tools/study.py params/NAME.yaml [--cores N] [--sizes SIZE ...]``.

Checks the study, reads its data, writes the settings of every condition and starts Snakemake, which
runs the notebooks whose results are missing. Other arguments go to Snakemake. After Ctrl-C, SIGTERM
or a crash the same command continues.
"""

import argparse
import errno
import fcntl
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from run_notebook import GPUS, STOPPED, stop

from helpers.study import Study, StudyError, sweeps
from helpers.study.files import read_json, write_json

ROOT = Path(__file__).parents[1]
MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""Has glibc keep the memory of one training step for the next (``man mallopt``): else the system
fills it with zeros anew, a tenth of a training's time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--sizes", nargs="+", help="sizes to run; all of them without it")
    parser.add_argument("--profile", type=Path, help="a Snakemake profile, such as a cluster's")
    arguments, more = parser.parse_known_args()
    if arguments.cores < 1:
        parser.error(f"--cores: found {arguments.cores}, expected 1 or more")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)  # a terminal may be in latin-1
    try:
        if arguments.profile:
            arguments.profile = arguments.profile.expanduser().resolve()
        study = Study.load(arguments.study, arguments.outputs)
        for size in arguments.sizes or []:
            study.encoder_folder(size)  # an unknown one is an error
        with locked_log(study) as log:
            return batch(study, log, arguments, more)
    except StudyError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or arguments.outputs}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; give the same command again to continue", file=sys.stderr)
        return 130
    return 2


def locked_log(study: Study) -> IO[str]:
    """The batch's log, locked: one batch at a time may work on a study.

    Snakemake, its notebooks and their kernels write to it, so it stays locked until the last of
    them has ended, even if this process is killed.
    """
    study.check_layout()
    study.folder.mkdir(parents=True, exist_ok=True)
    log = (study.folder / "snakemake.log").open("a", encoding="utf-8")
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        wrong = "another `make study` is at work on it; wait until it has ended"
        raise StudyError(f"{study.folder}: {wrong}") from None
    log.truncate(0)
    return log


def batch(study: Study, log: IO[str], arguments: argparse.Namespace, more: list[str]) -> int:
    """Everything between the study's checks and the last line; returns the exit status."""
    import plan

    from helpers import data

    data.prepare(study)
    if full := plan.disk(study):
        raise StudyError(full)
    sizes, status = arguments.sizes or [*study.sizes], 0
    if study.sweep:  # it chooses learning rates, which the settings of all else name
        write_settings(study, trained=False)
        swept = [study.folder / size / "sweep" for size in sizes]
        status = snakemake(study, swept, log, arguments, more)
    if status == 0:
        write_settings(study)
        check_encoders(study, sizes)
        folders = [condition.folder for condition in study.conditions(*sizes)]
        status = snakemake(study, folders, log, arguments, more)
    if status:
        print(f"{study.name} is not complete; {log.name} says why", file=sys.stderr)
    return max(status, compare(study, log))


def write_settings(study: Study, trained: bool = True) -> None:
    """Write study.json and the settings of every notebook; without ``trained`` only those of the
    encoders and the sweep.
    """
    study.write_record()
    for size in study.sizes:
        encoder, settings = study.encoder_folder(size), study.encoder_settings(size)
        is_made = read_json(encoder / "run.json").get("settings") == settings
        is_there = (encoder / "config.json").exists()  # not if it came from another machine
        is_swept = not study.sweep or sweeps.chosen(study, size) is not None
        is_idle = is_swept and all(part.is_whole() for part in study.conditions(size))
        settle(study.folder / size, settings, [], is_made and (is_there or is_idle))
        if study.sweep:
            trials = {trial.title: trial.settings for trial in sweeps.trials(study, size)}
            settle(study.folder / size / "sweep", trials, study.sweep.seeds, is_swept)
    for part in study.conditions() if trained else []:
        settle(part.folder, part.settings, part.seeds, part.is_whole())


def check_encoders(study: Study, sizes: list[str]) -> None:
    """Stop where a run would start from an encoder whose weights stayed on another machine."""
    for part in study.conditions(*sizes):
        for seed in part.seeds if part.before else []:
            start = part.before.seed_folder(seed)
            is_kept = part.before.is_complete(seed) and not (start / "encoder").exists()
            if is_kept and not part.is_complete(seed):
                wrong = f"found results without the encoder, which {part.title}, seed {seed} needs"
                raise StudyError(f"{start}: {wrong}; remove the folder to train it here")


def settle(folder: Path, settings: dict, seeds: list[int], is_complete: bool) -> None:
    """Write a notebook's settings.json if it changed; remove the notebook without its results."""
    if not is_complete:
        (folder / "notebook.ipynb").unlink(missing_ok=True)
    content = json.loads(json.dumps({"settings": settings, "seeds": seeds}))
    if read_json(folder / "settings.json") != content:
        write_json(folder / "settings.json", content)


def snakemake(
    study: Study, folders: list[Path], log: IO[str], arguments: argparse.Namespace, more: list[str]
) -> int:
    """Have Snakemake make the notebooks of folders; its exit status.

    On this machine each notebook gets a GPU or, without any, one processor core.
    """
    environment = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **MEMORY}
    goals = [f"{folder}/notebook.ipynb" for folder in folders]
    content = {"study": str(study.path), "outputs": str(study.outputs), "notebooks": goals}
    write_json(study.folder / "snakemake.json", content)  # --config would read 2024_06 as a number
    command = ["run_snakemake.py", "all", *more, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(study.folder / "snakemake.json"), "--keep-going", "--nolock"]
    command += ["--rerun-incomplete", "--rerun-triggers", "mtime", "--scheduler", "greedy"]
    if arguments.profile:
        command += ["--profile", str(arguments.profile)]
    else:
        gpus = visible_gpus()
        at_once = min(len(gpus) or arguments.cores, arguments.cores)
        command += ["--cores", str(at_once)]
        if len(gpus) > 1:
            environment[GPUS] = ",".join(gpus)
    return run(command, log, environment | os.environ)


def compare(study: Study, log: IO[str]) -> int:
    """Make the report anew if a result is newer, and print the answer; returns the exit status."""
    compared, status = study.folder / "4_compare.ipynb", 0
    files = [study.folder / "study.json", *study.folder.glob("*/*/*/**/scores.json")]
    newest = max(file.stat().st_mtime for file in files)
    tables = [study.folder / name for name in ("results.parquet", "effects.parquet")]
    made = [compared, compared.with_name("report.html"), *tables]
    if not all(map(Path.exists, made)) or compared.stat().st_mtime < newest:
        command = ["run_notebook.py", "--report", str(ROOT / "notebooks/4_compare.ipynb")]
        command += [str(compared), "-p", "study", str(study.path)]
        status = run([*command, "-p", "outputs", str(study.outputs)], log, os.environ)
    if status == 0:
        print(sentence(compared))
        print(f"report: {compared.with_name('report.html').resolve()}")
    return status


def run(command: list[str], log: IO[str], environment: Mapping[str, str]) -> int:
    """Run one of these tools in a process group of its own, with the log as its output; returns its
    exit status. When this process is to stop, the group stops.
    """
    if STOPPED:  # while a library was imported, which may swallow the interrupt
        raise KeyboardInterrupt
    begin = os.fstat(log.fileno()).st_size
    command = [sys.executable, str(ROOT / "tools" / command[0]), *command[1:]]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, process_group=0)
    try:
        follow(process, Path(log.name), begin)
    except (KeyboardInterrupt, StudyError):
        print("stopping after a checkpoint (the same signal again stops at once)", file=sys.stderr)
        with suppress(ProcessLookupError):  # it has just ended
            try:
                os.killpg(process.pid, signal.SIGINT)
                process.wait()
                wait_for_all(log)
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode < 0:
        wait_for_all(log)
        raise StudyError(f"{command[1]} was killed; give the same command again to continue")
    return process.returncode


def wait_for_all(log: IO[str]) -> None:
    """Return when no process of the batch has its log open."""
    log.close()
    with open(log.name, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def follow(process: subprocess.Popen, log: Path, begin: int) -> None:
    """Print how far Snakemake is and what fails, as its log says from a byte on, until it ends.

    Raises StudyError when the disk is full: whatever else is trained could not be written either.
    """
    told, in_error, is_running, rest = set(), False, True, ""
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(begin)
        while is_running:
            is_running = process.poll() is None  # first: what it wrote at last is read, too
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                step = re.match(r"(\d+) of (\d+) steps", line)
                if step and int(step[1]) < int(step[2]):  # the last is the rule `all`
                    done = f"{step[1]} of {int(step[2]) - 1} notebooks done"
                    print(f"{time.strftime('%H:%M:%S')}  {done}")
                in_error = in_error or line.startswith("Error in ")
                output = re.match(r" +output: (.*)", line) if in_error else None
                if output:
                    in_error, line = False, f"FAILED {output[1]}: {reason(Path(output[1]))}"
                notebook = line.split(": ")[0]
                if line.startswith("FAILED ") and notebook not in told:
                    told.add(notebook)
                    print(line, file=sys.stderr)
                    if os.strerror(errno.ENOSPC) in line:
                        full = "the disk is full; make room and give the same command again"
                        raise StudyError(f"{log.parent}: {full}")
            time.sleep(0.2)


def reason(notebook: Path) -> str:
    """Why a notebook failed whose process did not say so here: on another machine, or killed."""
    for cell in read_json(notebook.with_suffix(".failed.ipynb")).get("cells", []):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return f"{output['ename']}: {output['evalue']}"[:600]
    return "it did not start or was killed (out of memory?); snakemake.log says more"


def sentence(notebook: Path) -> str:
    """The study's answer, as the executed comparison shows it (the cell tagged `sentence`)."""
    for cell in read_json(notebook)["cells"]:
        if "sentence" in cell["metadata"].get("tags", []):
            text = "".join(cell["outputs"][0]["data"]["text/html"])
            return html.unescape(re.sub("<[^>]+>", " ", text)).strip()
    return ""


def visible_gpus() -> list[str]:
    """This machine's GPUs of NVIDIA, or those that CUDA_VISIBLE_DEVICES names (also of AMD)."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:  # no driver, no GPU
        return []
    return [str(i) for i in range(listed.stdout.count("GPU "))]


if __name__ == "__main__":
    sys.exit(main())
