"""What is known of each architecture without building it; tests compare params and macs with the built cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    family: str  # the module of msedge.models that registers it
    image_size: int  # pixels, of the published weights (or the default, where there are none)
    params: int  # learned numbers with 1000 classes
    macs: int  # multiply-adds for one image of image_size
    top1: float | None = None  # per cent on ImageNet-1k, of the published weights
    licence: str = "none published"  # of the weights
    source: str = ""  # where the weights are


_APPLE = {"licence": "Apple (ml-cvnets), see source", "source": "huggingface.co/timm/{name}.cvnets_in1k"}


def _apple(name: str, params: int, macs: int, top1: float) -> Entry:
    return Entry("mobilevit", 256, params, macs, top1, _APPLE["licence"], _APPLE["source"].format(name=name))


CATALOGUE: dict[str, Entry] = {
    "mobilevit_xxs": _apple("mobilevit_xxs", 1_272_024, 420_000_000, 69.0),
    "mobilevit_xs": _apple("mobilevit_xs", 2_317_848, 1_050_000_000, 74.7),
    "mobilevit_s": _apple("mobilevit_s", 5_578_632, 2_030_000_000, 78.3),
    "swin_tiny": Entry(
        "swin", 224, 28_288_354, 4_500_000_000, 81.2, "MIT", "huggingface.co/timm/swin_tiny_patch4_window7_224.ms_in1k"
    ),
    "swin_nano": Entry("swin", 128, 1, 1),
    "tiny_vit_5m": Entry(
        "tinyvit", 224, 5_390_000, 1_300_000_000, 80.7, "Apache-2.0", "huggingface.co/timm/tiny_vit_5m_224.dist_in22k_ft_in1k"
    ),
    "tiny_vit_11m": Entry(
        "tinyvit", 224, 11_000_000, 2_000_000_000, 83.2, "Apache-2.0", "huggingface.co/timm/tiny_vit_11m_224.dist_in22k_ft_in1k"
    ),
    "tiny_vit_21m": Entry(
        "tinyvit", 224, 21_200_000, 4_300_000_000, 84.8, "Apache-2.0", "huggingface.co/timm/tiny_vit_21m_224.dist_in22k_ft_in1k"
    ),
}
