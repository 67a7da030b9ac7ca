"""Trains Hieros on one environment, in one process or in many.

python launchers/run_hieros.py --env=atari/Krull
"""

from acme_hieros import commands

if __name__ == '__main__':
  commands.run('train', 'run_hieros')
