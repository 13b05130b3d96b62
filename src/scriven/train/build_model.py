"""The model a run trains: built on its device, with random weights or those it starts from; which
of its weights a fine-tuning updates; and the same model on one or several processes, with
activation checkpointing, torch.compile, DDP and FSDP2.

A model knows nothing of processes; all that is relied on is that every stack of its blocks is a
module list named `blocks`. Gradients of a batch that is divided among processes add up to those of
the whole batch: the loss is a sum divided by the targets of all processes (`train_step.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import registry
from ..distributed import SINGLE_PROCESS, DistributedContext, full_tensor, shard_like
from ..errors import SettingError
from ..nn.lora import lora_adapters
from ..runs.peft import add_adapters
from ..runtime import Runtime, available_memory
from ..settings import RuntimeSettings
from ..tasks.base import BaseTask, Output
from ..tasks.shared.supervised import stand_ins, transfer_weights
from ..tokenizers import Tokenizer
from .autoconfig import TrainPlan
from .optim.base import Optimizers
from .train_state import Run

Trainable = Literal["full", "head", "lora"]
Mode = Literal["ddp", "fsdp"]
Forward = Callable[..., Output]

BYTES_PER_PARAMETER = 16
"""A weight, its gradient and two moments of the optimizer, each in float32."""


def build_model(run: Run, warn: Callable[[str], None]) -> tuple["Parallel", Optimizers]:
    """The model as it is trained, and its optimizers; `warn` is told if torch.compile fails."""
    plan, settings = run.plan, run.plan.settings
    torch.manual_seed(plan.seed)
    # 1. the model, with adapters and frozen weights
    task = build_task(run)
    architecture = registry.module("scriven.models", plan.architecture)
    new_rows: dict[str, int] = {}
    if "finetune" in run.metadata:
        new_rows = prepare_weights(task, architecture, plan, run.metadata["finetune"])
    elif plan.settings.finetune.weights == "lora":
        add_adapters(
            task, architecture, plan.model, plan.settings.finetune.lora_rank, kind=plan.task
        )
        store_frozen_as(task, run.runtime.dtype)
    # 2. compiled and on several processes
    compiled = partial(compile_with_fallback, warn=warn) if settings.runtime.compile else None
    parallel = Parallel(task, run.dist, run.runtime, settings.runtime, compiled)
    # 3. its optimizers; Muon orthogonalises in half precision where the model computes in it
    half = run.runtime.dtype in (torch.bfloat16, torch.float16)
    precision = torch.bfloat16 if half else next(task.parameters()).dtype
    optimizers = Optimizers(task, settings.optim, run.components.optimizer, precision, run.dist)
    for name, first_row in new_rows.items():
        optimizers.freeze_rows(name, first_row)
    return parallel, optimizers


def build_task(run: Run) -> BaseTask:
    """The model on its device, with random weights or those it starts from."""
    plan, components, info = run.plan, run.components, run.metadata.get("finetune")
    architecture = registry.module("scriven.models", plan.architecture)
    task_module = registry.module("scriven.tasks", plan.task)
    base = components.base_task
    backbone = architecture.Model(plan.model) if base is None else base.backbone
    task: BaseTask = task_module.Task(
        backbone, components.criterion, run.dataset.tokenizer.special_token_ids, info
    )
    task.sequence_length = plan.settings.train.sequence_length or task.sequence_length
    if base is not None:  # trained further: its own modules
        task.head = base.head
        return task.to(run.runtime.device)
    task.init_weights()
    if components.weights is not None:
        task.load_state_dict(components.weights)
    # a fine-tuning takes over what base model and task have in common
    if components.base_weights is not None:
        same_labels = info is not None and info["base"]["same_answers"]
        frozen = run.plan.settings.finetune.weights != "full"
        near = stand_ins(run.dataset.tokenizer) if frozen else None
        transfer_weights(task, components.base_weights, same_labels, near)
    return task.to(run.runtime.device)


def store_frozen_as(task: BaseTask, dtype: torch.dtype) -> None:
    """Keeps frozen matrices in the precision of the matmuls, in place: half of the memory, and no
    conversion at every step. The residual stream stays in float32."""
    if dtype == torch.float32:
        return
    for weight in task.parameters():
        if not weight.requires_grad and weight.dim() > 1:
            weight.data = weight.data.to(dtype)
    task.backbone.embed.register_forward_hook(lambda module, inputs, x: x.float())


def check_trainable(
    architecture: ModuleType, plan: TrainPlan, tokenizer: Tokenizer, info: dict[str, Any]
) -> None:
    """Refuses a fine-tuning without trainable weights, before anything is built or written.

    Raises:
        SettingError: says why, and what can be trained.
    """
    task_class = registry.module("scriven.tasks", plan.task).Task
    with torch.device("meta"):
        backbone = architecture.Model(plan.model)
        task = task_class(backbone, None, tokenizer.special_token_ids, info)
        prepare_weights(task, architecture, plan, info)


def prepare_weights(
    task: BaseTask, architecture: ModuleType, plan: TrainPlan, info: dict[str, Any]
) -> dict[str, int]:
    """Adds adapters and freezes weights for a fine-tuning; `info`: of scriven.json. As `freeze`."""
    finetune = plan.settings.finetune
    if finetune.weights == "lora":
        add_adapters(task, architecture, plan.model, finetune.lora_rank, kind=plan.task)
    return freeze(task, finetune.weights, info["base"]["vocab_size"])


def freeze(task: BaseTask, trainable: Trainable, base_vocab_size: int) -> dict[str, int]:
    """Marks which weights are trained (`requires_grad`); all others stay as they are, bit for bit.

    What a task has that the base model had not is always trained: the head of its labels, and the
    embeddings of its special tokens.

    Args:
        trainable: full: all weights; head: the task's head; lora: the adapters of the task, and its
            head if that scores labels.
        base_vocab_size: tokens of the base model's vocabulary; the ids above are new.

    Returns:
        Name of a weight -> its first new row, for weights of which only new rows are trained.

    Raises:
        SettingError: there is no head to train, or there are no adapters.
    """
    if trainable == "full":
        task.requires_grad_(True)
        return {}
    lora = lora_adapters(task)
    if task.is_generative and (not lora if trainable == "lora" else task.head is None):
        raise SettingError(
            "adapters of rank 0 learn nothing: set --finetune.lora_rank=8, say"
            if trainable == "lora"
            else "the output layer of this model is its embedding, so it has no head to train "
            "alone: train all weights or adapters (full or lora)"
        )
    # 1. everything is frozen but adapters and head
    task.requires_grad_(False)
    for adapter in lora.values():
        adapter.requires_grad_(trainable == "lora")
    if task.head is not None and (trainable == "head" or not task.is_generative):
        task.head.requires_grad_(True)
    for name, weight in task.named_parameters():
        if name.startswith("pointer."):  # the copy head is new as well
            weight.requires_grad_(True)
    # 2. of the embeddings only the rows of new tokens
    new_rows: dict[str, int] = {}
    if base_vocab_size < task.vocab_size:
        table: Any = task.backbone.embed.token.weight
        for name, weight in task.named_parameters():
            is_embedding = weight is table or name in ("words.weight", "head.weight")
            if is_embedding and not weight.requires_grad:
                weight.requires_grad_(True)
                new_rows[name] = base_vocab_size
    return new_rows


class Parallel:
    """A task as it is trained, by this process alone or by several.

    Args:
        task: with the same weights in every process; sharded in place by FSDP.
        compiled: makes the forward pass faster, such as `compile_with_fallback`.
    """

    def __init__(
        self,
        task: BaseTask,
        dist: DistributedContext = SINGLE_PROCESS,
        runtime: Runtime | None = None,
        settings: RuntimeSettings | None = None,
        compiled: Callable[[nn.Module], Forward] | None = None,
    ) -> None:
        self.dist, self.task = dist, task
        self.mode: Mode | None = None
        self.wrapped: Any = task
        settings = settings or RuntimeSettings()
        # 1. activation checkpointing, before blocks are wrapped
        if settings.activation_checkpointing:
            checkpoint_activations(task)
        # 2. several processes: replicate (DDP) or shard (FSDP)
        if dist.world_size > 1:
            assert runtime is not None
            self.mode = choose_mode(task, dist, settings.parallel, _device_memory(runtime, dist))
        if self.mode == "fsdp" and runtime:
            self._shard(runtime, compiled is not None)
            compiled = None  # every block is compiled on its own already
        elif self.mode == "ddp" and runtime:
            device_ids = [runtime.device.index] if runtime.device.type == "cuda" else None
            self.wrapped = nn.parallel.DistributedDataParallel(
                task,
                device_ids=device_ids,
                forward_sync_buffers=False,
                gradient_as_bucket_view=True,
            )
        # 3. torch.compile after wrapping: it splits the graph at DDP's gradient buckets
        self.forward: Forward = compiled(self.wrapped) if compiled else self.wrapped
        self.evaluation_forward: Forward | None = None
        """Computes the loss of validation batches; None: the task itself."""

    def _shard(self, runtime: Runtime, compiled: bool) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(runtime.device.type, (self.dist.world_size,))
        policy = MixedPrecisionPolicy()
        if runtime.dtype != torch.float32:  # weights are gathered in the precision of the matmuls
            policy = MixedPrecisionPolicy(runtime.dtype, torch.float32, cast_forward_inputs=False)
        # block by block: one block's weights are gathered at a time
        for block in blocks(self.task):
            if compiled:
                block.compile(dynamic=False)
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(self.task, mesh=mesh)

    def full_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor gathered from its shards; every process has to call this."""
        if self.mode != "fsdp":
            return dict(tensors)
        return {name: full_tensor(tensor) for name, tensor in tensors.items()}

    def load(self, weights: Mapping[str, Tensor], strict: bool = True) -> None:
        """Puts full weights into the task, of which this process may hold a shard.

        Args:
            strict: whether they have to be all weights of the task.
        """
        mine = self.task.state_dict()
        self.task.load_state_dict(
            # (full shape) -> (shard's shape), the same tensor where nothing is sharded
            {name: shard_like(tensor, mine[name]) for name, tensor in weights.items()},
            strict=strict,
        )


def blocks(task: nn.Module) -> Iterator[nn.Module]:
    """The blocks of every stack."""
    for module in task.modules():
        stack = getattr(module, "blocks", None)
        if isinstance(stack, nn.ModuleList):
            yield from stack


def choose_mode(
    task: nn.Module, dist: DistributedContext, mode: Mode | None, memory: int | None
) -> Mode:
    """DDP, unless the user set another mode, or weights, gradients and optimizer state fill more
    than half of the memory of each process's device (bytes, if known). Frozen weights beside
    adapters are replicated."""
    if mode is not None:
        return mode
    if not all(weight.requires_grad for weight in task.parameters()):
        return "ddp"
    needed = BYTES_PER_PARAMETER * sum(weight.numel() for weight in task.parameters())
    return "fsdp" if memory is not None and needed > memory / 2 else "ddp"


def checkpoint_activations(task: nn.Module) -> None:
    """Recomputes the activations of every block in the backward pass (Chen et al. 2016)."""
    for block in blocks(task):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_with_fallback(task: Any, warn: Callable[[str], None]) -> Forward:
    """The task through torch.compile; eager, after one warning, if compilation fails."""
    compiled = torch.compile(task, dynamic=False)
    forward_pass: list[Forward] = [compiled]

    def forward(*args: Any) -> Output:
        if forward_pass[0] is task:
            return task(*args)
        try:
            return compiled(*args)  # type: ignore[no-any-return,no-untyped-call]
        except Exception as error:  # a compiler can raise anything; eager mode always works
            reason = str(error).strip().splitlines()
            warn(f"torch.compile failed ({reason[0] if reason else error!r}): going on without")
            forward_pass[0] = task
            return task(*args)  # type: ignore[no-any-return]

    return forward


def _device_memory(runtime: Runtime, dist: DistributedContext) -> int | None:
    if runtime.device.type == "cuda":
        return int(torch.cuda.get_device_properties(runtime.device).total_memory)
    memory = available_memory()
    return None if memory is None else int(dist.broadcast(memory)) // dist.local_world_size
