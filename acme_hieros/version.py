"""The version of the package; what it has written says by which it was."""

VERSION = '0.8.0'
