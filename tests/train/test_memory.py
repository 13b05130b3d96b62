"""Whose memory counts: that of the device that trains."""

import pytest
import torch

from scriven import runtime


def test_a_gpu_is_asked_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 8))
    assert runtime.available_memory(torch.device("cuda")) == 7


def test_a_processor_has_main_memory() -> None:
    found = runtime.available_memory(torch.device("cpu"))
    assert found is not None
    assert found > 10_000_000
