"""Recipes: what to build. One TOML file per task, strict to the last key.

A recipe says what a checkpoint cannot: the task, the number of steps, the noise, the size and how a frame is
prepared. Widths and depths stand in it too, and a checkpoint is checked against them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from elir_trt.errors import RecipeError
from elir_trt.extras import needs
from elir_trt.schema import Bounds, Pattern, Schema, SchemaError

#: Height and width of a recipe are multiples of this.
SIZE_MULTIPLE = 64

Precision = Literal["fp32", "fp16", "bf16"]
Positive = Annotated[int, Bounds(least=1)]


@dataclass(frozen=True, kw_only=True)
class AutoencoderSpec(Schema):
    """Encoder and decoder. Levels go from the image's resolution to the latent's, halving each time."""

    unshuffle: Literal[1, 2, 4, 8] = 1
    """Pixels that the first convolution takes as channels, each way."""
    widths: tuple[Positive, ...] = (64, 64, 64, 64)
    """Channels of each level."""
    blocks: tuple[Annotated[int, Bounds(least=0)], ...] = (1, 3, 3, 3)
    """Residual blocks of each level."""

    def check(self) -> None:
        """Levels agree."""
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ValueError(
                f"widths has {len(self.widths)} levels and blocks has {len(self.blocks)}; "
                "they must be equally many, and at least one"
            )

    @property
    def downscale(self) -> int:
        """How many pixels of the image one cell of the latent covers, each way."""
        return int(self.unshuffle) << (len(self.widths) - 1)


@dataclass(frozen=True, kw_only=True)
class CoarseSpec(Schema):
    """The coarse estimator, an RRDBNet on the latent."""

    growth: Positive
    """Channels that each convolution of a dense block adds."""
    blocks: Positive
    """Residual-in-residual dense blocks in a row."""


@dataclass(frozen=True, kw_only=True)
class VelocitySpec(Schema):
    """The velocity field, a U-Net on the latent."""

    hidden: Annotated[int, Bounds(least=32, multiple=32)]
    """Channels of the first level; a multiple of the 32 groups of its normalization."""
    middle: Annotated[int, Bounds(least=0)]
    """Residual blocks at the lowest resolution."""
    time_features: Annotated[int, Bounds(least=4, multiple=2)] = 160
    """Length of the time embedding."""


@dataclass(frozen=True, kw_only=True)
class Architecture(Schema):
    """Widths and depths of the four parts."""

    latent_channels: Positive = 16
    autoencoder: AutoencoderSpec = AutoencoderSpec()
    coarse: CoarseSpec
    velocity: VelocitySpec
    skip: Literal["none", "gated"] = "none"
    """A way for detail around the latent: "gated" gives the decoder the image too, see
    :class:`~elir_trt.model.autoencoder.Decoder`."""

    @property
    def downscale(self) -> int:
        """Pixels of the image per cell of the latent, each way."""
        return self.autoencoder.downscale


@dataclass(frozen=True, kw_only=True)
class Prepare(Schema):
    """How a frame becomes what the encoder takes."""

    mode: Literal["fit", "pad", "tile"]
    """fit: scaled into the recipe's size, aspect kept; pad: its own size; tile: tiles of the recipe's size."""
    interpolation: Literal["bicubic", "nearest"] = "bicubic"
    scale: Positive = 1
    """Upscaling before the network (super-resolution)."""
    multiple: Positive = SIZE_MULTIPLE
    """Frames are padded by reflection to a multiple of this many pixels, after scaling."""
    overlap: Annotated[int, Bounds(least=0)] = 0
    """Pixels that neighbouring tiles share, after scaling; their outputs are averaged."""


@dataclass(frozen=True, kw_only=True)
class Source(Schema):
    """Where the task's checkpoint is published."""

    url: str | None = None
    digest: str | None = None
    """SHA-256 of the file, where it is known."""
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe(Schema):
    """What to build for one task."""

    task: Annotated[str, Pattern(r"[a-z][a-z0-9_-]*", "a name in lower case")]
    title: str
    steps: Annotated[int, Bounds(least=1, most=64)]
    """Euler steps that the model was trained for; fewer can be asked for when a stream opens."""
    default_steps: Annotated[int, Bounds(least=0)]
    """Euler steps where none are asked for; ``steps`` unless the recipe says otherwise."""
    sigma: Annotated[float, Bounds(least=0)]
    """Standard deviation of the noise added to the coarse estimate."""
    size: tuple[Positive, Positive]
    """Height and width of what the encoder takes."""
    precision: Precision | None = None
    """Precision of the engines by default; None: the fastest that the device runs well."""
    architecture: Architecture
    prepare: Prepare
    checkpoint: Source = Source()

    @classmethod
    def from_data(cls, data: Any) -> Recipe:
        """As any schema; ``default_steps`` is ``steps`` where it is not given."""
        if isinstance(data, Mapping) and data.get("default_steps") is None and "steps" in data:
            data = {**data, "default_steps": data["steps"]}
        return super().from_data(data)

    def check(self) -> None:
        """Sizes and steps agree."""
        for name, value in zip(("height", "width"), self.size, strict=True):
            if value % SIZE_MULTIPLE:
                raise ValueError(f"size: {name} is {value}; it must be a multiple of {SIZE_MULTIPLE}")
        if self.default_steps > self.steps:
            raise ValueError(
                f"default_steps is {self.default_steps}; at most steps, {self.steps}, is allowed"
            )
        step = 4 * self.architecture.downscale
        if self.prepare.multiple % step:
            raise ValueError(
                f"prepare.multiple is {self.prepare.multiple}; this architecture needs a multiple of {step}"
            )
        if self.prepare.overlap >= min(self.size):
            raise ValueError(f"prepare.overlap is {self.prepare.overlap}; it must be less than the size")


def recipes_folder() -> Path:
    """The folder of the recipes that ship with the package."""
    inside = Path(__file__).resolve().parent / "engines"
    return inside if inside.is_dir() else Path(__file__).resolve().parents[1] / "engines"


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by its name ("bfr") or from a TOML file.

    Raises:
        RecipeError: there is no such recipe, it is not TOML, or a key or value is wrong; the message names
            the file, the key, the value and what is allowed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in recipe_names():
            raise RecipeError(
                f"no recipe is named '{name_or_path}'; there are {', '.join(recipe_names())}, "
                "or give the path of a .toml file"
            )
        path = recipes_folder() / f"{name_or_path}.toml"
    try:
        data = _parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # Of TOML, and of UTF-8.
        raise RecipeError(f"{path}: not a TOML file: {error}") from error
    return parse_recipe(data, str(path))


def _parse_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # pragma: no cover
        with needs("tomli", extra="export", what="reading recipes"):
            import tomli as tomllib
    return tomllib.loads(text)


def parse_recipe(data: dict[str, Any], where: str) -> Recipe:
    """Check a recipe given as nested dictionaries; ``where`` names it in errors."""
    try:
        return Recipe.from_data(data)
    except SchemaError as error:
        raise RecipeError(f"{where}: {error}") from None
