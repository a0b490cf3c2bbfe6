"""Run a study: ``python tools/study.py params/NAME.yaml [--cores N] [--profile FOLDER]``.

Checks the study, reads its data, writes the settings of every condition and starts Snakemake, which
runs the notebooks whose results are missing. Other arguments go to Snakemake. After Ctrl-C, SIGTERM
or a crash the same command continues.
"""

import argparse
import fcntl
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from run_notebook import GPUS

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
    parser.add_argument("--profile", type=Path, help="a Snakemake profile, such as a cluster's")
    arguments, more = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)  # a terminal may be in latin-1
    try:
        if arguments.profile:
            arguments.profile = arguments.profile.expanduser().resolve()
        study = Study.load(arguments.study, arguments.outputs)
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
        wrong = "another batch is at work on this study; wait until it has ended"
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
    status = 0
    for goal in ["sweeps", "all"] if study.sweep else ["all"]:
        if status == 0:  # the settings of all else name the learning rates that the sweep chooses
            study.write_record()
            write_settings(study, trained=goal == "all")
            status = snakemake(study, goal, log, arguments, more)
    compared = study.folder / "4_compare.ipynb"
    if status and any(study.folder.glob("*/*/*/notebook.ipynb")) and not log.closed:
        command = [sys.executable, str(ROOT / "tools/run_notebook.py"), "--report"]
        command += [str(ROOT / "notebooks/4_compare.ipynb"), str(compared)]
        command += ["-p", "study", str(study.path), "-p", "outputs", str(study.outputs)]
        subprocess.run(command, stdout=log, stderr=log)  # the report of what is there
    if status:
        print(f"{study.name} is not complete; {log.name} says why", file=sys.stderr)
    if compared.exists():
        print(sentence(compared))
        print(f"report: {compared.with_name('report.html').resolve()}")
    return status


def write_settings(study: Study, trained: bool = True) -> None:
    """Write every condition's settings.json; remove notebooks without their results.

    Without ``trained`` those of the encoders and of the sweep only.
    """
    plans = []
    for size in study.sizes:
        folder, settings = study.folder / size, study.encoder_settings(size)
        made = read_json(study.encoder_folder(size) / "run.json").get("settings")
        plans.append((folder, settings, [], made == settings))
        if study.sweep:
            trials = {trial.title: trial.settings for trial in sweeps.trials(study, size)}
            is_chosen = sweeps.chosen(study, size) is not None
            plans.append((folder / "sweep", trials, study.sweep.seeds, is_chosen))
    for condition in study.conditions() if trained else []:
        plans.append((condition.folder, condition.settings, condition.seeds, condition.is_whole()))
    for folder, settings, seeds, is_complete in plans:
        if not is_complete:
            (folder / "notebook.ipynb").unlink(missing_ok=True)
        write_changed(folder / "settings.json", {"settings": settings, "seeds": seeds})


def write_changed(path: Path, content: dict) -> None:
    """Write JSON where the file has other content, so that its time says when that changed."""
    content = json.loads(json.dumps(content))
    if read_json(path) != content:
        write_json(path, content)


def snakemake(
    study: Study, goal: str, log: IO[str], arguments: argparse.Namespace, more: list[str]
) -> int:
    """Run Snakemake to its end, in a process group of its own; returns its exit status.

    On this machine each notebook gets a GPU or, without any, one processor core.
    """
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = threads | MEMORY | os.environ
    places = study.folder / "snakemake.json"  # --config would read 2024_06 as a number
    write_changed(places, {"study": str(study.path), "outputs": str(study.outputs)})
    command = [sys.executable, str(ROOT / "tools/run_snakemake.py"), goal, *more]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(places)]
    command += ["--keep-going", "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"]
    command += ["--scheduler", "greedy"]
    if arguments.profile:
        command += ["--profile", str(arguments.profile)]
    else:
        gpus = visible_gpus()
        at_once = min(len(gpus) or arguments.cores, arguments.cores)
        command += ["--cores", str(at_once), "--resources", f"gpu={at_once}"]
        if len(gpus) > 1:
            environment[GPUS] = ",".join(gpus)
    begin = os.fstat(log.fileno()).st_size
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, process_group=0)
    try:
        follow(process, Path(log.name), begin)
        if process.returncode >= 0:
            return process.returncode
        print("Snakemake was killed; its notebooks save checkpoints and end", file=sys.stderr)
        wait_for_all(log)
        return 1
    except KeyboardInterrupt:
        print("stopping after a checkpoint (a second signal stops at once)", file=sys.stderr)
        with suppress(ProcessLookupError):  # it has just ended
            try:
                os.killpg(process.pid, signal.SIGINT)
                process.wait()
                wait_for_all(log)
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGKILL)
        raise


def wait_for_all(log: IO[str]) -> None:
    """Return when no process of the batch has its log open."""
    log.close()
    with open(log.name, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def follow(process: subprocess.Popen, log: Path, begin: int) -> None:
    """Print how far Snakemake is and what fails, as its log says from a byte on, until it ends."""
    told, in_error, rest, has_ended = set(), False, "", False
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(begin)
        while not has_ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                has_ended = True
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                if step := re.match(r"(\d+) of (\d+) steps", line):
                    done, total = int(step[1]), int(step[2]) - 1  # one is the rule `all`
                    if done <= total:
                        print(f"{time.strftime('%H:%M:%S')}  {done} of {total} notebooks done")
                elif line.startswith("FAILED "):
                    told.add(line.split(": ")[0].removeprefix("FAILED "))
                    print(line, file=sys.stderr)
                elif line.startswith("Error in "):
                    in_error = True
                elif in_error and (output := re.match(r" +output: ([^,]*)", line)):
                    in_error = False
                    if output[1] not in told:
                        print(f"FAILED {output[1]}: {reason(Path(output[1]))}", file=sys.stderr)


def reason(notebook: Path) -> str:
    """Why a notebook failed whose process did not say so here: on another machine, or killed."""
    for cell in read_json(notebook.with_suffix(".failed.ipynb")).get("cells", []):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return f"{output['ename']}: {output['evalue']}"[:600]
    return "its process was killed (out of memory?)"


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
