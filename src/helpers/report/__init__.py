"""In: tables of effects, executed notebooks. Out: charts, and one HTML page that needs no network.
No torch.
"""
