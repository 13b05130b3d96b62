"""Models without an architecture here compute inside transformers, behind the same hooks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("transformers", reason="the hf extra is not installed")

import families
import transformers as hf
from safetensors.torch import save_file

from scriven import config, registry
from scriven.data.batch import Batch
from scriven.models import transformers
from scriven.nn.lora import add_lora, merge_lora
from scriven.tasks.base import BaseTask

V, T = 61, 14
TOKENS = torch.randint(4, V, (2, T), generator=torch.Generator().manual_seed(1))
IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
PLAIN = {**families.SIZES, "hidden_size": 36}
SIDES: dict[str, Any] = {
    "vocab_size": V, "d_model": 36, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 6, "decoder_attention_heads": 4, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 44, "max_position_embeddings": 30, "decoder_start_token_id": 1, **IDS,
}  # fmt: skip
T5: dict[str, Any] = {"vocab_size": V, "d_model": 36, "d_kv": 10, "d_ff": 44, "num_layers": 2,
                      "num_heads": 3, "decoder_start_token_id": 2, **IDS}  # fmt: skip
BERT = {**families.BERT, "type_vocab_size": 2}

MODELS: dict[str, dict[str, Any]] = {
    "opt": {"vocab_size": V, "hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6,
            "ffn_dim": 40, "word_embed_proj_dim": 20, "max_position_embeddings": 30, **IDS},
    "bloom": {"vocab_size": V, "hidden_size": 36, "n_layer": 2, "n_head": 6, **IDS},
    "falcon": {"vocab_size": V, "hidden_size": 36, "num_hidden_layers": 2,
               "num_attention_heads": 6, **IDS},
    "stablelm": PLAIN,
    "mixtral": {**PLAIN, "num_local_experts": 3, "num_experts_per_tok": 2},
    "cohere": {**PLAIN, "logit_scale": 0.3},
    "granite": {**PLAIN, "logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "gptj": {"vocab_size": V, "n_embd": 36, "n_layer": 2, "n_head": 3, "rotary_dim": 4,
             "n_positions": 30, **IDS},
    "phi": {**PLAIN, "hidden_size": 48},
    "starcoder2": PLAIN,
    "gpt_bigcode": {"vocab_size": V, "n_embd": 36, "n_layer": 2, "n_head": 6, "n_positions": 30,
                    **IDS},
    "mamba": {"vocab_size": V, "hidden_size": 36, "num_hidden_layers": 2, "state_size": 4, **IDS},
    "t5": T5,
    "mt5": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": SIDES,
    "pegasus": SIDES,
    "albert": {**BERT, "embedding_size": 20},
    "electra": {**BERT, "embedding_size": 20},
    "xlm-roberta": {**BERT, "type_vocab_size": 1},
    "deberta-v2": BERT,
    "mpnet": {**families.BERT, "pad_token_id": 1},
}  # fmt: skip
KINDS = {"t5": "encoder-decoder", "mt5": "encoder-decoder", "bart": "encoder-decoder",
         "pegasus": "encoder-decoder", "albert": "encoder", "electra": "encoder",
         "xlm-roberta": "encoder", "deberta-v2": "encoder", "mpnet": "encoder"}  # fmt: skip
DECODERS = [name for name in MODELS if name not in KINDS]
PAIRED = [name for name, kind in KINDS.items() if kind == "encoder-decoder"]


def theirs(name: str) -> Any:
    """Random weights that hide nothing."""
    classes = {
        "decoder": hf.AutoModelForCausalLM,
        "encoder": hf.AutoModelForMaskedLM,
        "encoder-decoder": hf.AutoModelForSeq2SeqLM,
    }
    torch.manual_seed(0)
    made = hf.AutoConfig.for_model(name, **MODELS[name])
    model = classes[KINDS.get(name, "decoder")].from_config(made).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2)
            elif "A_log" not in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    model.tie_weights()
    return model


def ours(model: Any) -> BaseTask:
    name, module, model_config = families.architecture_of(families.stored_config(model))
    assert name == "transformers"
    backbone = module.Model(model_config)
    kind = registry.module("scriven.tasks", module.Model.task_of(model_config)).Task
    task: BaseTask = kind(backbone, special={"eos": 1, "pad": 2, "mask": 3})
    tied = set(model.all_tied_weights_keys)
    stored = {key: each for key, each in model.state_dict().items() if key not in tied}
    task.load_state_dict(module.Model.from_hf_weights(model_config, stored))
    return task.eval()


def both(model: Any, task: BaseTask, tokens: Tensor = TOKENS) -> tuple[Tensor, Tensor]:
    """Logits of theirs and of ours."""
    if task.backbone.kind != "encoder-decoder":
        return model(tokens).logits, task.logits(task.hidden(Batch(tokens, tokens)))
    source = tokens.flip(1)
    start = model.config.decoder_start_token_id
    target = torch.cat((torch.full((2, 1), start), tokens[:, 1:]), 1)
    found = task.logits(task.hidden(Batch(tokens, tokens, source=source)))
    return model(input_ids=source, decoder_input_ids=target).logits, found


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_logits_are_theirs(name: str) -> None:
    model = theirs(name)
    reference, found = both(model, ours(model))
    assert reference.std() > 0.05
    assert (found - reference).abs().max() < 1e-5 * max(1, float(reference.abs().max()))


@pytest.mark.parametrize("name", ["cohere", "granite", "albert", "t5"])
@torch.no_grad()
def test_a_head_without_their_scales_is_noticed(name: str) -> None:
    """The planted bug: hidden states times the output matrix alone."""
    model = theirs(name)
    task = ours(model)
    task.backbone.logits = (
        lambda hidden, head: model.get_output_embeddings()(  # type: ignore
            hidden if name != "albert" else hidden[..., :20]
        )
    )
    reference, found = both(model, task)
    assert (found - reference).abs().max() > 1e-3


@pytest.mark.parametrize("name", [*DECODERS, *PAIRED])
@torch.no_grad()
def test_decoding_with_a_cache_equals_one_pass(name: str) -> None:
    """Also where shorter rows are padded on the left."""
    model = theirs(name)
    task = ours(model)
    _, whole = both(model, task)
    cache = task.backbone.new_cache(2, T)
    if name in PAIRED:
        task.backbone.encode_source(TOKENS.flip(1), None, cache)  # type: ignore
    parts = [task.backbone(TOKENS[:, :5], cache)]
    parts += [task.backbone(TOKENS[:, t : t + 1], cache) for t in range(5, 8)]
    cache.reorder(torch.tensor([1, 0]))
    parts.append(task.backbone(TOKENS.flip(0)[:, 8:], cache).flip(0))
    assert (task.logits(torch.cat(parts, 1)) - whole).abs().max() < 1e-4
    if name in PAIRED or name == "mamba":
        return  # targets begin together; a state has no positions
    padded, cache = TOKENS.clone(), task.backbone.new_cache(2, T)
    padded[1, 3:], padded[1, :3] = TOKENS[1, : T - 3], 0
    positions = torch.stack((torch.arange(T), torch.arange(-3, T - 3)))
    parts = [task.backbone(padded[:, :9], cache, positions[:, :9])]
    parts += [
        task.backbone(padded[:, t : t + 1], cache, positions[:, t : t + 1]) for t in range(9, T)
    ]
    found = task.logits(torch.cat(parts, 1))
    assert (found[0] - whole[0]).abs().max() < 1e-4
    assert (found[1, 3:] - whole[1, : T - 3]).abs().max() < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_five_steps_lower_the_loss(name: str) -> None:
    model = theirs(name)
    task = ours(model).train()
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    losses = []
    for _ in range(6):
        task.eval()  # their dropout aside
        logits = both(model, task)[1]
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", MODELS)
def test_adapters_train_and_merge(name: str) -> None:
    model = theirs(name)
    task = ours(model)
    add_lora(task, 2, targets=transformers.Model.LORA_TARGETS)
    before = both(model, task)[1]
    before.square().mean().backward()
    adapted = [each for each in task.parameters() if each.requires_grad]
    assert adapted and any(each.grad is not None and each.grad.any() for each in adapted)
    with torch.no_grad():
        for each in adapted:
            each.add_(torch.randn_like(each) * 0.05)
        changed = both(model, task)[1]
        assert (changed - before).abs().max() > 1e-4
        merge_lora(task)
        assert (both(model, task)[1] - changed).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["opt", "mixtral", "t5", "bart", "albert"])
@torch.no_grad()
def test_exported_again_it_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = theirs(name)
    task = ours(model)
    module, made = transformers.Model, task.backbone.config
    (tmp_path / "config.json").write_text(json.dumps(module.to_hf_config(made)))
    weights = module.to_hf_weights(made, task.state_dict())
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    again = type(model).from_pretrained(tmp_path).eval()
    reference = both(model, task)[0]
    assert (both(again, task)[0] - reference).abs().max() < 1e-5


def test_fresh_weights_are_drawn_as_there() -> None:
    task = ours(theirs("bloom"))
    task.init_weights()
    norms = [each for name, each in task.named_parameters() if "layernorm.weight" in name]
    assert norms and all(bool((each == 1).all()) for each in norms)


def test_from_nothing_it_says_what_to_do() -> None:
    with pytest.raises(config.SettingError, match="--from"):
        transformers.Model(transformers.Config(vocab_size=9))


def test_a_config_that_transformers_refuses_is_one_line() -> None:
    broken = {"model_type": "opt", "architectures": ["OPTForCausalLM"], "hidden_size": "wide"}
    with pytest.raises(config.SettingError, match="transformers refuses it") as caught:
        transformers.Model.from_hf_config(broken)
    assert "\n" not in str(caught.value)
