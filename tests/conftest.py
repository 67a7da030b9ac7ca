"""The longest files come first: at the end all workers have something to do."""

_LONG = ('launchers', 'experiments', 'examples')


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.parent.name not in _LONG)
