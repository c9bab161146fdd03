"""What `import harness` offers to Python: data sets, methods, runs, evaluation, diagnosis and stored results.

Each function calls what the command line calls, so that numbers are the same. A user's mistake raises a class of
`wstal.errors`. docs/python.md shows them at work.
"""

from harness.api.numbers import Evaluation, diagnose, evaluate, results
from harness.api.runs import Plot, Run, build, load_data, load_run, train

__all__ = ["Evaluation", "Plot", "Run", "build", "diagnose", "evaluate", "load_data", "load_run", "results", "train"]
