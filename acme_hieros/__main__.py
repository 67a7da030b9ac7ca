"""`python -m acme_hieros` is `hieros`."""

from acme_hieros import commands

if __name__ == '__main__':
  commands.main()
