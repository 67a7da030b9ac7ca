"""Which environments a user has run himself, and so trusts the code of.

A name is trusted, not what is in a file: a work directory must not choose what
is imported, and where a name leads is up to whoever starts the program, as with
every import. He may edit his environment and go on with his run.
"""

import contextlib
import hashlib
import hmac
import os
import secrets


def sign(environment: str) -> str | None:
  """What shows later that this user has run it; None where no key can be kept.

  The key is his alone, so that nobody else's work directory can say so of
  another environment.
  """
  key = _read_key()
  return key and hmac.new(key, environment.encode(), hashlib.sha256).hexdigest()


def is_own(environment: str, signature: object) -> bool:
  """Whether `sign` gave this signature to this user."""
  own = sign(environment)
  # As bytes: text that is not ASCII is refused by an exception.
  return own is not None and hmac.compare_digest(
    own.encode(), str(signature).encode(errors='replace')
  )


def _read_key() -> bytes | None:
  """The user's key, which is made when there is none."""
  state = os.environ.get('XDG_STATE_HOME') or os.path.expanduser(
    os.path.join('~', '.local', 'state')
  )
  path = os.path.join(state, 'acme_hieros', 'key')
  with contextlib.suppress(OSError):
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    if not os.path.exists(path):
      with contextlib.suppress(FileExistsError):
        _create(path, secrets.token_bytes(32))
    with open(path, 'rb') as file:
      key = file.read()
    return key if len(key) == 32 else None
  return None


def _create(path: str, content: bytes):
  """Makes a file that is whole as soon as it is there, for this user alone.

  Raises:
    FileExistsError: somebody was first.
  """
  partial = f'{path}.{os.getpid()}'
  descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  try:
    with os.fdopen(descriptor, 'wb') as file:
      file.write(content)
    os.link(partial, path)
  finally:
    os.remove(partial)
