"""What a twin stores and ours leaves out: there and back bit for bit, and read as it is meant."""

from pathlib import Path
from types import ModuleType
from typing import Any

import parity
import pytest
import torch

from scriven.errors import DamagedError
from scriven.models import gpt1, gpt2, gpt3, roberta
from scriven.models.shared import bert_hf
from scriven.nn.embeddings import SinusoidalPositions

CASES = [
    (gpt1, {}),
    (gpt1, {"tie_embeddings": False}),
    (gpt2, {"positions": "sinusoidal"}),
    (gpt2, {"positions": "learned"}),
    (gpt3, {"window": None}),
    (roberta, {}),
    (roberta, {"tie_embeddings": False}),
    (roberta, {"padding": 1}),
]


@pytest.mark.parametrize(("module", "changes"), CASES)
def test_there_and_back_is_bit_equal(module: ModuleType, changes: dict[str, Any]) -> None:
    task = parity.make(module, changes, torch.float32)
    ours = task.state_dict()
    back = module.Model.from_hf_weights(
        task.backbone.config, module.Model.to_hf_weights(task.backbone.config, ours)
    )
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@pytest.mark.parametrize(("module", "changes"), CASES)
def test_every_name_and_shape_is_the_twins(module: ModuleType, changes: dict[str, Any]) -> None:
    task = parity.make(module, changes, torch.float32)
    wanted = parity.twin(module, task.backbone.config, torch.float32).state_dict()
    found = module.Model.to_hf_weights(task.backbone.config, task.state_dict())
    assert {name: wanted[name].shape for name in found} == {n: t.shape for n, t in found.items()}
    tie_embeddings = {"lm_head.weight", "lm_head.decoder.weight", "lm_head.decoder.bias"}
    assert wanted.keys() - found.keys() <= (
        tie_embeddings if task.backbone.config.tie_embeddings else set()
    )


def test_a_sinusoidal_gpt2_stores_its_table() -> None:
    task = parity.make(gpt2, {"positions": "sinusoidal"}, torch.float32)
    assert "backbone.embed.position.weight" not in task.state_dict()
    found = gpt2.Model.to_hf_weights(task.backbone.config, task.state_dict())
    table = SinusoidalPositions(20, 32).table / 32**0.5
    assert (found["transformer.wpe.weight"] - table).abs().max() < 1e-7


@pytest.mark.parametrize("side", ["", "right"])
def test_roberta_with_published_padding_equals_theirs(side: str) -> None:
    """Padding id 1, as in the published models: positions begin in the third row."""
    task, theirs = parity.pair(roberta, {"padding": 1}, torch.float64)
    assert theirs.config.max_position_embeddings == parity.T + 2
    batch = parity.batch_of(side, masked=False)
    there = (
        torch.ones(3, parity.T, dtype=torch.bool)
        if batch.positions is None
        else batch.positions >= 0
    )
    tokens = torch.where(batch.tokens < 2, 2, batch.tokens)  # a text has no padding in it
    tokens = torch.where(there, tokens, 1)
    ours = task.logits(task.backbone(tokens, positions=batch.positions))
    assert (ours - theirs(tokens, attention_mask=there.long()).logits)[there].abs().max() < 1e-10


def test_a_token_type_of_theirs_is_added_to_the_positions() -> None:
    task, theirs = parity.pair(roberta, {}, torch.float64)
    with torch.no_grad():
        theirs.roberta.embeddings.token_type_embeddings.weight.normal_()
    tokens = parity.batch_of("", masked=False).tokens
    assert (task.logits(task.backbone(tokens)) - theirs(tokens).logits).abs().max() > 1e-3
    stored = {
        name: weight
        for name, weight in theirs.state_dict().items()
        if not name.startswith("lm_head.decoder")
    }
    task.load_state_dict(roberta.Model.from_hf_weights(task.backbone.config, stored))
    assert (task.logits(task.backbone(tokens)) - theirs(tokens).logits).abs().max() < 1e-10


def test_weights_without_positions_are_refused() -> None:
    task = parity.make(roberta, {}, torch.float32)
    stored = roberta.Model.to_hf_weights(task.backbone.config, task.state_dict())
    names = bert_hf.NAMES[bert_hf.ROBERTA]
    for name in (names.positions, names.types):
        less = {other: stored[other] for other in stored if other != name}
        with pytest.raises(DamagedError, match=name):
            roberta.Model.from_hf_weights(task.backbone.config, less)


def test_a_gpt1_of_another_feed_forward_size_has_no_twin() -> None:
    assert gpt1.Model.to_hf_config(gpt1.Config(**parity.BASE, d_ff=64)) is None
    assert gpt1.Model.to_hf_config(gpt1.Config(**parity.BASE, d_ff=128)) is not None


def test_a_saved_folder_gives_the_same_logits(tmp_path: Path) -> None:
    """Through files, as from_pretrained reads them."""
    import json

    from safetensors.torch import save_file
    from transformers import AutoModelForMaskedLM

    for tie_embeddings in (True, False):
        task = parity.make(roberta, {"tie_embeddings": tie_embeddings}, torch.float32)
        config = task.backbone.config
        (tmp_path / "config.json").write_text(json.dumps(roberta.Model.to_hf_config(config)))
        found = roberta.Model.to_hf_weights(config, task.state_dict())
        save_file(found, tmp_path / "model.safetensors", {"format": "pt"})
        theirs = AutoModelForMaskedLM.from_pretrained(tmp_path)
        tokens = parity.batch_of("", masked=True).tokens
        with torch.no_grad():
            ours = task.logits(task.backbone(tokens))
            assert (ours - theirs(tokens).logits).abs().max() < 1e-5
