"""A study on a real Slurm of two nodes on this machine, one of which is lost: as a local run.

Everything of it lies in a folder of the test's own and ends with it; a Slurm that this machine may
have is not touched.
"""

import ctypes
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import write_study
from stress import differences, results

from helpers.study import NONE, Run, Study
from helpers.training import checkpoints

ROOT = Path(__file__).parents[1]
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
PATIENCE = 1200
"""Seconds until something that always happens is taken not to happen: the machine may be busy."""
TO_START = 90
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"no Slurm here: {', '.join(MISSING)} not installed (slurm-wlm, munge)",
    ),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="a Slurm of the test's own needs root"
    ),
]

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU,CR_LLN
SlurmdParameters=config_overrides
MinJobAge=7200
MessageTimeout=100
SlurmdTimeout=0
NodeName=n[1-2] NodeAddr=127.0.0.1 NodeHostname={host} Port=[{first}-{second}] \\
    CPUs=2 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """munge, a controller and two nodes in a folder; ``environment`` is what reaches them."""

    def __init__(self, folder: Path):
        self.folder, self.conf, self.daemons = folder, folder / "slurm.conf", {}
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))
        }
        # Snakemake's executor starts srun without SLURM_CONF.
        found, put = shutil.which("srun"), folder / "bin/srun"
        put.parent.mkdir(parents=True)
        put.write_text(
            f'#!/bin/sh\nexec env SLURM_CONF={shlex.quote(str(self.conf))} {found} "$@"\n'
        )
        put.chmod(0o755)
        self.environment |= {
            "SLURM_CONF": str(self.conf),
            "PATH": f"{put.parent}:{os.environ['PATH']}",
        }

    def start(self) -> None:
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        controller, first = free_ports()
        self.conf.write_text(
            CONFIGURATION.format(
                folder=self.folder,
                host=socket.gethostname().split(".")[0],
                controller=controller,
                first=first,
                second=first + 1,
            )
        )
        private = [
            f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")
        ]
        self._begin(
            "munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *private
        )
        until(lambda: (self.folder / "munge.socket").exists(), self.logs, TO_START)
        self._begin("slurmctld", "-D")
        until(lambda: self.ask("scontrol", "ping").returncode == 0, self.logs, TO_START)
        for node in ("n1", "n2"):
            self._begin("slurmd", "-D", "-N", node)
        until(
            lambda: self.ask("sinfo", "-Nho", "%T").stdout.split() == ["idle", "idle"],
            self.logs,
            TO_START,
        )

    def _begin(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.log").open("a") as log:
            self.daemons[command[-1]] = subprocess.Popen(
                command,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def ask(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def jobs(self) -> list[dict[str, str]]:
        """What the controller says of every job and array task, old ones too."""
        lines = self.ask("scontrol", "show", "jobs", "-o").stdout.splitlines()
        return [
            dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId=")
        ]

    def logs(self) -> str:
        return "".join(
            f"{path.name}: {path.read_text()[-2000:]}\n" for path in self.folder.glob("*.log")
        )

    def processes(self) -> dict[int, list[str]]:
        """Daemons of this Slurm and what they started: id and environment."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in environment and int(path.name) != os.getpid():
                found[int(path.name)] = environment.decode(errors="replace").split("\0")
        return found

    def lose(self, node: str) -> None:
        """Have a node vanish with all that it started; then tell the controller that it is gone."""
        keepers = tuple(
            f"slurmstepd: [{job['JobId']}." for job in self.jobs() if job["NodeList"] == node
        )
        there = self.processes()
        self.daemons[node].kill()
        kill(
            process for process in there if command(process).startswith(keepers)
        )  # they would report the job's end
        kill(process for process, has in there.items() if f"SLURMD_NODENAME={node}" in has)
        told = self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
        assert told.returncode == 0, told.stderr
        for job in self.jobs():  # a job that is put back into the queue waits two minutes there
            if job.get("Restarts") != "0" and job["JobState"] == "PENDING":
                self.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")

    def node_of(self, argument: str) -> str:
        """The node that a command with this argument runs on."""
        for process, has in self.processes().items():
            if argument in command(process):
                return next(
                    word.split("=", 1)[1] for word in has if word.startswith("SLURMD_NODENAME=")
                )
        raise AssertionError(f"no job with {argument}")

    def end(self) -> None:
        end = time.monotonic() + PATIENCE
        while left := self.processes():
            kill(left)
            assert time.monotonic() < end, left
            time.sleep(0.1)
        for daemon in self.daemons.values():
            daemon.wait()


def end_with_parent() -> None:
    """Have a daemon end with the test, also when that is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def kill(processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def until(condition, explain, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.2)


def free_ports() -> tuple[int, int]:
    """Two ports that nothing listens on; neither on the one after the second."""
    port = 20000 + os.getpid() % 20000
    while True:
        try:
            for i in range(3):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port + i))
            return port, port + 1
        except OSError:
            port += 3


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except (AssertionError, OSError) as error:  # a sandbox may forbid what a daemon needs
            pytest.skip(f"Slurm's daemons do not start here: {str(error)[-500:]}")
        yield cluster
    finally:
        cluster.end()


def study_file(folder: Path, sources: Path, checkpoint_minutes: float) -> Path:
    """A study of one encoder and two runs."""
    recipe = {
        "steps": 60,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "max_length": 32,
        "evaluations": 3,
    }
    needs = {"gpus": 0, "memory_gb": 0.5, "minutes": 60}
    size = {"encoder": str(sources / "encoder"), "title": "a tiny encoder", "pooling": "mean"}
    return write_study(
        folder,
        sources,
        sizes={"base": size},
        intermediate=[NONE],
        seeds=[1, 2],
        phases={"intermediate": recipe, "target": recipe},
        checkpoint_minutes=checkpoint_minutes,
        cluster=dict.fromkeys(("encoder", "intermediate", "target"), needs),
    )


def start(params: Path, sources: Path, environment: dict[str, str], *more: str) -> subprocess.Popen:
    """A batch whose outputs lie beside ``params``."""
    environment = {
        **environment,
        "HUB_MIRROR": str(sources / "hub"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "helpers.batch",
        str(params),
        "--outputs",
        str(params.parent / "outputs"),
        *more,
    ]
    with (params.parent / "log.txt").open("a") as log:
        return subprocess.Popen(command, env=environment, cwd=params.parent, stdout=log, stderr=log)


def submit(slurm: Slurm, params: Path, sources: Path, *more: str) -> subprocess.Popen:
    """A batch whose runs become jobs of the test's Slurm, through the profile."""
    return start(
        *(params, sources, slurm.environment, "--profile", str(ROOT / "profiles/slurm")),
        *("--slurm-no-account", "--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "2", *more),
    )


def said(params: Path) -> str:
    logs = [params.parent / "log.txt", params.parent / "outputs/tiny/snakemake.log"]
    logs += sorted((params.parent / ".snakemake/slurm_logs").rglob("*.log"))
    return "".join(f"{log}: {log.read_text()[-5000:]}\n" for log in logs if log.exists())


def test_a_study_on_two_nodes_of_which_one_is_lost_gives_what_a_local_run_gives(
    slurm, tiny_sources, tmp_path
):
    alone = study_file(tmp_path / "local", tiny_sources, checkpoint_minutes=15)
    params = study_file(tmp_path / "slurm", tiny_sources, checkpoint_minutes=0)  # after every step
    local = start(alone, tiny_sources, dict(os.environ), "--cores", "1")
    batch = submit(slurm, params, tiny_sources)
    there, here = (
        Study.load(params, params.parent / "outputs"),
        Study.load(alone, alone.parent / "outputs"),
    )

    def seen(condition):
        until(lambda: batch.poll() is not None or condition(), lambda: said(params))
        assert batch.poll() is None, said(params)
        return condition()

    def running() -> list[dict[str, str]]:
        jobs = [job for job in slurm.jobs() if job["JobState"] == "RUNNING"]
        return jobs if len(jobs) == 2 else []

    jobs = seen(running)
    assert {job["NodeList"] for job in jobs} == {"n1", "n2"}
    run = seen(lambda: [run for run in there.runs() if checkpoints_of(there, run)])[0]
    node = slurm.node_of(f"seed={run.seed}")
    slurm.lose(node)
    assert batch.wait(PATIENCE) == 0, said(params)
    assert local.wait(PATIENCE) == 0, said(alone)
    (lost,) = [job for job in jobs if job["NodeList"] == node]
    (again,) = [job for job in slurm.jobs() if job["JobId"] == lost["JobId"]]
    assert again["Restarts"] == "1" and again["NodeList"] not in (node, "(null)")
    assert [job["JobState"] for job in slurm.jobs()] == [
        "COMPLETED"
    ] * 3  # none was given up and sent again
    expected = results(here)
    assert len(expected) > 12 and differences(expected, results(there)) == []


def test_jobs_that_outlive_their_batch_are_named_and_then_only_what_is_missing_is_made(
    slurm, tiny_sources, tmp_path
):
    params = study_file(tmp_path / "slurm", tiny_sources, checkpoint_minutes=0)
    study = Study.load(params, params.parent / "outputs")
    before = {job["JobId"] for job in slurm.jobs()}
    batch = submit(slurm, params, tiny_sources)
    until(lambda: any(checkpoints_of(study, run) for run in study.runs()), lambda: said(params))
    kill([*children(batch.pid), batch.pid])  # the machine that the study was started on is gone
    batch.wait()

    def own() -> list[dict[str, str]]:
        return [job for job in slurm.jobs() if job["JobId"] not in before]

    left = [job["JobId"] for job in own() if job["JobState"] in ("RUNNING", "PENDING")]
    assert len(left) == 2
    assert submit(slurm, params, tiny_sources).wait(PATIENCE) == 2
    (line,) = [
        line for line in (params.parent / "log.txt").read_text().splitlines() if "scancel" in line
    ]
    assert "left by an earlier batch" in line and f"jobs {', '.join(left)}" in line
    slurm.ask("scancel", left[1])
    until(
        lambda: {job["JobState"] for job in own()} == {"COMPLETED", "CANCELLED"},
        lambda: said(params),
    )
    (finished,) = [run for run in study.runs() if (study.run_folder(run) / "scores.json").exists()]
    made, jobs = (study.run_folder(finished) / "scores.json").stat().st_mtime_ns, len(own())
    assert submit(slurm, params, tiny_sources).wait(PATIENCE) == 0, said(params)
    assert len(own()) - jobs == 1  # the run whose job was cancelled
    assert (study.run_folder(finished) / "scores.json").stat().st_mtime_ns == made


def test_short_runs_share_a_job(slurm, tiny_sources, tmp_path):
    params = study_file(tmp_path / "slurm", tiny_sources, checkpoint_minutes=15)
    before = {job["JobId"] for job in slurm.jobs()}
    grouped = ("--groups", "target=runs", "--group-components", "runs=2")
    assert submit(slurm, params, tiny_sources, *grouped).wait(PATIENCE) == 0, said(params)
    jobs = [job for job in slurm.jobs() if job["JobId"] not in before]
    assert len(jobs) == 2 and {job["JobState"] for job in jobs} == {
        "COMPLETED"
    }  # the encoder, and both runs


def children(process: int) -> list[int]:
    """Ids of the processes that a process started."""
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def checkpoints_of(study: Study, run: Run) -> list[Path]:
    return list((study.run_folder(run) / checkpoints.FOLDER).glob("*/checkpoint.json"))
