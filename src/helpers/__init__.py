"""The training and evaluation core behind the study's notebooks, in the order in which data flows.

study -> tasks -> data -> encoders -> training -> evaluation -> comparison -> report -> batch;
imports go that way only.
"""
