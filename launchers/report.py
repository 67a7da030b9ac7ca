"""Compares finished runs on one page.

python launchers/report.py runs/*
"""

from acme_hieros import commands

if __name__ == '__main__':
  commands.run('report', 'report')
