"""Plays by what a run has learned, and says how well that goes.

python launchers/evaluate.py --workdir=runs/krull --episodes=100
"""

from acme_hieros import commands

if __name__ == '__main__':
  commands.run('evaluate', 'evaluate')
