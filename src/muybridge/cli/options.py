"""Options that several commands share, and the recipe that they choose."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from muybridge.cli.app import expand_user
from muybridge.core.errors import RecipeError
from muybridge.core.hub import is_hub_address
from muybridge.core.packed import is_pack
from muybridge.engine.run_format import check_run
from muybridge.recipe_schema import (
    check_tree,
    find_recipe,
    parse_settings,
    read_recipe,
    shipped_recipes,
    starter_models,
    starter_name,
)

if TYPE_CHECKING:
    from muybridge.recipe import Recipe


def _complete_recipe(incomplete: str) -> list[str]:
    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def _complete_model(incomplete: str) -> list[str]:
    return [name for name in starter_models() if name.startswith(incomplete)]


def _check_run(path: Path | None) -> Path | None:
    if path is not None:
        check_run(expand_user(path))
    return path


def _check_run_or_file(path: Path | None) -> Path | None:
    if path is not None and is_hub_address(path):
        from muybridge.hub import fetch

        return fetch(path)
    return path if path is not None and is_onnx(path) else _check_run(path)


def _parse_reject(value: str | None) -> Any:
    if value is None or value == "auto":
        return value
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise RecipeError(f"--reject {value}", expected="a probability from 0 to 1, or auto", hint="correct it")
    return number


def is_onnx(run: Path) -> bool:
    """Whether an ONNX file is meant, and not a run folder."""
    return run.suffix.lower() == ".onnx"


SETTINGS_PANEL = "Settings of the recipe"
RECIPE_HELP = "A TOML file, or the name of a shipped recipe (`muybridge recipes`)."
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help=RECIPE_HELP, autocompletion=_complete_recipe)]
OptionalRecipe = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help=RECIPE_HELP, autocompletion=_complete_recipe)
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Without RECIPE: the model (`muybridge models`), with its starting recipe; `train` also takes auto.",
        autocompletion=_complete_model,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|TABLE", help="Without RECIPE: one folder for each class, or a table of recordings; or a pack."
    ),
]
StarterModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The model (`muybridge models`); by default drnn.", autocompletion=_complete_model
    ),
]
StarterData = Annotated[
    Path | None, typer.Option(metavar="DIR|TABLE", help="One folder for each class, or a table of recordings.")
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX|FILE",
        rich_help_panel=SETTINGS_PANEL,
        help="Regular expression on file names; its capture group is the person, such as '_(s\\d+)_'. "
        "Or a CSV file with the columns file and group.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", min=1, rich_help_panel=SETTINGS_PANEL, help="Same as --set train.epochs=N.")
]
Size = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, rich_help_panel=SETTINGS_PANEL, help="Same as --set model.size=N: frames of N by N pixels."
    ),
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", min=0, rich_help_panel=SETTINGS_PANEL, help="Same as --set train.seed=N.")
]
NoPretrained = Annotated[
    bool,
    typer.Option(
        "--no-pretrained",
        rich_help_panel=SETTINGS_PANEL,
        help="Same as --set model.pretrained=false: no weights are downloaded.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SETTING=VALUE",
        rich_help_panel=SETTINGS_PANEL,
        help="Replace a setting of the recipe; may be repeated.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", callback=_check_run)]
RunOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder, an ONNX file of `muybridge export`, or hf://user/name.",
        callback=_check_run_or_file,
    ),
]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each recording, and nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first recording that cannot be read.")]
Reject = Annotated[
    str | None,
    typer.Option(
        metavar="P|auto",
        callback=_parse_reject,
        help='Answer "none of these" below this probability; auto: the threshold of `muybridge test RUN --calibrate`.',
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto uses a GPU if there is one.")
]
_SEGMENTS = "Segments"
Window = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0, help="Length of a window; 0 is the median of the training recordings."),
]
Hop = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="From a window to the next; 0 is a quarter of the window.")
]
SkeletonFps = Annotated[float, typer.Option("--fps", metavar="N", min=0, help="Frames a second of skeletons; 0 is 30.")]
Smoothing = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=0, rich_help_panel=_SEGMENTS, help="Standard deviation of the Gaussian along time."
    ),
]
High = Annotated[
    float, typer.Option(min=0, max=1, rich_help_panel=_SEGMENTS, help="A segment reaches this probability.")
]
Low = Annotated[
    float, typer.Option(min=0, max=1, rich_help_panel=_SEGMENTS, help="A segment ends below this probability.")
]
Shortest = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        rich_help_panel=_SEGMENTS,
        help="Shorter segments and gaps are removed; by default half the window.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL", rich_help_panel=_SEGMENTS, help="A class that is no action, such as a background class."
    ),
]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class ChosenRecipe:
    """The recipe that a command line names, with its settings checked as far as that is possible without torch.

    Attributes:
        path: its file.
        settings: values by dotted name.
        name: for folders that are named after it.
        is_starter: whether it is a starting recipe, which adapts to the user's recordings.
    """

    path: Path
    settings: Mapping[str, Any]
    name: str
    is_starter: bool = False

    def load(self, earlier: "Recipe | None" = None) -> "Recipe":
        """The validated recipe; a starting recipe with what follows from the recordings.

        Args:
            earlier: the recipe of the run that is resumed.
        """
        from muybridge.recipe import adapted, load_recipe

        recipe = load_recipe(self.path, self.settings)
        return adapted(recipe, self.settings, earlier) if self.is_starter else recipe


def parse_options(
    settings: list[str] | None = None,
    data: Path | None = None,
    group: str | None = None,
    epochs: int | None = None,
    size: int | None = None,
    seed: int | None = None,
    no_pretrained: bool = False,
) -> dict[str, Any]:
    """The settings that options stand for, by dotted name; ``--set`` wins."""
    given = {
        "data.root": place_of(data) if data else None,
        "data.group": group,
        "train.epochs": epochs,
        "model.size": size,
        "train.seed": seed,
        "model.pretrained": False if no_pretrained else None,
    }
    return {name: value for name, value in given.items() if value is not None} | parse_settings(settings or [])


def place_of(data: Path) -> str:
    """An absolute path, or the address that was given as one, whose second slash is lost."""
    address = re.match(r"([a-z][a-z0-9+.:-]+):/+", str(data))
    if address is None or data.exists():
        return str(data.resolve())
    return f"{address[1]}://{str(data)[address.end() :]}"


def choose_recipe(
    recipe: str | None, settings: Mapping[str, Any], model: str | None = None, data: Path | None = None
) -> ChosenRecipe:
    """The recipe of a file or name, also with a pack as its data, or the starting recipe of a model for recordings.

    Raises:
        RecipeError: neither or both are given, and the recordings are no pack; no such recipe or model, or a setting
            that it does not have.
    """
    if recipe is not None and model is None and (data is None or is_pack(place_of(data))):
        chosen = ChosenRecipe(find_recipe(recipe), settings, Path(recipe).stem)
    elif recipe is None and model is not None and data is not None:
        path = find_recipe(starter_name(model))
        chosen = ChosenRecipe(
            path, settings, f"{model}_{data.resolve().stem if data.is_file() else data.resolve().name}", is_starter=True
        )
    else:
        raise RecipeError(
            "no recipe given" if recipe is None else "both a recipe and --model or --data",
            expected="a recipe, which takes --data only for a pack, or --model and --data together",
            hint="list recipes with `muybridge recipes` and models with `muybridge models`",
        )
    tree = check_tree(read_recipe(chosen.path), settings, chosen.path)
    if "train.epochs" in settings and tree.get("train", {}).get("stages"):
        raise RecipeError(
            "train.epochs has no effect on a training in stages",
            expected="epochs or iterations in each of train.stages",
            hint="copy the recipe and edit its stages",
            where=chosen.path,
        )
    return chosen


def new_run_folder(name: str) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that does not exist."""
    numbers = (Path("runs") / (name if count == 1 else f"{name}-{count}") for count in range(1, 10_000))
    return next(folder for folder in numbers if not folder.exists())


def parse_size(size: str | None) -> tuple[int, int] | None:
    """Width and height from words such as ``640x480``; None stays None."""
    if size is None:
        return None
    match = re.fullmatch(r"(\d+)[xX×](\d+)", size.strip())
    if match is None:
        raise RecipeError(f"--size {size}", expected="width x height in pixels, such as 640x480", hint="correct --size")
    return int(match[1]), int(match[2])
