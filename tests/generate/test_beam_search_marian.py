"""Beam search of the encoder-decoder against transformers' with the same weights."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from scriven.generate.beam import BeamSearchParams, beam_search
from scriven.generate.model_runner import ModelRunner
from scriven.models import transformer
from scriven.models.shared.weight_map import rename_to_hf
from scriven.tasks.pairs import Pairs

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

V, EOS, PAD, LIMIT = 23, 0, 22, 12
ENDS = [EOS, 1, 2, 5]
SOURCES = [[3, 4, 5, 6, 7], [9, 8], [1], [2, 2, 14, 20, 11, 10, 6], [15, 16, 17]]


def ours() -> Pairs:
    config = transformer.Config(V, context_length=16, layers=2, heads=2, d_model=32)
    task = Pairs(transformer.Model(config), special={"eos": EOS, "pad": PAD})
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            weight.normal_(0, 0.2) if "norm.weight" not in name else weight.normal_(1, 0.2)
    return task.eval()


def marian(task: Pairs) -> Any:
    model = task.backbone.config
    settings = transformer.Model.to_hf_config(model)
    assert settings is not None
    ids = {"pad_token_id": PAD, "decoder_start_token_id": PAD, "eos_token_id": ENDS}
    config = transformers.MarianConfig(**settings, **ids, attn_implementation="eager")
    theirs = transformers.MarianMTModel(config).eval()
    sizes = transformer.Model.fused_sizes(model)
    names = rename_to_hf(
        dict(task.state_dict()), transformer.Model.HF_WEIGHT_MAP, model.layers, sizes
    )
    assert not theirs.load_state_dict(names, strict=False).unexpected_keys
    theirs.tie_weights()
    return theirs


def theirs_say(theirs: Any, source: list[int], penalty: float) -> tuple[list[list[int]], Any]:
    """Their four best, without start and padding, and their scores."""
    found = theirs.generate(
        torch.tensor([source]),
        attention_mask=torch.ones(1, len(source), dtype=torch.int64),
        num_beams=4,
        num_return_sequences=4,
        do_sample=False,
        max_new_tokens=LIMIT,
        length_penalty=penalty,
        early_stopping="never",
        bad_words_ids=[[PAD]],
        renormalize_logits=True,
        output_scores=True,
        return_dict_in_generate=True,
    )
    rows = [[token for token in row[1:] if token != PAD] for row in found.sequences.tolist()]
    return rows, found.sequences_scores.tolist()


@pytest.mark.parametrize("penalty", [-0.5, 0.0, 0.6, 1.0, 2.0])
def test_four_beams_equal_transformers(penalty: float) -> None:
    task = ours()
    theirs = marian(task)
    plan = BeamSearchParams(4, LIMIT, penalty, frozenset(ENDS), num_return=4)
    together = beam_search(ModelRunner(task, V, [PAD], nullcontext), SOURCES, plan)
    for source, found in zip(SOURCES, together, strict=True):
        rows, scores = theirs_say(theirs, source, penalty)
        assert [each.ids for each in found] == rows
        assert [each.score for each in found] == pytest.approx(scores, abs=1e-4)
    lengths = {len(each.ids) for found in together for each in found}
    assert len(lengths) > 1 or penalty > 1


def test_the_comparison_notices_another_length() -> None:
    """Planted: the end does not count as a token."""
    task = ours()
    theirs = marian(task)
    plan = BeamSearchParams(4, LIMIT, 1.0, frozenset(ENDS), num_return=4)
    score = plan.score
    object.__setattr__(plan, "score", lambda total, length: score(total, length - 1))
    together = beam_search(ModelRunner(task, V, [PAD], nullcontext), SOURCES, plan)
    assert any(
        [each.score for each in found] != pytest.approx(theirs_say(theirs, source, 1.0)[1])
        for source, found in zip(SOURCES, together, strict=True)
    )
