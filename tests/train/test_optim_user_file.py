"""An optimizer or a schedule from a file of the user's own trains, resumes and is planned for."""

import json
from pathlib import Path

import pytest
import torch

from scriven.errors import InputError, SettingError
from scriven.models import llama
from scriven.plan.planner import plan
from scriven.runs import checkpoint
from scriven.runs.metadata import read_metadata, write_metadata
from scriven.settings import OptimSettings
from scriven.tasks.language import Language
from scriven.train.optim.base import OptimizerModule, Optimizers, ParamGroups, param_groups
from scriven.train.optim.muon import Muon, newton_schulz
from scriven.train.request import TrainRequest
from scriven.train.run import start_or_resume
from scriven.train.schedule import lr_multiplier

LION = '''
"""Lion (Chen et al. 2023, arXiv 2302.06675): the sign of an interpolated momentum."""
import torch

STATE_PER_PARAM = 1

def default_lr(d_model):
    return 1e-2

def build(groups, settings):
    decay = settings.weight_decay
    return Lion(groups.with_weight_decay(decay), settings.lr, settings.beta1, settings.beta2)

class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, beta1, beta2):
        super().__init__(params, {"lr": lr, "betas": (beta1, beta2), "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.sign(beta1 * m + (1 - beta1) * p.grad))
                m.lerp_(p.grad, 1 - beta2)
'''
HALVES = "def lr_multiplier(progress, decay_fraction):\n    return 1.0 if progress < 0.5 else 0.5\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lion.py").write_text(LION)
    (tmp_path / "halves.py").write_text(HALVES)
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog ate the rat. " * 100)
    return tmp_path


def request(**settings: object) -> TrainRequest:
    small = {
        "model.layers": 1, "model.heads": 2, "model.d_model": 16, "model.context_length": 16,
        "train.batch_size": 4, "train.sample_seconds": 0, "tokenizer.kind": "char",
    }  # fmt: skip
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return TrainRequest(
        ("text.txt",), "80steps", out="run", quiet=True, settings={**small, **named}
    )


def test_lion_from_a_file_trains_and_its_run_goes_on_only_with_the_file(files: Path) -> None:
    asked = request(optim__optimizer="./lion.py", optim__lr_schedule="./halves.py")
    trained = start_or_resume(asked)
    assert trained.results["val_loss"] < 2.6, "less than the 2.7 of letters alone"
    saved = checkpoint.load_newest(files / "run")
    assert saved is not None
    names = {key.rpartition(".")[2] for key in saved.tensors["optimizer"]}
    assert names == {"momentum"}, "one number per weight: Lion, and no AdamW beside it"
    events = [json.loads(line) for line in (files / "run/metrics.jsonl").read_text().splitlines()]
    rates = [event["lr"] for event in events if event["event"] == "step"]
    assert rates[0] == pytest.approx(1e-2 * 1e-3, rel=0.5), "the first step of the warmup"
    assert start_or_resume(asked).results["val_loss"] == trained.results["val_loss"], (
        "finished already"
    )
    with pytest.raises(InputError, match=r"name its file, --optim.optimizer ./lion.py"):
        start_or_resume(TrainRequest(resume="run", quiet=True))
    moved = {**asked.settings, "optim.lr_schedule": "wsd"}
    with pytest.raises(InputError, match=r"name its file, --optim.lr_schedule ./halves.py"):
        start_or_resume(TrainRequest(resume="run", quiet=True, settings=moved))


def test_a_file_named_by_the_run_folder_is_never_run(files: Path) -> None:
    start_or_resume(request())
    record = read_metadata(files / "run")
    (files / "evil.py").write_text("open('ran', 'w').close()\n")
    record["settings"]["optim"]["optimizer"] = "./evil.py"
    write_metadata(files / "run", record)
    with pytest.raises(InputError):
        start_or_resume(TrainRequest(resume="run", quiet=True))
    assert not (files / "ran").exists()


def test_a_file_is_planned_for_by_its_state(files: Path) -> None:
    def bytes_of(optimizer: str) -> float:
        made = plan("10M", device="h100", settings={"optim.optimizer": optimizer})
        return float(made["memory"]["no checkpointing"]["optimizer"])

    assert bytes_of("./lion.py") == bytes_of("adamw") / 2


def test_unknown_names_and_incomplete_files_are_refused_with_a_remedy(files: Path) -> None:
    (files / "empty.py").write_text("")
    with pytest.raises(InputError, match="unknown optimizer 'muno': did you mean muon"):
        start_or_resume(request(optim__optimizer="muno"))
    with pytest.raises(SettingError, match=r"has no STATE_PER_PARAM; copy train/optim/sgd.py"):
        start_or_resume(request(optim__optimizer="./empty.py"))
    with pytest.raises(SettingError, match=r"use wsd, linear, cosine, constant or a .py file"):
        start_or_resume(request(optim__lr_schedule="step"))
    with pytest.raises(SettingError, match="no function lr_multiplier"):
        start_or_resume(request(optim__lr_schedule="./empty.py"))
    assert not (files / "run").exists()


def test_a_schedule_of_ones_own_is_warmed_up_like_the_others(files: Path) -> None:
    settings = OptimSettings(lr_schedule="./halves.py", warmup_fraction=0.1)
    multipliers = [lr_multiplier(settings, progress) for progress in (0.05, 0.3, 0.9)]
    assert multipliers == pytest.approx([0.5, 1.0, 0.5], abs=2e-3)


def test_fine_tuning_rates_of_a_file_follow_from_its_default(files: Path) -> None:
    lion = OptimizerModule("./lion.py")
    assert lion.finetune_lr(64, lora=False) == pytest.approx(5e-3)
    assert lion.finetune_lr(64, lora=True) == pytest.approx(5e-2)
    assert OptimizerModule("sgd").finetune_lr(64, lora=True) == 0.02


class Experts(llama.Model):
    """A model whose expert stacks, (experts, rows, columns), are Muon's to train."""

    def __init__(self, config: llama.Config) -> None:
        super().__init__(config)
        self.blocks[0].experts = torch.nn.Parameter(torch.randn(3, 8, 12))

    def param_groups(self, groups: ParamGroups) -> ParamGroups:
        name = "backbone.blocks.0.experts"
        groups.matrices[name] = groups.other_weights.pop(name)
        return groups


def test_weights_of_any_rank_have_an_optimizer_and_a_model_can_choose_it() -> None:
    config = llama.Config(vocab_size=11, context_length=8, layers=1, d_model=32)
    plain = Language(llama.Model(config))
    plain.backbone.blocks[0].convolution = torch.nn.Parameter(torch.randn(4, 1, 3))
    assert "backbone.blocks.0.convolution" in param_groups(plain).other_weights
    assert len(Optimizers(plain, OptimSettings()).optimizers) == 2
    task = Language(Experts(config))
    experts = param_groups(task)
    assert experts.matrices["backbone.blocks.0.experts"].shape == (3, 8, 12)
    names = Optimizers(task, OptimSettings()).names
    assert len(names) == len(set(names)) == len(experts.all), "a weight in two groups"


def test_muon_orthogonalises_each_matrix_of_a_stack() -> None:
    stack = torch.zeros(3, 8, 12, requires_grad=True)
    gradient = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(0))
    singles = [torch.zeros(8, 12, requires_grad=True) for _ in range(3)]
    stack.grad = gradient.clone()
    for single, each in zip(singles, gradient, strict=True):
        single.grad = each.clone()
    Muon([stack]).step()
    Muon(singles).step()
    assert torch.allclose(stack, torch.stack(singles), atol=1e-4)
    assert newton_schulz(gradient).shape == (3, 8, 12)
