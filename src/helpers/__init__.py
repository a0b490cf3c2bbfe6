"""The training and evaluation core behind the study's notebooks, in the order in which data flows.

study -> formats -> data -> encoders -> training -> evaluation; a package imports only those before
it.
"""
