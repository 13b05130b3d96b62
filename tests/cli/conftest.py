"""A run that can talk, made once."""

from pathlib import Path

import pytest
from talkers import make_talker


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a chat model."""
    return make_talker(tmp_path_factory.mktemp("talkers") / "fool")
