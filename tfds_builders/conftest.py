"""Set-up of the builders' own tests."""


def pytest_collection_modifyitems(items):
    """Leaves out `test_session`, a helper that TFDS's test case inherits and that is no test."""
    items[:] = [item for item in items if item.name != "test_session"]
