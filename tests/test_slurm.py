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
from pathlib import Path

import pytest
from conftest import SIZE, write_study
from running import free_ports, logs, until
from stress import differences, kill, results, start, until_quiet

ROOT = Path(__file__).parents[1]
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
IS_ROOT = sys.platform == "linux" and os.geteuid() == 0
PATIENCE = 1200
"""Seconds until something that always happens is taken not to happen: the machine may be busy."""
TO_START = 90
NO_SLURM = f"no Slurm here: {', '.join(MISSING)} not installed (slurm-wlm, munge)"
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(MISSING), reason=NO_SLURM),
    pytest.mark.skipif(not IS_ROOT, reason="a Slurm of the test's own needs root"),
]

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
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
NodeName=DEFAULT CPUs=2 RealMemory=4000
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]}
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """munge, a controller and two nodes in a folder; ``environment`` is what reaches them."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, {}
        others = ("SLURM_", "SBATCH_", "SRUN_", "HUB_MIRROR")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(others)}
        self.environment["SLURM_CONF"] = str(folder / "slurm.conf")
        self.environment["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"

    def start(self) -> None:
        self.folder.chmod(0o755)
        for name in ("bin", "state"):
            (self.folder / name).mkdir()
        srun = self.folder / "bin/srun"  # Snakemake's executor starts it without SLURM_CONF
        conf = shlex.quote(self.environment["SLURM_CONF"])
        srun.write_text(f'#!/bin/sh\nexec env SLURM_CONF={conf} {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host, ports = socket.gethostname().split(".")[0], free_ports(3)
        text = CONFIGURATION.format(folder=self.folder, host=host, ports=ports)
        (self.folder / "slurm.conf").write_text(text)
        names = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={self.folder}/munge.{end}" for name, end in names.items()]
        options.append(f"--socket={self.folder}/munge.socket")
        self.begin("munged", "--foreground", "--force", *options)
        until((self.folder / "munge.socket").exists, self.folder, TO_START)
        self.begin("slurmctld", "-D")
        until(lambda: self.ask("scontrol", "ping").returncode == 0, self.folder, TO_START)
        for node in ("n1", "n2"):
            self.begin("slurmd", "-D", "-N", node)
        until(lambda: self.states() == ["idle", "idle"], self.folder, TO_START)

    def begin(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.log").open("a") as log:
            options = {"env": self.environment, "stdout": log, "stderr": log}
            options |= {"start_new_session": True, "preexec_fn": end_with_parent}
            self.daemons[command[-1]] = subprocess.Popen(command, **options)

    def ask(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def states(self) -> list[str]:
        return self.ask("sinfo", "-Nho", "%T").stdout.split()

    def jobs(self) -> list[dict[str, str]]:
        """What the controller says of every job and array task, old ones too."""
        lines = self.ask("scontrol", "show", "jobs", "-o").stdout.splitlines()
        lines = [line for line in lines if line.startswith("JobId=")]
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def processes(self) -> dict[int, list[str]]:
        """Daemons of this Slurm and what they started: id and environment."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in environment and int(path.name) != os.getpid():
                found[int(path.name)] = environment.split("\0")
        return found

    def lose(self, node: str) -> None:
        """Have a node vanish with all that it started; then tell the controller that it is gone."""
        lost = [job["JobId"] for job in self.jobs() if job["NodeList"] == node]
        keepers = tuple(f"slurmstepd: [{job}." for job in lost)  # they would report a job's end
        there = self.processes()
        self.daemons[node].kill()
        kill(process for process in there if command(process).startswith(keepers))
        kill(process for process, has in there.items() if f"SLURMD_NODENAME={node}" in has)
        told = self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
        assert told.returncode == 0, told.stderr
        for job in self.jobs():  # a job that is put back into the queue waits two minutes there
            if job.get("Restarts") != "0" and job["JobState"] == "PENDING":
                self.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")

    def node_of(self, argument: str) -> str:
        """The node that a command with this argument runs on."""
        for process, has in self.processes().items():
            names = [word for word in has if word.startswith("SLURMD_NODENAME=")]
            if names and argument in command(process):
                return names[0].partition("=")[2]
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


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    except (AssertionError, OSError) as error:  # a sandbox may forbid what a daemon needs
        pytest.skip(f"Slurm's daemons do not start here: {str(error)[-500:]}")
    finally:
        cluster.end()


def study_file(folder: Path, sources: Path) -> Path:
    """A study of one encoder and two conditions, which become two jobs."""
    (folder / "sources").symlink_to(sources)
    recipe = {"steps": 400, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}
    needs = {"gpus": 0, "memory_gb": 0.5, "minutes": 60}
    changes = {"sizes": {"base": {**SIZE, "encoder": str(sources / "encoder")}}}
    changes |= {"intermediate": ["none"], "targets": ["pairs", "choices"]}
    changes |= {"phases": {"target": recipe}, "precision": "fp32", "checkpoint_minutes": 0.01}
    cluster = {"encoder": needs, "target": needs}
    return write_study(folder, sources, cluster=cluster, **changes)


def submit(slurm: Slurm, folder: Path, *more: str) -> subprocess.Popen:
    """A batch whose notebooks become jobs of the test's Slurm, through the profile."""
    return start(
        *(folder / "tiny.yaml", folder, "out", "--profile", str(ROOT / "profiles/slurm")),
        *("--slurm-no-account", "--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "2", *more),
        **(slurm.environment | {"OMP_NUM_THREADS": "1"}),
    )


def checkpoints(folder: Path) -> list[str]:
    """Targets of which a checkpoint is there."""
    return [path.parts[-6] for path in folder.glob("out/**/.checkpoint/*/*/progress.json")]


@pytest.fixture(scope="module")
def local(tiny_sources, tmp_path_factory) -> dict[str, bytes]:
    """The results of a batch on this machine."""
    folder = tmp_path_factory.mktemp("local")
    batch = start(study_file(folder, tiny_sources), folder, "out", OMP_NUM_THREADS="1")
    assert batch.wait(PATIENCE) == 0, logs(folder)
    return results(folder / "out")


@pytest.fixture
def folder(tiny_sources, tmp_path) -> Path:
    study_file(tmp_path, tiny_sources)
    return tmp_path


def until_training(slurm: Slurm, batch: subprocess.Popen, folder: Path) -> str:
    """Wait until both conditions are trained; returns a target of which a checkpoint is there."""

    def both() -> bool:
        assert batch.poll() is None, logs(folder)
        running = [job for job in slurm.jobs() if job["JobState"] == "RUNNING"]
        return len(running) == 2 and bool(checkpoints(folder))

    until(both, folder, PATIENCE)
    return checkpoints(folder)[0]


def test_a_study_that_loses_a_node_gives_what_a_local_run_gives(slurm, local, folder):
    batch = submit(slurm, folder)
    node = slurm.node_of(f"base/none/{until_training(slurm, batch, folder)}/notebook.ipynb")
    (lost,) = [j for j in slurm.jobs() if (j["NodeList"], j["JobState"]) == (node, "RUNNING")]
    slurm.lose(node)
    assert batch.wait(PATIENCE) == 0, logs(folder)
    (again,) = [job for job in slurm.jobs() if job["JobId"] == lost["JobId"]]
    assert again["Restarts"] == "1" and again["NodeList"] not in (node, "(null)")
    assert differences(local, results(folder / "out")) == []
    slurm.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_end_with_their_batch_and_the_same_command_goes_on(slurm, local, folder, how):
    before = {job["JobId"] for job in slurm.jobs()}
    batch = submit(slurm, folder)
    target = until_training(slurm, batch, folder)
    batch.send_signal(how)
    batch.wait(PATIENCE)

    def has_ended() -> bool:
        new = [job for job in slurm.jobs() if job["JobId"] not in before]
        return {job["JobState"] for job in new} <= {"COMPLETED", "CANCELLED", "FAILED"}

    until(has_ended, folder, PATIENCE)
    assert target in checkpoints(folder)
    assert until_quiet("out", PATIENCE) is not None, logs(folder)
    assert submit(slurm, folder).wait(PATIENCE) == 0, logs(folder)
    assert differences(local, results(folder / "out")) == []


def test_short_notebooks_share_a_job(slurm, folder):
    before = {job["JobId"] for job in slurm.jobs()}
    grouped = ("--groups", "target=runs", "--group-components", "runs=2")
    assert submit(slurm, folder, *grouped).wait(PATIENCE) == 0, logs(folder)
    jobs = [job for job in slurm.jobs() if job["JobId"] not in before]
    assert len(jobs) == 2  # the encoder, and both conditions
