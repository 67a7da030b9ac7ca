"""Plays an episode by a checkpoint and draws what the agent believed.

python launchers/visualize.py --workdir=runs/krull
"""

from acme_hieros import commands

if __name__ == '__main__':
  commands.run('show', 'visualize')
