"""Servers of Reverb and Courier that only this machine can reach.

Or, where a program has several machines, whoever reaches one address of it.
gRPC has them listen on all interfaces, where they take anybody's calls, and
Courier's rebuild any pickled object before they look at it: whoever reaches the
port runs code as the user. Neither has an argument for an address. So `bind`,
which their libraries have from libc, is replaced in the tables by which these
libraries find it (the global offset tables of the ELF format).
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import ctypes
import ipaddress
import mmap
import os
import socket
import threading

import courier
import numpy as np
import reverb

# The environment variable that names hosts which gRPC needs no proxy for; and
# those that are this machine.
NO_PROXY = 'no_grpc_proxy'
_HOSTS = ('localhost', '127.0.0.1', '::1')
_LOOPBACK = {4: '127.0.0.1', 6: '::1'}

# Of elf.h, for 64 bits.
_PT_DYNAMIC = 2
_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB = 2, 5, 6
_DT_RELA, _DT_RELASZ, _DT_JMPREL = 7, 8, 23
_PROGRAM_HEADER = np.dtype(
  [('type', 'u4'), ('flags', 'u4')]
  + [(name, 'u8') for name in ('offset', 'address', 'physical', 'file_size')]
  + [('size', 'u8'), ('alignment', 'u8')]
)
_DYNAMIC = np.dtype([('tag', 'i8'), ('value', 'u8')])
_SYMBOL = np.dtype([('name', 'u4'), ('rest', 'V20')])
_RELOCATION = np.dtype(
  [('offset', 'u8'), ('type', 'u4'), ('symbol', 'u4'), ('addend', 'i8')]
)


class _Object(ctypes.Structure):
  """The beginning of `struct dl_phdr_info`: a library that is loaded."""

  _fields_ = (
    ('base', ctypes.c_uint64),
    ('path', ctypes.c_char_p),
    ('headers', ctypes.c_uint64),
    ('num_headers', ctypes.c_uint16),
  )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.bind.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_lock = threading.Lock()
_hosts: list[str] = []  # Of each `only` that is open at this moment.
_replaced = False


@contextlib.contextmanager
def only(host: str = 'localhost') -> Iterator[None]:
  """While it is open, servers that this process starts are for loopback alone.

  Those of Reverb and Courier, from all threads; whoever uses them on several
  machines names the address of this one. Clients reach loopback, and this
  address, also where the environment names a proxy for the rest of the world.

  Args:
    host: the address at which they listen, by its numbers; those that are not
      of its kind are for loopback alone.

  Raises:
    OSError: the libraries are not as they are expected to be.
  """
  with _lock:
    # It is read with each new client.
    os.environ[NO_PROXY] = without_proxy(os.environ, [host])
    _replace_bind()
    _hosts.append(host)
  try:
    yield
  finally:
    with _lock:
      _hosts.remove(host)


def without_proxy(
  environment: Mapping[str, str], hosts: Sequence[str] = ()
) -> str:
  """What NO_PROXY has to be for gRPC to go to hosts itself.

  Args:
    environment: variables that there are.
    hosts: beside this machine.
  """
  before = environment.get(NO_PROXY, environment.get('no_proxy', ''))
  return ','.join(
    dict.fromkeys([*filter(None, before.split(',')), *_HOSTS, *hosts])
  )


@ctypes.CFUNCTYPE(
  ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, use_errno=True
)
def _bind(descriptor: int, address: int, length: int) -> int:
  """As bind(2), but for the interfaces."""
  wanted = ctypes.create_string_buffer(
    ctypes.string_at(address, length), length
  )
  hosts = _hosts[-1:]  # At once: other threads change it.
  if hosts:
    _keep_to(hosts[0], descriptor, wanted)
  return _libc.bind(descriptor, wanted, length)


def _keep_to(host: str, descriptor: int, address: ctypes.Array):
  """Writes a host into a `struct sockaddr` that says all interfaces."""
  family = int.from_bytes(address.raw[:2], 'little')
  if family == socket.AF_INET:
    at, wanted = 4, _of_kind(4, host)
  elif family == socket.AF_INET6:
    # One socket for both kinds of address has to take one of them; and the
    # older is on every machine.
    with socket.socket(fileno=os.dup(descriptor)) as own:
      single = own.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    at = 8
    if single or ':' in host:
      wanted = _of_kind(6, host)
    else:
      wanted = ipaddress.ip_address(f'::ffff:{_of_kind(4, host)}')
  else:
    return
  end = at + len(wanted.packed)
  if not any(address.raw[at:end]):
    address[at:end] = wanted.packed


def _of_kind(
  kind: int, host: str
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
  """A host, or loopback where it is 'localhost' or no address of this kind."""
  if host != 'localhost':
    found = ipaddress.ip_address(host)
    if found.version == kind:
      return found
  return ipaddress.ip_address(_LOOPBACK[kind])


def _replace_bind():
  """Replaces it in all libraries of Reverb and Courier, once."""
  global _replaced
  if _replaced:
    return
  packages = [
    os.path.realpath(os.path.dirname(package.__file__)) + os.sep
    for package in (courier, reverb)
  ]
  missing = set(packages)
  for library in _libraries():
    path = os.fsdecode(library.path or b'')
    if not os.path.dirname(path):
      continue  # This program, or the kernel's part of it: no file.
    path = os.path.realpath(path)
    for package in filter(path.startswith, packages):
      for slot in _slots(library, b'bind'):
        _write(slot, ctypes.cast(_bind, ctypes.c_void_p).value)
        missing.discard(package)
  if missing:
    raise OSError(
      f'The servers of {", ".join(sorted(missing))} cannot be kept from '
      'listening on all interfaces: their libraries do not have `bind` from '
      'libc. Install the versions that setup.py names.'
    )
  _replaced = True


def _libraries() -> list[_Object]:
  """All that this process has loaded."""
  found = []

  @ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p
  )
  def add(library, *unused_arguments) -> int:
    found.append(_Object.from_buffer_copy(library.contents))
    return 0

  _libc.dl_iterate_phdr(add, None)
  return found


def _slots(library: _Object, name: bytes) -> list[int]:
  """Addresses of the pointers by which a library calls a function."""
  headers = _array(library.headers, library.num_headers, _PROGRAM_HEADER)
  dynamic = headers[headers['type'] == _PT_DYNAMIC][0]
  entries = _array(
    library.base + int(dynamic['address']),
    int(dynamic['size']) // _DYNAMIC.itemsize,
    _DYNAMIC,
  )
  tags = {int(tag): int(value) for tag, value in entries}
  slots = []
  for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
    if table not in tags:
      continue
    relocations = _array(
      tags[table], tags[size] // _RELOCATION.itemsize, _RELOCATION
    )
    for relocation in relocations[relocations['symbol'] > 0]:
      symbol = _array(
        tags[_DT_SYMTAB] + int(relocation['symbol']) * _SYMBOL.itemsize,
        1,
        _SYMBOL,
      )[0]
      if ctypes.string_at(tags[_DT_STRTAB] + int(symbol['name'])) == name:
        slots.append(library.base + int(relocation['offset']))
  return slots


def _array(address: int, length: int, dtype: np.dtype) -> np.ndarray:
  """What lies in memory; copied."""
  return np.frombuffer(
    ctypes.string_at(address, length * dtype.itemsize), dtype
  )


def _write(slot: int, value: int):
  """Changes a pointer in a page that is read-only since the library's start."""
  page = slot - slot % mmap.PAGESIZE
  if _libc.mprotect(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE):
    raise OSError(ctypes.get_errno(), 'mprotect')
  ctypes.c_uint64.from_address(slot).value = value
  _libc.mprotect(page, mmap.PAGESIZE, mmap.PROT_READ)
