"""Task files of lm-evaluation-harness, read without network access and without running code.

In lm_eval a task file may name Python functions, download data and metrics by name, and its
templates can call anything. Here data are local files, metrics are lm_eval's own, and templates
run in Jinja's sandbox. Knows no model.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra
from ..registry import did_you_mean

READERS = ("json", "csv", "text", "parquet")
"""Readers of the package `datasets` for local files; the others unpickle or download."""
CODE_FIELDS = ("class", "custom_dataset", "use_prompt", "unsafe_code")
"""Fields of a task that run Python code or download."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_MULTIPROC": "1",  # bootstrapping would fork a process with torch's threads in it
}


@contextmanager
def offline() -> Iterator[None]:
    """Keeps Hugging Face's libraries off the network for a while, in the whole process.

    Raises:
        MissingExtra: lm_eval is not installed.
    """
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(OFFLINE)
    try:
        import datasets
        import huggingface_hub.constants
        import lm_eval.tasks  # noqa: F401

        # they read the environment once, and may have been imported before
        modules = (huggingface_hub.constants, datasets.config)
        flags = [module.HF_HUB_OFFLINE for module in modules]
        for module in modules:
            module.HF_HUB_OFFLINE = True
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            for module, flag in zip(modules, flags, strict=True):
                module.HF_HUB_OFFLINE = flag
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in ("datasets", "lm_eval"):
            raise MissingExtra("lm_eval", "harness", "lm-evaluation-harness") from error
        raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def sandbox() -> Iterator[None]:
    """Renders the templates of tasks in a sandbox, with a limit of time."""
    from lm_eval import utils

    from .templates import LimitedEnvironment

    original = utils.env
    utils.env = LimitedEnvironment()
    utils.env.filters.update(original.filters)
    try:
        yield
    finally:
        utils.env = original


def load_tasks(folder: Path, names: Sequence[str], work: Path) -> dict[str, Any]:
    """Tasks of a folder or of one YAML file, as lm_eval's own objects.

    Args:
        folder: the folder, searched with all folders below it, or the file.
        names: tasks, groups or tags; all tasks by default.
        work: an empty folder for caches; must outlive the tasks.

    Raises:
        InputError: names the file, and what in it cannot be used here.
    """
    import yaml
    from lm_eval.tasks import TaskManager

    yaml_files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])
    files = [folder] if folder.is_file() else yaml_files
    plain = work / "tasks"
    plain.mkdir()
    # 1. each file checked, with its includes merged and its data files absolute
    for number, path in enumerate(files):
        config = read_yaml(path)
        if "task" in config or "group" in config:
            local = _local(config, path, work)
            (plain / f"{number:06}.yaml").write_text(yaml.safe_dump(local), encoding="utf-8")
    # 2. lm_eval sees only these copies, none of the tasks that come with it
    manager = TaskManager(include_path=str(plain), include_defaults=False)
    if not manager.all_tasks:
        raise InputError(
            f"{folder} holds no task: give a YAML file, or a folder of them, with a field `task`"
        )
    selected = list(names) or manager.all_subtasks or manager.all_groups
    for name in selected:
        if name not in manager.all_tasks:
            hint = did_you_mean(name, manager.all_tasks)
            raise InputError(f"{folder} holds no task {name!r}: {hint}")
    try:
        loaded: dict[str, Any] = manager.load(selected)
    except Exception as error:  # whatever is wrong with a task, lm_eval raises anything
        raise unusable(", ".join(selected), error) from error
    # 3. the same examples in every run
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=1234)
    return loaded


def unusable(what: str, error: BaseException) -> InputError:
    """The error for a task that lm_eval refuses: the innermost reason, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or ["no reason given"]
    return InputError(f"lm_eval cannot use {what}: {type(error).__name__}: {lines[0][:300]}")


def read_yaml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task file merged with the files it includes; its own fields win.

    Args:
        above: the files that include this one.

    Raises:
        InputError: it is not YAML, names Python code, or includes itself.
    """
    import yaml

    # a class per file, so that the refusal below can name the file
    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Plain values only."""

    def refuse(_: Any, node: Any) -> None:
        raise InputError(
            f"{path} names Python code (!function {node.value}), which is not run here: "
            "express it as a template, or prepare the data beforehand"
        )

    Loader.add_constructor("!function", refuse)
    path = path.resolve()  # else a circle of links would go on for ever
    if path in above:
        raise InputError(f"{path} includes itself: take the `include` out")
    try:
        with path.open("rb") as file:
            config = yaml.load(file, Loader=Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no task file: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is no task file: its fields are missing")
    includes = config.pop("include", [])
    merged: dict[str, Any] = {}
    for name in [includes] if isinstance(includes, str) else includes:
        merged |= read_yaml(path.parent / str(name), (*above, path))
    merged.pop("task_list", None)
    return merged | config


def _local(config: Mapping[str, Any], path: Path, work: Path, inside: bool = False) -> Any:
    """The same task or group with absolute paths of its data files.

    Args:
        inside: whether it is part of a group, which may name the data for it.
    """
    config = dict(config)
    name = str(config.get("task", config.get("group")))
    for field in CODE_FIELDS:
        if config.get(field):
            raise InputError(f"{path}: `{field}` of task {name} runs code: leave it out")
    for metric in config.get("metric_list") or ():
        _check_metric(metric, path)
    if isinstance(config.get("task"), list):
        children = config["task"]
        config["task"] = [
            _local(child, path, work, True) if isinstance(child, dict) else child
            for child in children
        ]
        inside = True
    if "dataset_path" not in config:
        if not inside:
            raise InputError(f"{path}: task {name} names no data: add dataset_path: json")
        return config
    reader = config["dataset_path"]
    if reader not in READERS:
        raise InputError(
            f"{path}: task {name} takes its data from {reader!r}, which is not on this machine: "
            f"use one of {', '.join(READERS)} with files of your own (dataset_kwargs: data_files)"
        )
    given = dict(config.get("dataset_kwargs") or {})
    if "data_files" not in given:
        raise InputError(f"{path}: task {name} names no files: add dataset_kwargs: data_files")
    given["data_files"] = _absolute(given["data_files"], path)
    # the cache of `datasets` would otherwise be written to the home folder
    given["cache_dir"] = str(work / "cache")
    config["dataset_kwargs"] = given
    return config


def _absolute(files: Any, path: Path) -> Any:
    """Names of files, which are relative to the task's own file, made absolute."""
    if isinstance(files, dict):
        return {split: _absolute(part, path) for split, part in files.items()}
    if isinstance(files, list):
        return [_absolute(part, path) for part in files]
    file = path.resolve().parent / str(files)
    if not file.is_file():
        raise InputError(f"{path}: there is no file {file}: data_files are relative to the task")
    return str(file)


def _check_metric(metric: Any, path: Path) -> None:
    """Refuses a metric that lm_eval does not compute itself: others are downloaded programs."""
    import lm_eval.api.metrics  # noqa: F401 - fills the registry
    from lm_eval.api.registry import METRIC_REGISTRY

    name = metric.get("metric") if isinstance(metric, dict) else metric
    if not isinstance(metric, dict) or metric.get("hf_evaluate") or name not in METRIC_REGISTRY:
        known = ", ".join(sorted(METRIC_REGISTRY))
        raise InputError(f"{path}: metric {name!r} is not lm_eval's own: known are {known}")
