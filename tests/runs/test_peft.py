"""Adapter folders: PEFT reads ours, we read PEFT's, and what is damaged is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from scriven import registry
from scriven.data.batch import Batch
from scriven.nn.lora import lora_adapters, merge_lora, merged_state_dict
from scriven.runs.peft import (
    CONFIG,
    TENSORS,
    add_adapters,
    attach_adapter,
    load_merged,
    read_adapter,
    shortest,
    write_adapter,
)
from scriven.runs.weights import save_tensors
from scriven.tasks.base import BaseTask
from scriven.tasks.classify import Classify

from .hf_case import Case, T, V

CASES: list[tuple[str, dict[str, Any]]] = [
    ("gpt1", {}),
    ("gpt2", {}),
    ("gpt3", {"window": None}),
    ("llama", {"kv_heads": 2}),
    ("llama", {"kv_heads": 2, "tie_embeddings": False, "qk_norm": False}),
    ("roberta", {}),
    ("transformer", {}),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_peft_reads_ours(case: Callable[..., Case], name: str, changes: dict[str, Any]) -> None:
    made = case(name, changes)
    task = made.adapted()
    folder = made.write(task)
    plain = made.twin()
    base = made.theirs(plain)
    model = peft.PeftModel.from_pretrained(plain, folder).eval()
    wanted = made.ours(task)
    assert (wanted - base).abs().max() > 0.05
    assert (made.theirs(model) - wanted).abs().max() < 1e-5
    found = peft.get_peft_model_state_dict(model)
    assert found.keys() == load_file(folder / TENSORS).keys()  # PEFT writes the same names
    assert (made.theirs(model.merge_and_unload()) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_ours_there_and_back_is_bit_equal(
    case: Callable[..., Case], name: str, changes: dict[str, Any]
) -> None:
    made = case(name, changes)
    task = made.adapted()
    back = made.attach(made.write(task))
    wanted, found = task.state_dict(), back.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[each], wanted[each]) for each in wanted)
    assert {one.dropout for one in lora_adapters(back).values()} == {0.25}


@pytest.mark.parametrize(("name", "changes"), CASES)
@pytest.mark.parametrize("scaling", [False, True])
def test_ours_reads_pefts(
    case: Callable[..., Case],
    tmp_path: Path,
    name: str,
    changes: dict[str, Any],
    scaling: bool,
) -> None:
    """With PEFT's own choice of layers, which are some parts of a joint matrix where it is cut."""
    made = case(name, changes)
    model = peft.get_peft_model(made.twin(), chosen(name, scaling))
    with torch.no_grad():
        for each, weight in model.named_parameters():
            if "lora_B" in each:
                weight.normal_(0, 0.2)
    model.save_pretrained(tmp_path / "adapter")
    wanted = made.theirs(model.eval())
    task = made.attach(tmp_path / "adapter")
    assert (made.ours(task) - wanted).abs().max() < 1e-5
    assert (made.ours(made.task()) - wanted).abs().max() > 0.05
    merge_lora(task)
    assert (made.ours(task) - wanted).abs().max() < 1e-5


def chosen(name: str, scaling: bool) -> Any:
    known = {"gpt1": ["c_attn", "mlp.c_fc"], "transformer": ["q_proj", "fc2"]}
    return peft.LoraConfig(r=4, lora_alpha=7, target_modules=known.get(name), use_rslora=scaling)


def test_an_alpha_below_one_scales_as_in_peft(case: Callable[..., Case]) -> None:
    made = case("llama")
    folder = made.write(made.adapted())
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**about, "lora_alpha": 0.5}))
    model = peft.PeftModel.from_pretrained(made.twin(), folder).eval()
    wanted = made.theirs(model)
    assert (made.ours(made.attach(folder)) - wanted).abs().max() < 1e-5
    assert (made.ours(made.task()) - wanted).abs().max() > 1e-3


def test_the_list_of_layers_is_as_short_as_pefts(case: Callable[..., Case]) -> None:
    made = case("llama")
    about = json.loads((made.write(made.adapted()) / CONFIG).read_text())
    assert about["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    assert (about["r"], about["lora_alpha"], about["task_type"]) == (3, 6.0, "CAUSAL_LM")
    assert about["base_model_name_or_path"] == str(made.base)
    assert not about["fan_in_fan_out"]


def test_endings_never_mean_a_layer_that_has_no_adapter() -> None:
    layers = ["h.0.attention.output.dense", "h.0.output.dense", "h.1.key"]
    assert shortest(layers, []) == ["dense", "key"]
    assert shortest(layers, ["head.dense"]) == ["key", "output.dense"]
    assert shortest(layers, ["head.dense", "h.0.key"]) == ["1.key", "output.dense"]
    assert shortest(["a.up"], ["b.up", "a.cup"]) == ["a.up"]
    assert shortest(["up"], ["b.up"]) == ["up"]


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_weights_trained_whole_go_along(
    case: Callable[..., Case], tmp_path: Path, tie_embeddings: bool
) -> None:
    """New tokens: rows that the base model lacks."""
    small = case("llama", {"tie_embeddings": tie_embeddings})
    theirs = small.twin()
    theirs.resize_token_embeddings(V + 2, mean_resizing=False)
    made = Case(tmp_path, "llama", {"tie_embeddings": tie_embeddings}, rows=V + 2)
    task = made.adapted()
    tables = ["backbone.embed.token.weight"] + ["head.weight"] * (not tie_embeddings)
    with torch.no_grad():
        for each, weight in small.task().named_parameters():
            task.get_parameter(each)[: len(weight)].copy_(weight)
    for each in tables:
        task.get_parameter(each).requires_grad_(True)
    folder = made.write(task)
    wanted = made.ours(task)
    assert wanted.size(-1) == V + 2
    model = peft.PeftModel.from_pretrained(theirs, folder).eval()
    assert (made.theirs(model) - wanted).abs().max() < 1e-5
    back = made.attach(folder)
    for each in tables:
        assert torch.equal(back.get_parameter(each), task.get_parameter(each))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_classifier_goes_along_with_its_head(
    case: Callable[..., Case], tmp_path: Path, name: str
) -> None:
    """On the base model, which writes, as a model for sequence classification."""
    made = case(name)
    task_config = {"labels": ["a", "b", "c"], "lm_loss_weight": 0.5}

    def make() -> Classify:
        backbone = made.module.Model(made.config)
        return Classify(backbone, special={"eos": 0, "pad": V - 2}, task_config=task_config).eval()

    task = make()
    task.backbone.load_state_dict(made.task().backbone.state_dict())
    add_adapters(task, made.module, made.config, 2, kind="classify")
    with torch.no_grad():
        for one in (*(each.b for each in lora_adapters(task).values()), task.head.weight):
            one.normal_(0, 0.2)
    task.head.requires_grad_(True)
    folder = tmp_path / "adapter"
    write_adapter(folder, task, made.module, made.config, str(made.base), kind="classify")
    about = json.loads((folder / CONFIG).read_text())
    assert about["task_type"] == "SEQ_CLS"
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(
        made.base, num_labels=3, pad_token_id=V - 2
    )
    model = peft.PeftModel.from_pretrained(plain, folder).eval()
    tokens = made.tokens()
    ends = torch.full((3,), T - 1)
    batch = Batch(tokens, tokens, labels=torch.zeros(3, dtype=torch.long), pool_index=ends)
    with torch.no_grad():
        wanted = task.scores(task.hidden(batch), batch)
        assert (model(tokens).logits - wanted).abs().max() < 1e-5
    back = make()
    back.backbone.load_state_dict(made.task().backbone.state_dict())
    attach_adapter(back, read_adapter(folder), made.module, made.config, kind="classify")
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), task.parameters(), strict=True))


@pytest.mark.parametrize("name", ["llama", "rnn", "roberta", "transformer"])
def test_a_checkpoint_of_an_adapted_model_becomes_a_plain_one(name: str) -> None:
    module = registry.module("scriven.models", name)
    config = module.Config(vocab_size=V, context_length=T, layers=1, d_model=16)
    kind = registry.module("scriven.tasks", module.Model.pretraining_task).Task
    special = {"eos": V - 3, "pad": V - 2, "mask": V - 1}
    adapted, plain = (kind(module.Model(config), special=special).eval() for _ in range(2))
    with torch.no_grad():
        for weight in adapted.parameters():
            weight.normal_(0, 0.2)
        load_merged(plain, adapted.state_dict(), module, config)  # without adapters
        add_adapters(adapted, module, config, 3)
        for one in lora_adapters(adapted).values():
            one.b.normal_()
    assert plain.state_dict().keys() == merged_state_dict(adapted).keys()
    assert not equal(plain.state_dict(), merged_state_dict(adapted))
    load_merged(plain, adapted.state_dict(), module, config)
    assert not lora_adapters(plain)
    assert equal(plain.state_dict(), merged_state_dict(adapted))


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


@pytest.mark.parametrize("name", ["rnn", "transformer_xl"])
def test_without_a_twin_names_are_ours(tmp_path: Path, name: str) -> None:
    module = registry.module("scriven.models", name)
    config = module.Config(vocab_size=V, context_length=T, layers=2, d_model=16)
    kind = registry.module("scriven.tasks", module.Model.pretraining_task).Task

    def make() -> BaseTask:
        torch.manual_seed(0)
        task: BaseTask = kind(module.Model(config), special={"eos": 0, "pad": 1})
        task.init_weights()
        return task.eval()

    task = make()
    add_adapters(task, module, config, 2)
    with torch.no_grad():
        for one in lora_adapters(task).values():
            one.b.normal_()
    write_adapter(tmp_path / "adapter", task, module, config, "base")
    names = read_adapter(tmp_path / "adapter").tensors
    first = "cell.weight_ih_l0" if name == "rnn" else "attention.qkv"
    assert f"backbone.blocks.0.{first}.lora_A.weight" in names
    back = make()
    attach_adapter(back, read_adapter(tmp_path / "adapter"), module, config)
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), task.parameters(), strict=True))


def test_a_wrong_half_of_an_adapter_is_noticed(case: Callable[..., Case]) -> None:
    """Planted: queries and keys mixed up in the file."""
    made = case("llama")
    task = made.adapted()
    folder = made.write(task)
    tensors = dict(load_file(folder / TENSORS))
    names = [each for each in tensors if ".0.self_attn.q_proj.lora_A" in each]
    (name,) = names
    other = name.replace("q_proj", "k_proj")
    tensors[name], tensors[other] = tensors[other], tensors[name]
    save_tensors(folder / TENSORS, tensors)
    model = peft.PeftModel.from_pretrained(made.twin(), folder).eval()
    assert (made.theirs(model) - made.ours(task)).abs().max() > 1e-3
    assert (made.ours(made.attach(folder)) - made.ours(task)).abs().max() > 1e-3


def test_a_folder_is_replaced_whole(case: Callable[..., Case]) -> None:
    made = case("gpt2")
    made.write(made.adapted(2))
    folder = made.write(made.adapted(5))
    assert read_adapter(folder).rank == 5
    assert sorted(each.name for each in folder.iterdir()) == [CONFIG, TENSORS]
    assert sorted(each.name for each in folder.parent.iterdir()) == ["adapter", "base"]
