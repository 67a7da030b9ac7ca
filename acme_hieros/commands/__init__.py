"""The programs of the package: `hieros <command>`, and the launchers.

Each command is a module with FLAGS and `main(argv)`, whose first line says what
it does; with ARGUMENTS, where it takes more than flags. Only `main` imports
what takes seconds, so that `--help` and wrong flags are answered at once.
"""

from collections.abc import Sequence
import importlib
import sys
from typing import NoReturn

from acme_hieros import version

# What each command does; `<command> --help` says more.
COMMANDS = {
  'train': 'trains on an environment, or goes on with a run',
  'sweep': 'has all runs of a study run, and reports what they answer',
  'evaluate': 'plays by what a run has learned, and says how well that goes',
  'show': 'plays an episode and draws what the agent believed',
  'report': 'compares finished runs on one page',
  'configs': 'lists all fields of the configuration, presets side by side',
  'demo': 'learns a small game in minutes, and shows it',
}

_HELP = ('-h', '-help', '--help', '--helpshort', '--helpfull')


def main(argv: Sequence[str] | None = None) -> NoReturn:
  """The program `hieros`; argv is what stands behind its name."""
  command, *rest = (sys.argv[1:] if argv is None else argv) or ['--help']
  if command in COMMANDS:
    run(command, f'hieros {command}', rest)
  if command in _HELP:
    print(_overview())
    sys.exit(0)
  if command == '--version':
    print(version.VERSION)
    sys.exit(0)
  sys.exit(
    f'hieros: {command!r} is no command; there are {", ".join(COMMANDS)}.'
  )


def run(
  command: str, program: str, argv: Sequence[str] | None = None
) -> NoReturn:
  """Runs a command as a program, and ends it.

  Args:
    command: of COMMANDS.
    program: what it is called in all that it says.
    argv: its flags; by default what the process was started with.
  """
  argv = sys.argv[1:] if argv is None else argv
  try:
    module = importlib.import_module(f'{__name__}.{command}')
    # Not before: without absl there is another sentence to say.
    from acme_hieros import command_line
  except ImportError:
    require_acme(program)
    raise
  command_line.outlive_readers()
  if any(word in _HELP for word in argv):
    arguments = getattr(module, 'ARGUMENTS', '')
    print(
      command_line.help_page(module.__doc__, program, module.FLAGS, arguments)
    )
    sys.exit(0)
  arguments = command_line.read_flags(module.FLAGS, program, argv)
  command_line.start(module.main, arguments)


def require_acme(program: str):
  """Ends the program where Acme cannot run, and says why."""
  try:
    from acme_hieros import compat  # noqa: F401
  except ImportError as error:
    sys.exit(f'{program}: {error}')


def prepare_to_look(program: str):
  """For commands that look at a run, which may be using the accelerator."""
  require_acme(program)
  keep_compiled(program)
  import jax

  # Acting and drawing need none.
  jax.config.update('jax_platforms', 'cpu')


def keep_compiled(program: str, directory: str | None = None):
  """Has what is compiled kept for the next start, where it can be.

  Args:
    program: its name.
    directory: where; None for the user's own, empty for nowhere.
  """
  from acme_hieros import compilation

  if directory is None:
    directory = compilation.default_directory()
  sentence = compilation.keep_compiled(directory)
  if sentence:
    print(f'{program}: {sentence}', file=sys.stderr)


def _overview() -> str:
  from acme_hieros import config, environments

  width = max(map(len, COMMANDS))
  families = ', '.join(f'{name}/...' for name in environments.families())
  return '\n'.join(
    [
      f'Hieros {version.VERSION}: hierarchical imagination on S5 world models.',
      '',
      'hieros <command> [--name=value ...]',
      '',
      *(f'  {name:{width}}  {what}' for name, what in COMMANDS.items()),
      '',
      f'environments: {families}',
      f'presets: {", ".join(config.PRESETS)}',
      f'systems: {", ".join(config.SYSTEMS)}',
      '',
      'hieros <command> --help lists its flags; hieros demo is a beginning.',
    ]
  )
