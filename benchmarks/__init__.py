"""What README.md and docs/ quote, rerunnable."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The scripts of a run and of its evaluation.
LAUNCHER = os.path.join(ROOT, 'launchers', 'run_hieros.py')
EVALUATOR = os.path.join(ROOT, 'launchers', 'evaluate.py')

# Tables and pictures of what took long; they are committed.
RESULTS = os.path.join(ROOT, 'benchmarks', 'results')
