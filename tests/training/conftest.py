"""Lets `config.model.backbone = "tiny"` and the dataset of `tiny.frames` be named in configs."""

import pytest

from tests.training import tiny


@pytest.fixture
def tiny_run(monkeypatch) -> None:
    """Within the test, runs can be made of tiny.config()."""
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
