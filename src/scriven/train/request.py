"""What a person asks of a run: the command's arguments, with a preset under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import config
from ..errors import SettingError
from ..settings import Settings


@dataclass(frozen=True)
class Request:
    """What was asked for; None and missing settings are chosen."""

    sources: Sequence[str] = ()
    budget: str | None = None
    size: str | None = None
    out: str | None = None
    seed: int | None = None
    arch: str | None = None
    preset: str | None = None
    resume: str | None = None
    explain: bool = False
    quiet: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    began: float | None = None
    """time.monotonic() when the command started: wall-clock budgets count from there."""


@dataclass(frozen=True)
class Wishes:
    """What a command asks for, preset and command line together; None was not asked for."""

    sections: dict[str, dict[str, object]]
    arch: str | None = None
    budget: str | None = None
    size: str | None = None
    seed: int | None = None

    def apply(self, settings: Settings) -> Settings:
        """Settings with everything asked for; the model's section is left to its architecture."""
        changed = {
            name: config.replace(getattr(settings, name), changes, name)
            for name, changes in self.sections.items()
            if name != "model"
        }
        return Settings(**{**vars(settings), **changed})


def wishes_of(request: Request) -> Wishes:
    """Preset < command line; unknown sections are refused."""
    preset = read_named_preset(request.preset) if request.preset else {}
    top = {name: preset.pop(name) for name in list(preset) if "." not in name}
    if "model.vocab_size" in request.settings:
        raise SettingError("--model.vocab_size is the tokenizer's: use --tokenizer.vocab_size")
    preset.pop("model.vocab_size", None)  # there for `inspect`; a text brings its own
    sections = config.sections({**preset, **request.settings})
    known = ["model", *vars(Settings())]
    for name, changes in sections.items():
        if name not in known:
            raise config.unknown(
                f"--{name}.{next(iter(changes))}", [f"--{each}." for each in known]
            )
    for name in top:
        if name not in ("arch", "budget", "size", "seed"):
            raise config.unknown(name, ["arch", "budget", "size", "seed"])
    seed = request.seed if request.seed is not None else top.get("seed")
    return Wishes(
        sections,
        request.arch or _text(top.get("arch")),
        request.budget or _text(top.get("budget")),
        request.size or _text(top.get("size")),
        None if seed is None else int(str(seed)),
    )


def read_named_preset(name: str) -> dict[str, object]:
    """A TOML file, or a built-in preset by name.

    Raises:
        SettingError: neither; lists the built-in ones.
    """
    shipped = Path(__file__).parent.parent / "presets"
    path = Path(name) if name.endswith(".toml") else shipped / f"{name}.toml"
    if not path.is_file() or (not name.endswith(".toml") and Path(name).name != name):
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.toml")))
        raise SettingError(f"preset {name!r} does not exist: use a .toml file or one of {names}")
    return config.read_preset(path)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
