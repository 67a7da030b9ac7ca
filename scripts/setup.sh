#!/bin/sh
# Makes .venv from requirements/lock.txt; called by `make setup`. With `--find`
# it only says which Python 3.10 it would use.
#
# A run that is killed leaves .venv/.setup-unfinished behind, and the next one
# starts over: pip cannot tell a half-written package from a whole one.

cd "$(dirname "$0")/.." || exit 1

lock=requirements/lock.txt
venv=.venv
python=$venv/bin/python
unfinished=$venv/.setup-unfinished

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# A user's settings for other projects must not reach this environment.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_TARGET PIP_PREFIX
export PYTHONNOUSERSITE=1 PIP_USER=0 PIP_NO_INPUT=1
export PIP_DISABLE_PIP_VERSION_CHECK=1

found=
lacking=

# Sets `found` if $1 is a Python 3.10 with the library that the wheels need, and
# `lacking` if it is one without.
try() {
  [ -z "$found" ] && [ -n "$1" ] || return 0
  # A version manager's shim is on the PATH even when it leads nowhere.
  "$1" scripts/find_libpython.py >/dev/null 2>&1 </dev/null
  case $? in
    0) found=$1 ;;
    4) lacking=$1 ;;
  esac
}

find_python() {
  try "$PYTHON"
  if [ -n "$PYTHON" ] && [ -z "$found" ]; then
    say "PYTHON=$PYTHON is not a Python 3.10 with libpython; looking for another."
  fi
  for name in python3.10 python3 python; do try "$name"; done

  for root in "$(pyenv root 2>/dev/null)" "$PYENV_ROOT" "$HOME/.pyenv"; do
    [ -n "$root" ] || continue
    for candidate in $(cd "$root/versions" 2>/dev/null && ls -d 3.10.* \
        2>/dev/null | sort -t. -k3,3nr); do
      try "$root/versions/$candidate/bin/python3.10"
    done
  done

  if [ -z "$found" ] && command -v uv >/dev/null 2>&1; then
    try "$(uv python find --system 3.10 2>/dev/null)"
    if [ -z "$found" ]; then
      say 'letting uv install Python 3.10.'
      uv python install 3.10 >&2
      try "$(uv python find --system --python-preference only-managed 3.10)"
    fi
  fi

  [ -z "$found" ] || return 0
  [ -z "$lacking" ] || die "$lacking has no libpython3.10.so.1.0, which" \
    "Launchpad and Reverb need: install uv or your distribution's" \
    "libpython3.10, or rebuild it with PYTHON_CONFIGURE_OPTS=--enable-shared" \
    "pyenv install 3.10."
  die "no Python 3.10 was found: install it (for example with 'uv python" \
    "install 3.10' or 'pyenv install 3.10') or name one with 'make setup" \
    "PYTHON=/path/to/python3.10'."
}

case "$(uname -sm)" in
  'Linux x86_64') ;;
  *) die "Launchpad and Reverb exist for Linux on x86_64 only; this is $(uname -sm)." ;;
esac

if [ "$1" = --find ]; then
  find_python
  echo "$found"
  exit 0
fi

# One at a time in a checkout.
if command -v flock >/dev/null 2>&1; then
  exec 9<"$lock" && flock 9
fi

if [ -e "$unfinished" ]; then
  say 'an earlier setup did not finish; starting over.'
  rm -rf "$venv" || die "$venv could not be removed."
elif [ -e "$venv" ] && ! "$python" -c '' 2>/dev/null; then
  say "the Python of $venv is gone; starting over."
  rm -rf "$venv" || die "$venv could not be removed."
elif [ -e "$venv" ] && ! "$python" scripts/find_libpython.py >/dev/null; then
  die "$venv was not made here and is no Python 3.10 with libpython:" \
    "'make clean' removes it."
fi

if [ ! -e "$venv" ]; then
  find_python
  say "making $venv with $found."
  mkdir "$venv" && : >"$unfinished" || die "$venv cannot be written."
  "$found" -m venv "$venv" ||
    { command -v uv >/dev/null 2>&1 &&
      uv venv --quiet --seed --allow-existing --python "$found" "$venv"; } ||
    die "$found cannot make virtual environments: install its venv module" \
      "(python3.10-venv on Debian and Ubuntu) or uv, then run 'make setup' again."
fi
: >"$unfinished" || die "$venv cannot be written."

install() {
  "$python" -m pip install -qq --no-deps --no-build-isolation "$@" ||
    die "pip failed, see above: check the network and that 3 GB of disk are" \
      "free, then run 'make setup' again."
}

say 'installing about 140 packages (2 GB); this takes a minute or a few.'
# First what installs the rest. pip compares the hashes, which it reads from files
# alone.
awk '/^[a-z]/ { tool = /^(pip|setuptools|wheel)==/ } tool' "$lock" \
  >"$venv/tools.txt" || die "$venv cannot be written."
install -r "$venv/tools.txt"
install -r "$lock"
"$python" scripts/find_libpython.py --link >/dev/null ||
  die "libpython3.10.so.1.0 cannot be linked into $venv."
# A library of an older state must not pass for the new one.
rm -f acme_hieros/replay/_native.*.so
install -e .
"$python" -m pip check ||
  die "the packages in $venv do not fit together, see above: 'make clean' and" \
    "'make setup' start over."
"$python" -c 'import launchpad, reverb' ||
  die "Launchpad or Reverb cannot be imported on this machine, see above."

ls acme_hieros/replay/_native.*.so >/dev/null 2>&1 ||
  say 'the native ETBS sampler could not be built, so its Python stand-in will' \
    'serve (see docs/etbs.md): install g++ and the headers of Python, and run' \
    "'make clean setup' to have it."

rm -f "$unfinished"
: >"$venv/.setup-done"
say 'done.'
