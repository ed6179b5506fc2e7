"""What a recipe may say. Every class is frozen; units and meanings stand beside the fields."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DrawnConfig:
    """Size of the drawn set, where `data.root` is `builtin:catdog`."""

    train: int = 1200  # images
    val: int = 400  # images
    size: int = 160  # pixels, square
    seed: int = 0


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image. Each is a pure function of (seed, epoch, image)."""

    seed: int | None = None  # None: the recipe's seed
    views: int = 0  # epoch e uses the random numbers of epoch e % views; 0: new ones in every epoch
    crop_scale: tuple[float, float] = (0.5, 1.0)  # share of the area that a random crop keeps
    crop_ratio: tuple[float, float] = (0.75, 1.3333)  # width / height of the crop
    hflip: float = 0.5  # probability
    rotate: float = 0.0  # degrees, drawn from [-rotate, rotate]
    color_jitter: float = 0.3  # strength of brightness, contrast, saturation changes
    gray: float = 0.0  # probability
    auto: str = "none"  # none, trivial (TrivialAugmentWide)
    erase: float = 0.0  # probability of erasing a rectangle
    mixup: float = 0.0  # alpha of Beta; 0: off
    cutmix: float = 0.0  # alpha of Beta; 0: off
    mix_prob: float = 1.0  # share of the batches that are mixed


@dataclass(frozen=True)
class DataConfig:
    root: str = "builtin:catdog"  # or a folder with train/<class>/ and val/<class>/, or with <class>/
    val_fraction: float = 0.1  # where the folder has no val/
    max_train: int | None = None  # use at most so many images, balanced over the classes
    max_val: int | None = None
    batch_size: int = 32
    eval_batch_size: int = 50
    workers: int = 2  # threads that decode and augment
    drawn: DrawnConfig = field(default_factory=DrawnConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class ModelConfig:
    name: str = "mobilevit_xxs"  # a name of `msedge models`, or mindcv:<name>
    image_size: int = 128  # pixels, square
    weights: str | None = None  # a file or checkpoint folder to start from, hf:timm/<name>, mindcv:<name>, or published
    config: dict = field(default_factory=dict)  # widths that differ from the architecture's own


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 20
    lr: float = 1e-3  # peak
    min_lr: float = 1e-5
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float = 5.0  # global gradient norm; 0: off
    label_smoothing: float = 0.1
    ema: float = 0.0  # decay of the averaged weights; 0: off
    early_stop: int = 0  # epochs without a better validation accuracy; 0: off
    save_minutes: float = 5.0  # last.ckpt is written after each epoch and this often inside one


@dataclass(frozen=True)
class TeacherConfig:
    """Exactly one source: `model` (trained by this recipe), `recipe`, `checkpoint` (a folder) or `onnx` (a file)."""

    model: ModelConfig | None = None
    train: TrainConfig | None = None  # None: the recipe's own
    augment: AugmentConfig | None = None  # None: the recipe's own
    recipe: str | None = None
    checkpoint: str | None = None
    onnx: str | None = None


@dataclass(frozen=True)
class DistillConfig:
    """loss = kl * KL(teacher/T, student/T) * T^2 + alpha * CE + feature * MSE + attention * KL of attention maps."""

    temperature: float = 4.0
    kl: float = 1.0
    alpha: float = 0.5
    feature: float = 0.0
    attention: float = 0.0
    cache: bool = True  # keep the teacher's logits on disk (logits only; features are computed as they are needed)


@dataclass(frozen=True)
class GateConfig:
    """What a converted model must reach against its source on the golden inputs and the validation images."""

    float_cosine: float = 0.9999
    fp16_cosine: float = 0.999
    int8_cosine: float = 0.99  # quantised models of all kinds
    plan_cosine: float = 0.995  # a quantised .ms against its simulated plan
    agreement: float = 0.97  # share of images with the same top-1


@dataclass(frozen=True)
class ConvertConfig:
    target: str = "cpu"
    quant: tuple[str, ...] = ("none", "fp16", "PostTraining")
    calib_images: int = 128
    gelu: str = "exact"  # or "tanh": another function, faster in MindSpore Lite
    gate: GateConfig = field(default_factory=GateConfig)


@dataclass(frozen=True)
class QatConfig:
    """Quantisation-aware training of a finished model, which is also its teacher.

    loss = kl * KL(float model / T, quantised model / T) * T^2 + alpha * CE
    """

    checkpoint: str | None = None  # a checkpoint folder; None: the model that this recipe trains
    mode: str = "int8"  # int8 (weights and activations), or weight (weights only)
    bits: int = 8  # of weights; int8 has 8
    group: int = 0  # weights that share a scale, in mode weight; 0: all of an output channel
    activation: str = "lsq"  # how scales of activations are found: lsq (learned) or ema (moving averages of the extremes)
    momentum: float = 0.05  # share of a batch in the moving averages
    calib_images: int = 128  # training images that the first scales are made from
    epochs: int = 5
    freeze_epochs: int = 1  # at the end, with all scales as they are
    lr: float = 5e-5  # peak, of weights
    scale_lr: float = 5e-4  # peak, of the logarithms of scales and of zero points as shares of the range
    min_lr: float = 1e-6
    warmup_epochs: float = 0.5
    weight_decay: float = 0.0
    clip_norm: float = 5.0  # global gradient norm; 0: off
    ema: float = 0.98  # decay of the averaged weights and scales; 0: off
    temperature: float = 1.0
    kl: float = 1.0
    alpha: float = 0.0
    save_minutes: float = 5.0
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(crop_scale=(0.7, 1.0), color_jitter=0.2))


@dataclass(frozen=True)
class Recipe:
    name: str = "unnamed"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)  # the student, or the only model
    train: TrainConfig = field(default_factory=TrainConfig)
    teacher: TeacherConfig | None = None
    distill: DistillConfig = field(default_factory=DistillConfig)
    qat: QatConfig | None = None  # None: no quantisation-aware training
    convert: ConvertConfig = field(default_factory=ConvertConfig)
