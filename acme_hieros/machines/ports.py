"""Ports of this machine that are kept for a server."""

import socket


def hold() -> socket.socket:
  """Chooses a port that nobody else is given while the socket stays open.

  Nobody listens there. gRPC's servers are let in beside it, for which they have
  to know the port; who has the kernel choose one, as this function does, gets
  another.
  """
  dual = socket.has_dualstack_ipv6()
  held = socket.socket(socket.AF_INET6 if dual else socket.AF_INET)
  if dual:
    held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
  held.bind(('', 0))
  # Only now: with these from the beginning two could hold the same port. Reverb
  # sets the one, Courier the other.
  for option in (socket.SO_REUSEPORT, socket.SO_REUSEADDR):
    held.setsockopt(socket.SOL_SOCKET, option, 1)
  return held
