"""Recipes: everything that fixes a training run. `recipe_io.py` makes one from YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from convit.transforms.settings import TransformSettings

OF_EVALUATION = ("crop_pct", "crop_mode")  # settings of `augment` that training images never meet

AreaShare = Annotated[float, Field(gt=0, le=1)]
KeptShare = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """What all sections share: unknown keys are errors, numbers are finite, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelRecipe(Section):
    """Which model is trained.

    Attributes:
        architecture: a variant, as in `convit models`; or "timm:NAME" for a model of timm, to compare with.
        options: fields of `ConViTConfig` that differ from it, such as drop_path_rate or num_classes; for a model of
            timm, arguments of its `create_model`.
        weights: weights to start from, a weight set's name or a file, or "default" for what timm has of its model; None
            for random ones.
        freeze: what is not trained: beginnings of parameter names ("patch_embed", "blocks.0."), endings after a star
            ("*gating_param"), or "backbone" for all but the head.
        convolutional_init: starts GPSA as a convolution (paper Sec. 3); else its position weights and values are drawn
            as those of other layers are.
        initial_gate: share of position attention at the start, in (0, 1); None for the paper's sigmoid(1) = 0.73.
    """

    architecture: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    freeze: list[str] = Field(default_factory=list)
    convolutional_init: bool = True
    initial_gate: float | None = Field(default=None, gt=0, lt=1)

    @field_validator("architecture")
    @classmethod
    def _is_trained_here(cls, name: str) -> str:
        if name.startswith("torchvision:"):
            raise ValueError("models of torchvision can be teachers only; name a variant, or timm:NAME")
        return name

    @property
    def start(self) -> str:
        """What training begins with, in words."""
        return self.weights or f"{self.architecture} with random weights"


class DataRecipe(Section):
    """What it is trained on.

    Attributes:
        name: what the data is called in the file that is written.
        terms: the images' terms of use, one sentence; written into the file too.
        train: where the images are, relative to --data; all forms that `convit.data.open_dataset` takes.
        classes: JSON file with the class names, relative to --data; without it a folder's sub-folders.
        reader: "memory" keeps encoded samples in memory, "stream" reads shards one after the other.
        decode: "once" keeps decoded pixels in memory, for small images of one size; "each" decodes whenever an image is
            used.
        validation: data to watch the training by, written as `train` is.
        held_out: without `validation`, training images (whole shards with "stream") that are kept from training for it.
        share: part of the training images of each class that is used, chosen by the seed.
        balanced: shows every class equally often, whatever its number of images.
        corrupt_limit: images that may be unreadable: they are logged and others of their class take their place; one
            more stops the run.
        samples: number of training images, needed with "stream" alone.
        shuffle_buffer: images that "stream" shuffles among.
        workers: processes that load; 0 loads in the main process.
    """

    name: str
    terms: str = ""
    train: str | list[str]
    classes: str | None = None
    reader: Literal["memory", "stream"] = "memory"
    decode: Literal["each", "once"] = "each"
    validation: str | list[str] | None = None
    held_out: int = Field(default=0, ge=0)
    share: float = Field(default=1.0, gt=0, le=1)
    balanced: bool = False
    corrupt_limit: int = Field(default=20, ge=0)
    samples: PositiveInt | None = None
    shuffle_buffer: PositiveInt = 10000
    workers: int = Field(default=1, ge=0)


class RandAugmentRecipe(Section):
    """RandAugment; "rand-m9-mstd0.5-inc1" are the defaults."""

    operations: PositiveInt = 2
    magnitude: float = Field(default=9.0, ge=0, le=10)
    noise: float = Field(default=0.5, ge=0)
    probability: float = Field(default=0.5, ge=0, le=1)


class AugmentRecipe(Section):
    """How single images are preprocessed and varied: `TransformSettings`, and the arguments of `training_transform`."""

    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_pct: float = Field(default=0.875, gt=0, le=1)
    crop_mode: Literal["center", "squash", "border"] = "center"
    crop: Literal["resized", "padded", "none"] = "resized"
    scale: tuple[AreaShare, AreaShare] = (0.08, 1.0)
    padding: int = Field(default=4, ge=0)
    flip: float = Field(default=0.5, ge=0, le=1)
    rand_augment: RandAugmentRecipe | None = None
    color_jitter: float = Field(default=0.0, ge=0)
    erasing: float = Field(default=0.0, ge=0, le=1)
    repeats: PositiveInt = 1

    @model_validator(mode="after")
    def _scale_rises(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale goes from {self.scale[0]} to {self.scale[1]}; write the smaller share first")
        return self

    @property
    def evaluated_crop(self) -> str:
        """How evaluation crops, in words: accuracies that were measured with another crop do not compare."""
        return f"{self.crop_mode} {self.crop_pct}"

    def preprocessing(self, height: int = 224, width: int = 224) -> TransformSettings:
        """How images are prepared without variation: in validation, and by whoever uses the trained weights."""
        return TransformSettings.from_card(dict(self), input_size=(3, height, width))


class MixingRecipe(Section):
    """How images of a batch are mixed.

    Attributes:
        mixup, cutmix: alpha of their Beta distribution; 0 leaves them out.
        probability: that a batch is mixed at all.
        switch: that a mixed batch takes cutmix, where both are on.
        label_smoothing: share of the target that is spread over all classes.
        off_epochs: last epochs without mixing.
        class_weights: weight of each class in the loss, or "balanced" for the inverse of its number of images; None
            weighs all images alike.
    """

    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    probability: float = Field(default=1.0, ge=0, le=1)
    switch: float = Field(default=0.5, ge=0, le=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    off_epochs: int = Field(default=0, ge=0)
    class_weights: Literal["balanced"] | list[PositiveFloat] | None = None


class DistillationRecipe(Section):
    """What is learned from a teacher beside the labels.

    Attributes:
        teacher: a weight set of ours or a file, "timm:NAME" or "torchvision:NAME"; it must know the same classes.
        kind: "soft" follows the teacher's probabilities (Hinton et al. 2015), "hard" its best class (Touvron et al.
            2021, without their distillation token).
        weight: share of the teacher's loss in the whole.
        temperature: softens both sides' probabilities with "soft".
    """

    teacher: str
    kind: Literal["soft", "hard"] = "soft"
    weight: float = Field(default=0.5, gt=0, le=1)
    temperature: PositiveFloat = 1.0


class OptimizerRecipe(Section):
    """AdamW, or Muon with AdamW.

    Attributes:
        name: "adamw", the paper's; "muon" takes Muon for the weight matrices inside the blocks and AdamW for the rest.
        lr: peak learning rate for 512 images per step; scaled with the true number. Muon's steps are as large as
            AdamW's.
        weight_decay: decoupled, for matrices and convolutions only.
        betas, eps: AdamW's.
        momentum: Muon's.
        clip_norm: the gradient's norm is cut to this; None leaves it.
        layer_decay: factor of the learning rate from one block to the one below it; the head has the full rate.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: PositiveFloat = 5e-4
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[KeptShare, KeptShare] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    momentum: float = Field(default=0.95, ge=0, lt=1)
    clip_norm: PositiveFloat | None = None
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class ScheduleRecipe(Section):
    """Epochs and the learning rate: linear warm-up, then cosine or constant with a final decay, then cool-down.

    Attributes:
        epochs: with warm-up, without cool-down.
        warmup_epochs: linear rise of the learning rate; it ends with `epochs` at the latest.
        warmup_lr: where it begins; like `min_lr` it is not scaled with the batch.
        min_lr: where the learning rate ends.
        decay_epochs: last of `epochs`, those after the warm-up at most, over which the rate falls linearly from its
            peak, which it keeps until then; None follows half a cosine from the end of the warm-up. With a constant
            rate a run can be extended, and finished from any of its checkpoints.
        cooldown_epochs: epochs at `min_lr` afterward.
        final_epochs: last epochs, cool-down included, at `final_img_size`.
        final_img_size: side of the images in them, pixels; weights of these epochs are written for it.
        patience: epochs without a better top-1 on the validation images after which training stops; None never stops.
    """

    epochs: PositiveInt = 300
    warmup_epochs: float = Field(default=5.0, ge=0)
    warmup_lr: float = Field(default=1e-6, ge=0)
    min_lr: float = Field(default=1e-5, ge=0)
    decay_epochs: int | None = Field(default=None, ge=0)
    cooldown_epochs: int = Field(default=10, ge=0)
    final_epochs: int = Field(default=0, ge=0)
    final_img_size: PositiveInt | None = None
    patience: PositiveInt | None = None

    @property
    def total_epochs(self) -> int:
        """Epochs with cool-down."""
        return self.epochs + self.cooldown_epochs

    @property
    def early_epochs(self) -> int:
        """Epochs before those at `final_img_size`."""
        return self.total_epochs - self.final_epochs

    @model_validator(mode="after")
    def _final_epochs_have_a_size(self) -> Self:
        if (self.final_epochs > 0) != (self.final_img_size is not None):
            raise ValueError("final_epochs and final_img_size go together; set both or none")
        return self


class EmaRecipe(Section):
    """Exponential moving average of the weights; the average is what is evaluated and exported."""

    decay: float = Field(default=0.999, ge=0, lt=1)


class RunRecipe(Section):
    """How it runs.

    Attributes:
        batch_size: images per step in all processes together.
        accumulate: parts that a step's images are computed in; "auto" takes as few as fit into the GPU's memory.
        precision: "fp32", "bf16" (mixed; fp32 on processors that multiply bf16 numbers more slowly) or "fp16" (mixed);
            "auto" measures training steps at the start on a CPU and takes the faster of fp32 and bf16; on a GPU it is
            bf16 or, where it has none, fp16. What was chosen stands in `environment.yaml` and is kept on a resume.
        threads: that a CPU computes with; None for PyTorch's choice. Another number rounds differently.
        compile: runs the model through torch.compile.
        activation_checkpointing: keeps only the tokens between blocks and computes the rest again: less memory, slower.
        devices: "auto" or a number of processes or GPUs per node.
        nodes: machines, started by torchrun or SLURM.
        strategy: "ddp": each process has the whole model, 153 M parameters at most; "auto" is ddp where there are
            several.
        checkpoint_minutes: time between checkpoints within an epoch; each epoch ends with one too.
        checkpoint_steps: steps between them, where set.
        keep: checkpoints that are kept.
        select: weights that are written at the end: the "last", or those of the epoch with the "best" top-1 on the
            validation images.
        export: precision of the weights that are written at the end.
        loggers: where metrics go besides `log.jsonl`; those that are not installed are left out, "wandb" alone is an
            error then.
        attention_images: images on which gates and non-locality (paper Eq. 8) are measured after each epoch; 0: none.
    """

    batch_size: PositiveInt = 1024
    accumulate: Literal["auto"] | PositiveInt = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "bf16"
    threads: PositiveInt | None = None
    compile: bool = False
    activation_checkpointing: bool = False
    devices: Literal["auto"] | PositiveInt = "auto"
    nodes: PositiveInt = 1
    strategy: Literal["auto", "ddp"] = "auto"
    checkpoint_minutes: PositiveFloat = 10.0
    checkpoint_steps: PositiveInt | None = None
    keep: PositiveInt = 2
    select: Literal["last", "best"] = "last"
    export: Literal["fp32", "fp16", "bf16"] = "fp32"
    loggers: list[Literal["csv", "tensorboard", "wandb"]] = Field(default_factory=lambda: ["csv", "tensorboard"])
    attention_images: int = Field(default=128, ge=0, le=128)


class Recipe(Section):
    """A whole training run."""

    name: str
    seed: int = Field(default=0, ge=0, lt=2**32)
    model: ModelRecipe
    data: DataRecipe
    augment: AugmentRecipe = AugmentRecipe()
    mixing: MixingRecipe = MixingRecipe()
    distillation: DistillationRecipe | None = None
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    ema: EmaRecipe | None = None
    run: RunRecipe = RunRecipe()
