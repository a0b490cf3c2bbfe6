"""The training and evaluation core behind the notebooks. A package imports only those before it:
study -> formats -> data -> encoders -> training -> evaluation.
"""
