# What runs after what: the table of contents of a study. `make study` starts it (tools/study.py), names the notebooks that
# it wants, and has read the data and written every settings.json. A notebook is made again when its settings are newer than
# it. What it builds on is `ancient`: if that changes, its own settings change too. The seeds' results are no outputs
# here, since Snakemake removes those of a job that failed, and checkpoints with them.
import sys

from helpers.study import LONGER, NONE, Study

study = Study.load(config["study"], config["outputs"])
folder = study.folder.as_posix()
encoder = [f"{folder}/{{size}}/notebook.ipynb"]
if study.sweep:  # it chooses the learning rate of all other trainings
    encoder.append(f"{folder}/{{size}}/sweep/notebook.ipynb")
# `exec`, so that Snakemake is the parent
run = "exec {sys.executable:q} {workflow.basedir:q}/tools/run_notebook.py {workflow.basedir:q}/notebooks/"
into = (
    " {output[0]:q} -p study {config[study]:q} -p outputs {config[outputs]:q}"
    " -p join true -p size {wildcards.size}"
)


def needs(phase):
    """What a job asks of a cluster: so much memory, and minutes for each of its seeds."""
    asked = study.needs(phase)

    def minutes(wildcards, attempt):
        is_trained = "intermediate" in wildcards.keys()
        seeds = len(study.seeds_of(wildcards.intermediate)) if is_trained else 1
        return attempt * asked.minutes * seeds

    memory = lambda wildcards, attempt: round(1000 * attempt * asked.memory_gb)
    return {"gpu": asked.gpus, "mem_mb": memory, "runtime": minutes}


def before(wildcards):
    """The intermediate training that a target's training goes on from."""
    if wildcards.intermediate in (NONE, LONGER):
        return []
    return ancient(f"{folder}/{wildcards.size}/{wildcards.intermediate}/notebook.ipynb")


wildcard_constraints: size="[^/]+", intermediate="[^/]+", target="[^/]+"
ruleorder: sweep > intermediate  # no task has the name sweep
localrules: all


rule all:  # as targets of their own, notebooks that are missing are not all made
    input: config["notebooks"]


rule encoder:
    input: f"{folder}/{{size}}/settings.json"
    output: encoder[0]
    priority: 2  # others wait for it
    resources: **needs("encoder")
    shell: run + "1_encoder.ipynb" + into


rule sweep:
    input: f"{folder}/{{size}}/sweep/settings.json", ancient(encoder[0])
    output: f"{folder}/{{size}}/sweep/notebook.ipynb"
    resources: **needs("target")
    shell: run + "sweep.ipynb" + into


rule intermediate:
    input: f"{folder}/{{size}}/{{intermediate}}/settings.json", ancient(encoder)
    output: f"{folder}/{{size}}/{{intermediate}}/notebook.ipynb"
    priority: 1
    resources: **needs("intermediate")
    shell: run + "2_intermediate.ipynb" + into + " -p task {wildcards.intermediate}"


rule target:
    input: f"{folder}/{{size}}/{{intermediate}}/{{target}}/settings.json", ancient(encoder), before
    output: f"{folder}/{{size}}/{{intermediate}}/{{target}}/notebook.ipynb"
    resources: **needs("target")
    shell: run + "3_target.ipynb" + into + " -p intermediate {wildcards.intermediate} -p target {wildcards.target}"
