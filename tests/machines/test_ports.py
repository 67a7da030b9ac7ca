"""Whose a port is; that servers are let in, see `test_loopback`."""

import contextlib
import socket

import pytest

from acme_hieros.machines import ports


def test_no_port_is_held_twice():
  with contextlib.ExitStack() as stack:
    held = [stack.enter_context(ports.hold()) for _ in range(100)]
    assert len({each.getsockname()[1] for each in held}) == len(held)


def test_a_held_port_is_no_other_programs():
  with ports.hold() as held:
    for family in (socket.AF_INET, socket.AF_INET6):
      with socket.socket(family) as other:
        with pytest.raises(OSError):
          other.bind(('', held.getsockname()[1]))
