"""The training and evaluation core behind the study's notebooks."""
