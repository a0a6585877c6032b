"""What commands share: options of a slide and of training, and an option that takes several numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
INPUT_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
"""One that is there."""
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
EPOCHS = click.IntRange(min=1)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

HE: Sequence[Decorator] = (
    click.option("--he-image", type=FILE, help="The H&E, an OME-TIFF.  [default: *he_image.ome.tif in the bundle]"),
    click.option(
        "--he-alignment",
        type=FILE,
        help="CSV or zip that maps H&E pixels to morphology pixels.  [default: *he_imagealignment.csv beside the H&E]",
    ),
)


def _find_student(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    """Return the folder of a student; of one on the hub that of its files in the hub's cache."""
    if value.startswith("hf:"):
        from stdistill.models.sharing.hub import find_folder

        return find_folder(value)
    return Path(INPUT_FOLDER.convert(value, param, ctx))


STUDENT = click.argument("student", callback=_find_student)


def trust_remote_code() -> None:
    """Let the encoders whose repositories have code of their own be built by it, in this process."""
    from stdistill.encoders import get, register
    from stdistill.encoders._catalogue import RUNS_CODE

    for name in RUNS_CODE:
        register(get(name, trust_remote_code=True), overwrite=True)


def _trust(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        trust_remote_code()


REMOTE_CODE = click.option(
    "--trust-remote-code",
    is_flag=True,
    expose_value=False,
    callback=_trust,
    help="Let Python code from the repository of the encoder run on this machine, where it has some (Hibou).",
)
ENCODER: Sequence[Decorator] = (
    click.option(
        "--encoder",
        default="auto",
        show_default=True,
        help="Encoder of the H&E, of sd.encoders.list() or timm; auto is UNI2-h where its weights are at hand, else "
        "the built-in one.",
    ),
    REMOTE_CODE,
)
SLIDE: Sequence[Decorator] = (
    click.argument("bundle", type=INPUT_FOLDER),
    *HE,
    click.option(
        "--cell-types",
        type=FILE,
        help="CSV with the columns cell_id and group.  [default: *cell_groups.csv in BUNDLE]",
    ),
    *ENCODER,
)
METHODS = ("unet", "tree", "instanseg", "cellpose", "stardist")
NUCLEI: Sequence[Decorator] = (
    click.option(
        "--mpp", type=click.FloatRange(min=0, min_open=True), help="µm per pixel.  [default: as the file says]"
    ),
    click.option("--scene", help="Number or name of one of several slides in the file."),
    click.option(
        "--method", type=click.Choice(METHODS), default="unet", show_default=True, help="How nuclei are found."
    ),
    click.option("--nuclei", type=FILE, help="Nuclei that are known: GeoJSON, label image, Parquet or CSV."),
    click.option(
        "--nuclei-unit", type=click.Choice(["px", "um"]), default="px", show_default=True, help="What NUCLEI are in."
    ),
)
MACHINE: Sequence[Decorator] = (
    click.option(
        "--device", type=click.Choice(["cpu", "cuda", "mps"]), help="Where to compute.  [default: the fastest there is]"
    ),
    click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="How many of them."),
)
BATCH_SIZE = click.option("--batch-size", type=click.IntRange(min=1), help="Cells at once.  [default: its own]")
EXPRESSION_EPOCHS = click.option(
    "--expression-epochs", type=EPOCHS, help="Passes over the training cells of scVI.  [default: until flat]"
)
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all that is fitted."
)
TRAINING: Sequence[Decorator] = (
    EXPRESSION_EPOCHS,
    click.option("--teacher-epochs", type=EPOCHS, help="Of each teacher.  [default: by the number of cells, 3 to 200]"),
    click.option("--student-epochs", type=EPOCHS, help="Of each student.  [default: by the number of cells, 5 to 50]"),
    click.option("--size", type=click.Choice(["small", "base"]), help="Of the niche networks.  [default: small]"),
    BATCH_SIZE,
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Arithmetic of the niche models.  [default: float32]",
    ),
    SEED,
)


def parse_scene(scene: str | None) -> int | str | None:
    """Read what is a number as one; anything else is a name."""
    return int(scene) if scene is not None and scene.isdecimal() else scene


def with_options(options: Sequence[Decorator]) -> Decorator:
    """Give a command these options, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class SeveralNumbers(click.Command):
    """A command whose ``--k``, which may be given several times, also takes all of its numbers at once."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read ``--k 10 20`` as ``--k 10 --k 20``."""
        return super().parse_args(ctx, _spelled_out(args, "--k"))


def _spelled_out(args: Sequence[str], option: str) -> list[str]:
    """Repeat the option before each further number that follows it."""
    spelled: list[str] = []
    n_values: int | None = None  # of the option, `None` outside of it
    for arg in args:
        if arg == option:
            n_values = 0
        elif n_values is not None and arg.isdecimal():
            spelled += [option] * (n_values > 0)
            n_values += 1
        else:
            n_values = None
        spelled.append(arg)
    return spelled
