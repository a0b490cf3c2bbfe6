# What runs, and after what. Everything else is in params/ and src/helpers.
import re
from pathlib import Path

from helpers.batch import execute
from helpers.study import NONE, Study, sweeps

study = Study.load(config["study"], config.get("outputs", "outputs"))
folder, intermediate = study.folder.as_posix(), [i for i in study.intermediate if i != NONE]
names = lambda values: "|".join(map(re.escape, values))
memory = lambda phase: lambda wildcards, attempt: round(1000 * attempt * study.needs(phase).memory_gb)
minutes = lambda phase: lambda wildcards, attempt: attempt * study.needs(phase).minutes
choice = lambda size: [sweeps.file(study, size)] if study.sweep else []
execute.serve_snakemake()


wildcard_constraints:
    size=names(study.sizes),
    intermediate=names(study.intermediate),
    target=names(t.task for t in study.targets),
    seed=r"\d+",
    rate=r"[\d.e+-]+",


localrules:
    all,
    data,
    choice,
    sweep,
    compare,


rule all:
    input:
        f"{folder}/report.html",
        study.results(),


rule data:
    output:
        f"{folder}/data/summary.json",
    run:
        from helpers.data import prepare

        prepare(study)


rule encoder:
    input:
        ancient(rules.data.output),
    output:
        f"{folder}/{{size}}/encoder/run.json",
    resources:
        gpu=study.needs("encoder").gpus,
        mem_mb=memory("encoder"),
        runtime=minutes("encoder"),
    run:
        written = study.folder / wildcards.size / "notebook.ipynb"
        execute.notebook("1_encoder", written, study, size=wildcards.size)


rule trial:
    input:
        ancient(rules.encoder.output),
    output:
        f"{folder}/{{size}}/sweep/{{rate}}/{{target}}/seed-{{seed}}/notebook.ipynb",
        f"{folder}/{{size}}/sweep/{{rate}}/{{target}}/seed-{{seed}}/scores.json",
    resources:
        gpu=study.needs("target").gpus,
        mem_mb=memory("target"),
        runtime=minutes("target"),
    run:
        given = {"size": wildcards.size, "target": wildcards.target, "seed": int(wildcards.seed)}
        execute.notebook("sweep", output[0], study, **given, rate=float(wildcards.rate))


rule choice:
    input:
        lambda w: [t.run_folder(run) / "scores.json" for t, run in sweeps.trials(study, w.size)],
    output:
        f"{folder}/{{size}}/sweep.json",
    run:
        sweeps.choose(study, wildcards.size)


rule sweep:
    input:
        [choice(size) for size in study.sizes],


rule intermediate:
    input:
        ancient(rules.encoder.output),
        lambda w: ancient(choice(w.size)),
    output:
        f"{folder}/{{size}}/{{intermediate}}/seed-{{seed}}/scores.json",
    resources:
        gpu=study.needs("intermediate").gpus,
        mem_mb=memory("intermediate"),
        runtime=minutes("intermediate"),
    run:
        given = {"size": wildcards.size, "task": wildcards.intermediate}
        written = Path(output[0]).with_name("notebook.ipynb")
        execute.notebook("2_intermediate", written, study, **given, seed=int(wildcards.seed))


rule target:
    input:
        lambda w: ancient(
            rules.encoder.output if w.intermediate == NONE else rules.intermediate.output
        ),
        lambda w: ancient(choice(w.size)),
    output:
        f"{folder}/{{size}}/{{intermediate}}/{{target}}/seed-{{seed}}/scores.json",
    resources:
        gpu=study.needs("target").gpus,
        mem_mb=memory("target"),
        runtime=minutes("target"),
    run:
        given = {**dict(wildcards.items()), "seed": int(wildcards.seed)}
        written = Path(output[0]).with_name("notebook.ipynb")
        execute.notebook("3_target", written, study, **given)


rule compare:
    input:
        [study.run_folder(run) / "scores.json" for run in study.runs()],
    output:
        f"{folder}/4_compare.ipynb",
        f"{folder}/report.html",
    run:
        execute.notebook("4_compare", output[0], study, report=True)
