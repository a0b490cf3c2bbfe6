"""A study on a real Slurm of two nodes, both on this machine: both are used, the results are those of a local run."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from conftest import write_study

from helpers import collect, encoders, evaluation, training
from helpers.study import Run, Study

ROOT = Path(__file__).parents[1]
MISSING = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue") if shutil.which(name) is None]
CONF = Path("/etc/slurm/slurm.conf")
"""Where Slurm's programs look: its executor clears SLURM_CONF from the environment of jobs."""
pytestmark = [
    pytest.mark.skipif("TEST_SLURM" not in os.environ, reason="starts a Slurm of its own: set TEST_SLURM=1"),
    pytest.mark.skipif(bool(MISSING), reason=f"no Slurm here ({', '.join(MISSING)} not installed)"),
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="a private Slurm needs root"),
    pytest.mark.skipif(CONF.exists(), reason=f"this machine has a Slurm of its own ({CONF})"),
]

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}
SlurmctldPort={port}
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
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=7200
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
NodeName=n[1-2] NodeAddr=127.0.0.1 NodeHostname={host} Port=[{first}-{second}] CPUs=1 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """munge, a controller and two nodes, in a folder of their own; yields the environment that reaches them."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname()
    ports = dict(zip(("port", "first"), free_ports(2), strict=True))
    ports["second"] = ports["first"] + 1
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host, **ports))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    private = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *private],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    with ExitStack() as stack:
        CONF.parent.mkdir(exist_ok=True)
        CONF.unlink(missing_ok=True)  # a link that a killed test left
        CONF.symlink_to(folder / "slurm.conf")
        stack.callback(CONF.unlink)
        for command in daemons:
            log = stack.enter_context((folder / f"{command[0]}.log").open("a"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            time.sleep(0.5)
        end = time.monotonic() + 60
        while nodes(environment) != ["idle", "idle"]:
            logs = "".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
            assert time.monotonic() < end, f"no two idle nodes: {nodes(environment)}\n{logs}"
            time.sleep(0.5)
        yield environment


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, and neither on the next one."""
    found, port = [], 20000 + os.getpid() % 20000
    while len(found) < count:
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
                found.append(port)
            except OSError:
                pass
        port += 2
    return found


def nodes(environment: dict[str, str]) -> list[str]:
    listed = subprocess.run(["sinfo", "-Nho", "%T"], env=environment, capture_output=True, text=True)
    return listed.stdout.split()


def test_a_study_runs_on_both_nodes_and_gives_what_a_local_run_gives(slurm, tiny_sources, tmp_path):
    needs = {"gpus": 0, "memory_gb": 0.5, "minutes": 10}
    changes = {
        "intermediate": ["none"],
        "seeds": [1, 2],
        "cluster": dict.fromkeys(("encoder", "intermediate", "target"), needs),
    }
    params = write_study(tmp_path / "params", tiny_sources, **changes)
    environment = {**slurm, "HUB_MIRROR": str(tiny_sources / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [
        *(sys.executable, "-m", "helpers.batch", str(params), "--outputs", "outputs"),
        *("--profile", str(ROOT / "profiles/slurm"), "--slurm-no-account", "--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
    ]
    outcome = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    log = tmp_path / "outputs/tiny/snakemake.log"
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr + (log.read_text()[-6000:] if log.exists() else "")
    jobs = subprocess.run(["scontrol", "show", "jobs", "-o"], env=slurm, capture_output=True, text=True).stdout
    assert " NodeList=n1 " in jobs and " NodeList=n2 " in jobs
    assert "ArrayTaskId=" in jobs  # the runs came as one submission

    there, here = Study.load(params, tmp_path / "outputs"), Study.load(params, tmp_path / "local")
    assert len(collect.missing(there)) == 0
    for size in here.sizes:
        encoders.make(here, size)
    for run in (Run("base", "none", "pairs", 1), Run("large", "none", "pairs", 2)):
        predictions = evaluation.zero_shot(here, "pairs", training.target(here, run), 32)
        pd.testing.assert_frame_equal(
            pd.read_parquet(there.run_folder(run) / "predictions.parquet"), predictions, check_exact=True
        )
