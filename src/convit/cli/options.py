"""The options that several commands share, each said once: its name, its meaning and what `--help` shows of it."""

import io
import sys
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO, get_type_hints

import typer

from convit.cli import errors
from convit.cli.commands import LEFT_OUT, MODEL
from convit.images.limits import set_limits
from convit.images.names import is_remote
from convit.inference.options import RunOptions, parse_size
from convit.optimization.precision import Precision, check_device_name
from convit.output import console
from convit.output.files import FORMATS_OF, SUFFIXES, check_output, choose_format, write_file

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Images, folders of images or lists of them (.txt, .csv).")
]
Model = Annotated[str | None, typer.Option(metavar="NAME", help=MODEL)]
WeightSet = Annotated[str | None, typer.Option(metavar="NAME", help=MODEL.replace(", or an exported folder", ""))]
IndexModel = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"{MODEL.partition('  ')[0]}  [default: the one that built the index]"),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Local weights (file or folder) instead of the published ones.")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|mps", help="Device to run on; auto: a GPU if available; 'cuda:1': the second GPU."
    ),
]
_CAST = "Numeric precision; auto: fp32 on a CPU, bf16 on a GPU that supports it"
_PRECISION = f"{_CAST}; fastest: fp32 or a half precision, as timed here."
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help=f"{_PRECISION} int8 on a CPU needs the extra "
        "'quantize' and is calibrated on some of the images themselves.",
    ),
]
PlainPrecision = Annotated[
    Literal["auto", "fastest", "fp32", "bf16", "fp16"], typer.Option("--precision", help=_PRECISION)
]
CastPrecision = Annotated[Literal["auto", "fp32", "bf16", "fp16"], typer.Option("--precision", help=f"{_CAST}.")]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Compile the model first, for half a minute; not applied where it would be slower."),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Images per batch.  [default: 8 on CPU, 64 on a GPU]")
]
Workers = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Threads that read images; 0 for none.  [default: one per core]")
]
ImgSize = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Input size in pixels, height before width.  [default: the model's]"),
]
CropPct = Annotated[
    float | None,
    typer.Option(min=0.01, max=1.0, metavar="P", help="Input side over resized side.  [default: the model's]"),
]
Recursive = Annotated[bool, typer.Option("--recursive/--no-recursive", help="Search subfolders too.")]
Exif = Annotated[
    bool,
    typer.Option(
        "--exif/--no-exif",
        help="Apply the EXIF orientation of photographs; published accuracies were measured without it.",
    ),
]
FastDecode = Annotated[
    bool,
    typer.Option(
        "--fast-decode",
        help="Decode large JPEG files at a fraction of their size, and resize only what the crop reads: for many large "
        "photographs; the pixels of each move by less than 5 of 255 levels on average.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
SpreadsheetSafe = Annotated[
    bool,
    typer.Option(
        "--spreadsheet-safe",
        help="In CSV, put an apostrophe before what a spreadsheet would run as a formula; such paths no longer open.",
    ),
]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress bars and summaries; errors still show.")]
_LIMIT = Annotated[
    list[str] | None,
    typer.Option(
        "--image-limit",
        metavar="NAME=NUMBER",
        help="Change a limit on what one image may cost: file_bytes, pixels, decoded_bytes, bytes_in_flight, "
        "metadata_bytes, such as decoded_bytes=2GiB; can be repeated.",
    ),
]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]


@dataclass(frozen=True)
class ListOptions:
    """Where the paths in a list of images start, and whether they may leave that folder."""

    image_folder: Path | None = None
    allow_outside: bool = False

    def of(self, source: str) -> str:
        """A source with what was said about it; raises `ValueError` if something was, and it is not a list."""
        from convit.images.lists import list_source

        return list_source(source, self.image_folder, allow_outside=self.allow_outside)


class Bundle(NamedTuple):
    """Several options that a command takes as one value.

    Attributes:
        options: annotation and default of each, by name.
        build: makes the value of what was given for them.
    """

    options: dict[str, tuple[Any, Any]]
    build: Callable[..., Any]

    @classmethod
    def of(cls, defaults: Any, build: Callable[..., Any], **options: Any) -> "Bundle":
        """Options for fields of a value, whose own are the defaults."""
        return cls({name: (option, getattr(defaults, name)) for name, option in options.items()}, build)


_IMAGE_FOLDER = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Where the paths in a list start.  [default: the list's folder]"),
]
_ALLOW_OUTSIDE = Annotated[
    bool, typer.Option("--allow-outside", help="Let a list name images outside of that folder, such as /data/cat.jpg.")
]
NO_LISTS = ListOptions()
Lists = Annotated[
    ListOptions, Bundle.of(NO_LISTS, ListOptions, image_folder=_IMAGE_FOLDER, allow_outside=_ALLOW_OUTSIDE)
]


DEFAULTS = RunOptions()
_READING = {"batch_size": BatchSize, "workers": Workers, "fast_decode": FastDecode}
_EMBEDDING = {"device": Device, "precision": PlainPrecision, **_READING}
_PLAIN = {**_EMBEDDING, "img_size": ImgSize, "crop_pct": CropPct, "apply_exif": Exif}
_EVALUATION = {**_PLAIN, "precision": PrecisionOption, "compile": Compile}


def _run(img_size: str | None = None, **given: Any) -> RunOptions:
    check_device_name(given["device"])
    return RunOptions(img_size=parse_size(img_size), **given)


EmbeddingRun = Annotated[RunOptions, Bundle.of(DEFAULTS, _run, **_EMBEDDING)]
PlainRun = Annotated[RunOptions, Bundle.of(DEFAULTS, _run, **_PLAIN)]
# of models in their plain form
AblationRun = Annotated[RunOptions, Bundle.of(DEFAULTS, _run, **{**_PLAIN, "precision": CastPrecision})]
EvaluationRun = Annotated[RunOptions, Bundle.of(DEFAULTS, _run, **_EVALUATION)]
ServeRun = Annotated[RunOptions, Bundle.of(DEFAULTS, _run, **{n: _PLAIN[n] for n in _PLAIN if n != "workers"})]


@dataclass(frozen=True)
class Target:
    """Where a command writes its results, and in which format; checked before the work begins.

    Attributes:
        output: the file, or None for standard output.
        format: one of `convit.output.files.SUFFIXES`.
        overwrite: whether an existing file may be replaced.
        on_terminal: whether a terminal shows them.
        spreadsheet_safe: whether CSV cells that a spreadsheet would compute are made text.
        folder: a folder, or a URL, for many files of results, in the place of one file; see `convit.scale`.
    """

    output: Path | None = None
    format: str = ""
    overwrite: bool = False
    on_terminal: bool = False
    spreadsheet_safe: bool = False
    folder: str | None = None

    @contextmanager
    def text(self) -> Generator[TextIO]:
        """A stream for text; a file appears whole at the end of the block, or not at all."""
        text = sys.stdout if self.output is None else io.StringIO()
        yield text
        if self.output is not None and isinstance(text, io.StringIO):
            write_file(self.output, text.getvalue(), overwrite=self.overwrite)

    def write_rows(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], head: str = "") -> None:
        """Write dictionaries, as `convit.output.write_rows` does."""
        from convit.output.writer import write_rows

        options = {"overwrite": self.overwrite, "spreadsheet_safe": self.spreadsheet_safe}
        write_rows(rows, columns, self.output, self.format, head=head, **options)


STDOUT = Target()


def results(*formats: str, folders: bool = False) -> Bundle:
    """`--output`, `--format` and `--overwrite` of a command with results in these formats, the one for people first.

    With `folders`, `--output` may also be a folder or a URL for one Parquet file per shard.
    """
    suffixes = ", ".join(SUFFIXES[each] for each in formats)
    in_pipe = "jsonl" if "jsonl" in formats else "json"
    choice: Any = Literal.__getitem__(formats)  # pyright: ignore[reportAttributeAccessIssue]
    more = " A folder (a name that ends in /) or a URL (s3://…/) takes one Parquet file per shard." if folders else ""
    output = typer.Option(
        "--output", "-o", metavar="FILE|-", help=f"Write to this file; its suffix selects the format: {suffixes}.{more}"
    )
    format = typer.Option(  # noqa: A001
        "--format",
        help=f"Output format.  [default: by the output's suffix; else {formats[0]} on a terminal, {in_pipe} in a pipe]",
    )

    def build(output: str | None, format: str | None, overwrite: bool, spreadsheet_safe: bool = False) -> Target:  # noqa: A002
        if folders and output is not None and (output.endswith("/") or is_remote(output) or Path(output).is_dir()):
            if format not in (None, "parquet") or overwrite:
                raise ValueError(
                    f"{output} is a folder or a URL, which takes Parquet files and completes those that are there; "
                    "leave out --format and --overwrite"
                )
            return Target(folder=output)
        file = None if output is None else Path(output)
        if folders and file is not None and not file.suffix and format is None:
            raise ValueError(
                f"{output} has no suffix that selects a format; use one of {suffixes}, or {output}/ for a folder of "
                "Parquet files"
            )
        chosen = choose_format(file, format, formats)
        if file is not None:
            check_output(file, overwrite=overwrite)
        elif not errors.has_output():
            raise ValueError("there is no standard output to write to; name a file with --output")
        return Target(file, chosen, overwrite, file is None and console.is_terminal(sys.stdout), spreadsheet_safe)

    options: dict[str, tuple[Any, Any]] = {
        "output": (Annotated[str | None, output], None),
        "format": (Annotated[choice | None, format], None),
        "overwrite": (Overwrite, False),
    }
    if {"csv", "parquet"} <= set(formats):  # rows that hold the names of somebody's images
        options["spreadsheet_safe"] = (SpreadsheetSafe, False)
    return Bundle(options, build)


Rows = Annotated[Target, results(*FORMATS_OF["rows"])]

CALIBRATION_IMAGES = 64
_WRITTEN = ("output", "html", "report", "db")  # options that name what a command writes


def spell_out(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: its bundles as their options, with `--image-limit`, `--quiet` and `--debug`."""
    hints = get_type_hints(command, include_extras=True)
    bundles: dict[str, Bundle] = {}
    options: dict[str, tuple[Any, Any]] = {}
    for each in signature(command).parameters.values():
        bundle = getattr(hints[each.name], "__metadata__", (None,))[0]
        if isinstance(bundle, Bundle):
            bundles[each.name] = bundle
            options |= bundle.options
        else:
            options[each.name] = (hints[each.name], each.default)
    shared = {"image_limit": (_LIMIT, None), "quiet": (_QUIET, False), "debug": (_DEBUG, False)}
    assert not options.keys() & shared.keys()
    options |= shared
    offered = {name: option for name, option in options.items() if name not in LEFT_OUT}

    # `main` reads `debug` before options are parsed
    def spelled_out(*, image_limit: list[str] | None, quiet: bool, debug: bool, **given: Any) -> None:
        given = {name: default for name, (_, default) in options.items() if name in LEFT_OUT} | given
        if quiet:
            errors.quiet_output()
        if image_limit:
            set_limits(image_limit)
        is_model = hints.get("model") in (Model, WeightSet, IndexModel)
        if is_model or hints.get("weights") == Weights:
            from convit.inference.models import check_model

            check_model(given["model"] if is_model else None, given.get("weights"))
        if hints.get("device") == Device:
            check_device_name(given["device"])
        _read_hyphens(given, {option for bundle in bundles.values() for option in bundle.options})
        for name, bundle in bundles.items():
            given[name] = bundle.build(**{option: given.pop(option) for option in bundle.options})
        command(**given)

    spelled_out.__doc__ = command.__doc__
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in offered.items()
    ]
    spelled_out.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    spelled_out.__annotations__ = {name: annotation for name, (annotation, _) in offered.items()}
    return spelled_out


def _read_hyphens(given: dict[str, Any], bundled: Container[str]) -> None:
    """Take "-" as other programs do, for standard output, where a bundle of options writes there; else refuse it."""
    for name in (name for name in _WRITTEN if str(given.get(name)) == "-"):
        if name not in bundled:
            raise ValueError(f"--{name} is '-', but standard output takes no such file or folder; name one")
        given[name] = None


def print_result(text: str | None, result: Mapping[str, Any]) -> None:
    """Print a single result: as text, if any, on a terminal, as one JSON object in a pipe; nothing with `--quiet`."""
    if errors.is_quiet():
        return
    if not console.is_terminal(sys.stdout):
        from convit.output.text import as_json  # brings numpy

        print(as_json({name: str(value) if isinstance(value, Path) else value for name, value in result.items()}))
    elif text is not None:
        print(console.printable(text))
