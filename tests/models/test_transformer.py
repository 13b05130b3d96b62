"""The encoder-decoder against MarianMTModel, against PyTorch's own layers, and against itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.errors import SettingError
from scriven.models import transformer
from scriven.models.shared.weight_map import rename_from_hf, rename_to_hf
from scriven.runs.huggingface import hf_files
from scriven.runs.weights import from_hf_weights, to_hf_weights
from scriven.settings import TokenizerSettings
from scriven.tasks.base import BaseTask
from scriven.tasks.seq2seq import Seq2Seq
from scriven.tokenizers import byte

V, PAD = 37, 5
BASE: dict[str, Any] = {
    "vocab_size": V,
    "context_length": 12,
    "layers": 2,
    "heads": 4,
    "d_model": 32,
}
CASES: list[dict[str, Any]] = [
    {},
    {"encoder_layers": 3, "d_ff": 40},
    {"encoder_layers": 1, "activation": "gelu"},
    {"heads": 1, "d_model": 9, "d_ff": 10},  # an odd width cuts the positions unevenly
]
PADDING = {
    "none": (torch.arange(9).expand(3, 9), torch.full((3, 7), True)),
    "source": (torch.arange(9) - 10 * (torch.arange(9) >= torch.tensor([[9], [5], [1]])), None),
    "target": (None, torch.arange(7) < torch.tensor([[7], [4], [1]])),
}


def make(dtype: torch.dtype, **changes: Any) -> BaseTask:
    torch.manual_seed(0)
    task = BaseTask(transformer.Model(transformer.Config(**{**BASE, **changes})))
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.2)
    return task.to(dtype).eval()


def example(padding: str) -> Batch:
    """Rows whose padding is one of PADDING."""
    generator = torch.Generator().manual_seed(3)
    source = torch.randint(V, (3, 9), generator=generator)
    target = torch.randint(V, (3, 7), generator=generator)
    source_positions, counted = (
        mine if mine is not None else usual
        for mine, usual in zip(PADDING[padding], PADDING["none"], strict=True)
    )
    tokens = torch.cat((torch.full((3, 1), PAD), target[:, :-1]), 1)
    targets = target.masked_fill(~counted, IGNORE_INDEX)
    tokens = tokens.masked_fill(~counted, PAD)
    return Batch(tokens, targets, source=source, source_positions=source_positions.clamp(min=-1))


def marian(task: BaseTask) -> Any:
    """Theirs with our weights."""
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    model = task.backbone.config
    settings = transformer.Model.to_hf_config(model)
    assert settings is not None
    ids = {"pad_token_id": PAD, "decoder_start_token_id": PAD, "eos_token_id": 0}
    config = transformers.MarianConfig(**settings, **ids, attn_implementation="eager")
    theirs = transformers.MarianMTModel(config).to(next(task.parameters()).dtype).eval()
    layers = max(model.layers, model.depth_of_encoder)
    names = rename_to_hf(
        dict(task.state_dict()),
        transformer.Model.HF_WEIGHT_MAP,
        layers,
        transformer.Model.fused_sizes(model),
    )
    missing, extra = theirs.load_state_dict(names, strict=False)
    assert not extra
    made = {"final_logits_bias", "lm_head.weight"}
    assert all(name in made or ".embed_" in name for name in missing), missing
    theirs.tie_weights()
    table = theirs.model.encoder.embed_positions.weight
    ours = task.backbone.embed.position.table
    assert (table - ours).abs().max() < 2e-7
    ours.copy_(table)  # both are rounded to float32, by different roads
    for part in theirs.modules():
        if isinstance(part, nn.Embedding):
            part.padding_idx = None  # it withholds the gradient of the decoder's start
    return theirs


def differences(task: BaseTask, theirs: Any, batch: Batch) -> dict[str, float]:
    """Largest difference of logits, loss and each gradient, by name."""
    counted = batch.targets != IGNORE_INDEX
    logits = task.logits(task.hidden(batch))
    output = task(batch)
    loss = output.loss / output.tokens
    reference = theirs(
        input_ids=batch.source,
        attention_mask=(batch.source_positions >= 0).long(),
        decoder_input_ids=batch.tokens,
        decoder_attention_mask=counted.long(),
    ).logits
    wanted = F.cross_entropy(reference.flatten(0, 1), batch.targets.flatten())
    found = {
        "logits": float((logits - reference)[counted].detach().abs().max()),
        "loss": float((loss - wanted).detach().abs()),
    }
    loss.backward()
    wanted.backward()
    model = task.backbone.config
    gradients = {name: weight.grad for name, weight in task.named_parameters()}
    layers = max(model.layers, model.depth_of_encoder)
    named = rename_to_hf(
        gradients, transformer.Model.HF_WEIGHT_MAP, layers, transformer.Model.fused_sizes(model)
    )
    for name, weight in theirs.named_parameters():
        if weight.requires_grad:
            found[name] = float((named[name] - weight.grad).abs().max())
    assert len(found) == len(named) + 2
    return found


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("changes", CASES)
def test_logits_loss_and_gradients_equal_marians(
    changes: dict[str, Any], dtype: torch.dtype, limit: float, padding: str
) -> None:
    task = make(dtype, **changes)
    found = differences(task, marian(task), example(padding))
    assert max(found.values()) < limit, found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model.blocks[1].cross_norm.weight.add_(1e-6),
        lambda model: model.encoder.blocks[0].mlp.up.bias.add_(1e-6),
        lambda model: model.embed.position.table[2].mul_(1 + 1e-6),
        lambda model: setattr(model.embed, "scale", model.embed.scale * (1 + 1e-6)),
    ],
)
def test_a_planted_error_is_noticed(spoil: Callable[[Any], Any]) -> None:
    task = make(torch.float64)
    theirs = marian(task)
    with torch.no_grad():
        spoil(task.backbone)
    assert max(differences(task, theirs, example("none")).values()) > 1e-9


def test_padding_that_is_seen_is_noticed() -> None:
    task = make(torch.float64)
    theirs, batch = marian(task), example("source")
    seen = Batch(batch.tokens, batch.targets, source=batch.source, source_positions=torch.arange(9))
    wrong = task.logits(task.hidden(seen))
    right = theirs(
        input_ids=batch.source,
        attention_mask=(batch.source_positions >= 0).long(),
        decoder_input_ids=batch.tokens,
    ).logits
    assert (wrong - right).abs().max() > 1e-6


def copy(ours: Any, theirs: Any) -> None:
    """A layer's weights from PyTorch's names to ours."""
    pairs = [(ours.attention, theirs.self_attn)]
    pairs += [(ours.cross, theirs.multihead_attn)] if ours.cross is not None else []
    with torch.no_grad():
        for mine, other in pairs:
            mine.qkv.weight.copy_(other.in_proj_weight)
            mine.qkv.bias.copy_(other.in_proj_bias)
            mine.out.load_state_dict(other.out_proj.state_dict())
    norms = [ours.attention_norm, ours.cross_norm, ours.mlp_norm]
    for number, norm in enumerate(filter(None, norms), 1):
        norm.load_state_dict(getattr(theirs, f"norm{number}").state_dict())
    ours.mlp.up.load_state_dict(theirs.linear1.state_dict())
    ours.mlp.down.load_state_dict(theirs.linear2.state_dict())


def torchs(task: BaseTask) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    """PyTorch's stacks with random weights, which ours then get too."""
    model = task.backbone.config
    first = model.norm == "pre"
    shape = (model.d_model, model.heads, model.ff_size, 0.0, model.activation)
    more: dict[str, Any] = {"batch_first": True, "norm_first": first}
    torch.manual_seed(4)
    ends = [nn.LayerNorm(model.d_model) if first else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(*shape, **more), 2, ends[0], enable_nested_tensor=False
    ).double()
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*shape, **more), 2, ends[1]).double()
    with torch.no_grad():
        for weight in [*encoder.parameters(), *decoder.parameters()]:
            weight.normal_(0, 0.3)
    for mine, other in ((task.backbone.encoder, encoder), (task.backbone, decoder)):
        for block, layer in zip(mine.blocks, other.layers, strict=True):
            copy(block, layer)
        if first:
            mine.norm.load_state_dict(other.norm.state_dict())
    return encoder, decoder


def torch_says(task: BaseTask, stacks: tuple[nn.Module, nn.Module], batch: Batch) -> Tensor:
    encoder, decoder = stacks
    embed = task.backbone.embed
    hidden = batch.source_positions < 0
    memory = encoder(embed(batch.source, batch.source_positions), src_key_padding_mask=hidden)
    length = batch.tokens.size(1)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    x = embed(batch.tokens, torch.arange(length))
    found: Tensor = decoder(x, memory, tgt_mask=later, memory_key_padding_mask=hidden)
    return found


@pytest.mark.parametrize("padding", ["none", "source"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_hidden_states_and_gradients_equal_torchs_own_layers(norm: str, padding: str) -> None:
    task = make(torch.float64, norm=norm)
    stacks, batch = torchs(task), example(padding)
    table = task.backbone.embed.token.weight
    ours, theirs = task.hidden(batch), torch_says(task, stacks, batch)
    assert (ours - theirs).abs().max() < 1e-10
    one = torch.autograd.grad(ours.square().sum(), table)[0]
    other = torch.autograd.grad(theirs.square().sum(), table)[0]
    assert (one - other).abs().max() < 1e-10 * other.abs().max()


def test_a_norm_in_the_wrong_place_is_noticed() -> None:
    task = make(torch.float64, norm="pre")
    stacks, batch = torchs(task), example("none")
    with torch.no_grad():
        task.backbone.encoder.norm.bias.add_(1e-6)
    assert (task.hidden(batch) - torch_says(task, stacks, batch)).abs().max() > 1e-9


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_writing_with_caches_equals_reading_everything(norm: str) -> None:
    task, batch = make(torch.float64, norm=norm), example("source")
    with torch.no_grad():
        whole = task.hidden(batch)
        state = task.backbone.new_cache(3, 7)
        task.backbone.encode_source(batch.source, batch.source_positions, state)
        steps = [task.backbone(batch.tokens[:, :2], state)]
        steps += [task.backbone(batch.tokens[:, t : t + 1], state) for t in range(2, 7)]
        assert (torch.cat(steps, 1) - whole).abs().max() < 1e-12
        for layer in state.layers:  # planted: the source of another row
            layer.cross.projected = tuple(part.roll(1, 0) for part in layer.cross.projected)
        state.length = 6
        for layer in state.layers:
            layer.self_attn.length = 6
        assert (task.backbone(batch.tokens[:, 6:], state) - whole[:, 6:]).abs().max() > 1e-6


def test_left_padding_of_source_and_target_changes_nothing() -> None:
    task, batch = make(torch.float64), example("none")
    alone = task.backbone(batch.tokens[:1, :4], source=batch.source[:1, :6])
    source = torch.cat((torch.zeros(1, 3, dtype=torch.int64), batch.source[:1, :6]), 1)
    tokens = torch.cat((torch.zeros(1, 2, dtype=torch.int64), batch.tokens[:1, :4]), 1)
    positions = torch.arange(6)[None] - 2
    both = task.backbone(
        tokens, positions=positions, source=source, source_positions=torch.arange(9)[None] - 3
    )
    assert (both[:, 2:] - alone).abs().max() < 1e-12


def test_the_decoder_looks_at_all_of_the_source_and_never_ahead() -> None:
    task, batch = make(torch.float64), example("none")
    before = task.hidden(batch)
    for place in range(9):
        source = batch.source.clone()
        source[:, place] = (source[:, place] + 1) % V
        after = task.backbone(batch.tokens, source=source)
        assert ((after - before).abs().amax(-1) > 0).all()
    for place in range(7):
        tokens = batch.tokens.clone()
        tokens[:, place] = (tokens[:, place] + 1) % V
        after = task.backbone(tokens, source=batch.source)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.equal(after[:, place], before[:, place])


@pytest.mark.parametrize("changes", CASES)
def test_foreign_names_there_and_back_are_bit_equal(changes: dict[str, Any]) -> None:
    task = make(torch.float32, **changes)
    model = task.backbone.config
    layers = max(model.layers, model.depth_of_encoder)
    ours = dict(task.state_dict())
    theirs = rename_to_hf(
        ours, transformer.Model.HF_WEIGHT_MAP, layers, transformer.Model.fused_sizes(model)
    )
    back = rename_from_hf(
        theirs, transformer.Model.HF_WEIGHT_MAP, layers, transformer.Model.fused_sizes(model)
    )
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_marian_has_no_form_of_pre_norm_or_of_an_untied_head() -> None:
    assert transformer.Model.to_hf_config(transformer.Config(**BASE, norm="pre")) is None
    assert transformer.Model.to_hf_config(transformer.Config(**BASE, tie_embeddings=False)) is None


def test_the_base_and_the_big_model_have_the_papers_size() -> None:
    """Table 3 of the paper: 65 and 213 million."""
    for layers, heads, width, millions in ((6, 8, 512, 65), (6, 16, 1024, 213)):
        config = transformer.Config(37_000, 512, layers, width, heads=heads)
        with torch.device("meta"):
            model = transformer.Model(config)
        count = sum(weight.numel() for weight in model.parameters())
        assert abs(count / 1e6 / millions - 1) < 0.04


@pytest.mark.parametrize(
    "change", [{"encoder_layers": 0}, {"context_length": 3}, {"encoder_layers": 1e5}]
)
def test_impossible_shapes_are_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(change))):
        transformer.Config(**{**BASE, **change})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseTask, Path]:
    """A model, and the folder a run would publish it in."""
    tokenizer = byte.train([], TokenizerSettings(kind="byte")).with_special_tokens("mask")
    config = transformer.Config(
        tokenizer.vocab_size, 24, layers=1, encoder_layers=3, heads=2, d_model=16
    )
    torch.manual_seed(0)
    task = Seq2Seq(transformer.Model(config), special=tokenizer.special_token_ids).eval()
    with torch.no_grad():
        for name, weight in task.named_parameters():
            weight.normal_(0, 0.3) if "norm" not in name else weight.normal_(1, 0.3)
    place = tmp_path_factory.mktemp("run")
    for name, content in hf_files(transformer, config, "run", tokenizer).items():
        (place / name).write_bytes(content)
    weights = to_hf_weights(transformer, config, task.state_dict())
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    back = from_hf_weights(transformer, config, weights)
    assert all(torch.equal(back[name], weight) for name, weight in task.state_dict().items())
    return task, place


def test_a_run_folder_is_a_marian_model_as_it_stands(folder: tuple[BaseTask, Path]) -> None:
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    task, place = folder
    theirs, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        place, output_loading_info=True
    )
    assert type(theirs).__name__ == "MarianMTModel"
    assert not report["unexpected_keys"]
    source = torch.randint(256, (2, 20), generator=torch.Generator().manual_seed(1))
    read = torch.full((2, 1), task.special["pad"])
    with torch.no_grad():
        wanted = theirs(input_ids=source, decoder_input_ids=read).logits
        assert (task.logits(task.backbone(read, source=source)) - wanted).abs().max() < 1e-5
        for _ in range(16):
            scores = task.logits(task.backbone(read, source=source))[:, -1]
            scores[:, task.special["eos"]] = -torch.inf
            read = torch.cat((read, scores.argmax(-1, keepdim=True)), 1)
        written = theirs.generate(
            source, do_sample=False, max_new_tokens=16, min_new_tokens=16, num_beams=1
        )
    assert torch.equal(written, read)


def test_what_marian_cannot_hold_is_published_under_our_names() -> None:
    config = transformer.Config(**BASE, norm="pre")
    task = BaseTask(transformer.Model(config))
    weights = to_hf_weights(transformer, config, task.state_dict())
    assert weights.keys() == task.state_dict().keys()


def test_a_foreign_config_comes_back_as_ours() -> None:
    for changes in CASES:
        config = transformer.Config(**{**BASE, **changes, "dropout": 0.25})
        fields = transformer.Model.from_hf_config(transformer.Model.to_hf_config(config))
        assert fields is not None
        again = transformer.Config(**fields)
        assert transformer.Model.to_hf_config(again) == transformer.Model.to_hf_config(config)
    refused = {**transformer.Model.to_hf_config(config), "scale_embedding": False}
    with pytest.raises(SettingError, match="scale_embedding"):
        transformer.Model.from_hf_config(refused)
    assert transformer.Model.from_hf_config({"model_type": "bart"}) is None
