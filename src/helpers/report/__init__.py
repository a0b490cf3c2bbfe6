"""In: tables of effects, executed notebooks. Out: charts, and one HTML page that needs no network.
No torch.
"""

from helpers.report import charts, grid, page, run_charts, scaling

__all__ = ["charts", "grid", "page", "run_charts", "scaling"]
