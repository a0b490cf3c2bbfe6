"""In: a params file. Out: all of its notebooks executed, by Snakemake and papermill, here or on a
cluster. Nothing here is needed to run a single notebook.
"""
