"""Which sources a result is of."""

import subprocess

import benchmarks


def find_commit() -> str:
  """Of the sources, with a '+' where they are not as committed."""

  def git(*arguments: str) -> str:
    return subprocess.run(
      ['git', *arguments],
      cwd=benchmarks.ROOT,
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  try:
    commit = git('rev-parse', '--short', 'HEAD')
    changes = git('status', '--porcelain', '--', '.', ':!benchmarks/results')
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'
  return commit + '+' * bool(changes)
