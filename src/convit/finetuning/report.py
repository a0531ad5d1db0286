"""The report of a fine-tuning run: one HTML file that needs nothing else, and what it says as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convit.data import Samples
from convit.evaluation import Evaluation
from convit.evaluation.page import draw_figures, render_page
from convit.evaluation.report import as_text, headlines
from convit.finetuning.baseline import Baseline, advise_freezing
from convit.finetuning.cost import Cost
from convit.finetuning.plan import Plan
from convit.model import ConViTConfig
from convit.output.files import write_file
from convit.output.text import json_text, made_with
from convit.training.epoch_log import duration
from convit.training.recipe import Recipe
from convit.training.run_folder import TrainingRun
from convit.weights.timm_config import why_not_timm

TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class RunSummary:
    """What the report says of a run.

    Attributes:
        plan: what was decided, and why.
        config: of the trained model.
        counts: (class, training images, validation images), in index order.
        seconds: that the training took in this process.
        cost: what was said beforehand; None if nothing was measured.
        unreadable, baseline, evaluation, test: as in `convit.finetuning.run.FinetuneRun`.
    """

    plan: Plan
    config: ConViTConfig
    counts: list[tuple[str, int, int]]
    unreadable: dict[str, str]
    seconds: float
    cost: Cost | None
    baseline: Baseline | None
    evaluation: Evaluation | None
    test: Evaluation | None = None

    @property
    def advice(self) -> str:
        """What to try next; empty if there is nothing to say."""
        return advise_freezing(self.baseline, self.evaluation and self.evaluation.top1, self.plan.recipe)


def write_report(output: Path, summary: RunSummary, images: Samples | None) -> Path:
    """Write `report.html` and `report.json` into a run's folder, each whole or not at all.

    The page is that of `convit evaluate --report`, with sections of its own: what was decided and why, the training,
    what it took, and how to use the file. Of the validation `images` it shows thumbnails.

    Returns:
        The path of the HTML file.

    Raises:
        OSError: a file cannot be written.
    """
    run, evaluation = _about(TrainingRun(output), summary), summary.evaluation
    done = f"{run['epochs']['done']} of {run['epochs']['planned']} epochs"
    best = run["epochs"]["best"]
    kept = f"; the weights are of epoch {best}" if best else "; the weights are those before training"
    html = render_page(
        evaluation,
        images,
        draw_figures(evaluation) if evaluation else {},
        template=TEMPLATE,
        title=f"{run['name']}: {len(summary.counts)} classes, fine-tuned",
        headlines=[
            *_scores(summary),
            ("trained on", f"{run['training_images']:,} images", f"{run['validation_images']:,} kept to validate with"),
            ("training took", run["time"], done + (kept if evaluation and best is not None else "")),
        ],
        errors=(),  # they are told above, with those of the training images
        run=run,
        curves=draw_curves(output),
    )
    write_file(output / "report.json", json_text(run), overwrite=True)
    write_file(output / "report.html", html, overwrite=True)
    return output / "report.html"


def _scores(summary: RunSummary) -> Iterator[tuple[str, str, str]]:
    """What the head of the page says of the images that were scored."""
    test, baseline = summary.test, summary.baseline
    if summary.evaluation is not None:
        yield from headlines(summary.evaluation)
    if test is not None:
        yield "test top-1", f"{test.top1:.1f} %", f"{told_top1(test)}; nothing was chosen by them"
    if baseline is not None:
        told = "logistic regression on the embeddings before training"
        yield "baseline", f"{baseline.top1:.1f} %", "; ".join(filter(None, (told, summary.advice)))


def told_top1(evaluation: Evaluation, kind: str = "test") -> str:
    """What stands behind a top-1: how many images, and its interval."""
    low, high = evaluation.intervals["top1"]
    correct, count = evaluation.correct_top1, evaluation.count
    return f"{correct:,} of {count:,} {kind} images, 95 % interval {low:.0f}-{high:.0f} %"


def timm_snippet(folder: Path) -> str:
    """A script that labels an image with timm alone, with the preprocessing, class names and temperature of a run."""
    return f"""import json

import timm
from PIL import Image, ImageOps
from safetensors import safe_open

folder = {_python(folder)}
model = timm.create_model(f"local-dir:{{folder}}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
image = ImageOps.exif_transpose(Image.open("new/photo.jpg")).convert("RGB")
with safe_open(f"{{folder}}/model.safetensors", "pt") as file:
    calibration = json.loads(file.metadata()["convit"]).get("calibration", {{"temperature": 1}})
logits = model(transform(image)[None])[0] / calibration["temperature"]
score, index = logits.softmax(dim=-1).max(dim=-1)
print(model.pretrained_cfg["label_names"][index], score.item())"""


def loss_note(recipe: Recipe) -> str:
    """Why the training loss lies above the validation loss; "" where both are measured alike."""
    mixing, augment = recipe.mixing, recipe.augment
    mixed = " or ".join(name for name, alpha in (("mixup", mixing.mixup), ("CutMix", mixing.cutmix)) if alpha)
    reasons = {
        "on randomly cropped and changed images": augment.crop != "none" or augment.rand_augment or augment.erasing,
        f"with pairs of them blended by {mixed}": mixed and mixing.probability,
        f"against labels smoothed by {mixing.label_smoothing:g}": mixing.label_smoothing,
        "with classes weighted": mixing.class_weights,
        "with parts of the network dropped at random": any(
            value for name, value in recipe.model.options.items() if name.endswith(("drop_rate", "drop_path_rate"))
        ),
    }
    told = [reason for reason, holds in reasons.items() if holds]
    if not told:
        return ""
    return (
        f"The training loss is taken {', '.join(told)}; the validation loss on plain images with plain labels. That is "
        "why the first usually lies above the second, and no sign of a mistake."
    )


def draw_curves(output: Path) -> dict[str, str]:
    """The training curves as "svg", or under "missing" what stands in their place."""
    from convit.output.plots import svg_of
    from convit.training.plots import draw_runs

    try:
        figure = draw_runs([output])
    except (ValueError, FileNotFoundError) as error:
        return {"svg": "", "missing": f"There are no curves: {error}"}
    figure.suptitle("")
    return {"svg": svg_of(figure)}


def _about(run: TrainingRun, summary: RunSummary) -> dict[str, Any]:
    plan, recipe, log = summary.plan, summary.plan.recipe, run.history
    height, width = summary.config.image_height, summary.config.image_width
    return {
        "name": recipe.data.name,
        "source": plan.source,
        "layout": plan.images.layout,
        "model": recipe.model.architecture,
        "started_from": recipe.model.weights,
        "image": [height, width],
        "counts": [
            {"name": name, "training": training, "validation": validation}
            for name, training, validation in summary.counts
        ],
        "training_images": sum(training for _, training, _ in summary.counts),
        "validation_images": sum(validation for _, _, validation in summary.counts),
        "warnings": list(plan.warnings),
        "decisions": [
            {"setting": choice.key, "value": as_text(choice.value), "reason": choice.reason}
            for choice in plan.reasons()
        ],
        "epochs": {
            "planned": recipe.schedule.total_epochs,
            "done": log[-1]["epoch"] if log else 0,
            "best": run.best.get("epoch"),
        },
        "seconds": summary.seconds,
        "time": duration(sum(line.get("seconds") or 0.0 for line in log) or summary.seconds),
        "baseline": asdict(summary.baseline) if summary.baseline else None,
        "advice": summary.advice,
        "estimated": str(summary.cost) if summary.cost else None,
        "validation": summary.evaluation.to_dict() if summary.evaluation else None,
        "test": summary.test.to_dict() if summary.test else None,
        "unreadable": summary.unreadable,
        "weights": str(run.weights),
        "loss_note": loss_note(recipe),
        "use": _commands(run.weights, summary.config),
        **made_with("convit", "torch", "lightning"),
    }


def _commands(weights: Path, config: ConViTConfig) -> dict[str, str | None]:
    path = shlex.quote(str(weights))
    return {
        "classify": f"convit classify new/ --weights {path}",
        "evaluate": f"convit evaluate more-images/ --weights {path}",
        "python": "import convit\n\n"
        f"classifier = convit.Classifier(weights={_python(weights)})\n"
        'best = classifier("new/photo.jpg")[0]  # Prediction(label, index, score)',
        "model": f"model = convit.load_model({_python(weights)})",
        "not_timm": why_not_timm(config),
        "timm": timm_snippet(weights.parent),
        "transformers": "from transformers import pipeline\n\n"
        f'label = pipeline("image-classification", model={_python(weights.parent)})\n'
        'best = label("new/photo.jpg")[0]  # {"label": …, "score": …}',
    }


def _python(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
