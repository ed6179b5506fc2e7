"""What is known of each architecture without building it; a test compares params and macs with the built cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    family: str  # the module of msedge.models that registers it
    image_size: int  # pixels, of the published weights (or the default, where there are none)
    params: int  # learned numbers with 1000 classes
    macs: int  # multiply-adds for one image of image_size
    top1: float | None = None  # per cent on ImageNet-1k, of the published weights, as published
    licence: str | None = None  # of the published weights, as their source states it
    source: str | None = None  # repository of the published weights on huggingface.co


_TIMM = "timm/"
_APPLE = "Apple sample code"  # github.com/apple/ml-cvnets/blob/main/LICENSE
_TINYVIT = ".dist_in22k_ft_in1k"
_AUGREG = ".augreg_in21k_ft_in1k"

CATALOGUE: dict[str, Entry] = {
    "deit_tiny": Entry("vit", 224, 5_717_416, 1_258_223_040, 72.2, "Apache-2.0", _TIMM + "deit_tiny_patch16_224.fb_in1k"),
    "deit_small": Entry("vit", 224, 22_050_664, 4_607_961_984, 79.8, "Apache-2.0", _TIMM + "deit_small_patch16_224.fb_in1k"),
    "vit_tiny": Entry("vit", 224, 5_717_416, 1_258_223_040, 75.5, "Apache-2.0", _TIMM + "vit_tiny_patch16_224" + _AUGREG),
    "vit_small": Entry("vit", 224, 22_050_664, 4_607_961_984, 81.4, "Apache-2.0", _TIMM + "vit_small_patch16_224" + _AUGREG),
    "mobilevit_xxs": Entry("mobilevit", 256, 1_272_024, 418_183_680, 69.0, _APPLE, _TIMM + "mobilevit_xxs.cvnets_in1k"),
    "mobilevit_xs": Entry("mobilevit", 256, 2_317_848, 1_052_168_192, 74.7, _APPLE, _TIMM + "mobilevit_xs.cvnets_in1k"),
    "mobilevit_s": Entry("mobilevit", 256, 5_578_632, 2_033_383_424, 78.3, _APPLE, _TIMM + "mobilevit_s.cvnets_in1k"),
    "poolformer_s12": Entry(
        "poolformer", 224, 11_915_176, 1_812_269_568, 77.2, "Apache-2.0", _TIMM + "poolformer_s12.sail_in1k"
    ),
    "efficientformer_l1": Entry(  # as timm measured these weights; the paper has 79.2, after fewer epochs
        "efficientformer", 224, 12_289_928, 1_302_113_344, 80.5, "Apache-2.0", _TIMM + "efficientformer_l1.snap_dist_in1k"
    ),
    "swin_nano": Entry("swin", 128, 2_559_046, 212_356_608),
    "swin_micro": Entry("swin", 224, 9_747_868, 1_899_940_736),
    "swin_tiny": Entry("swin", 224, 28_288_354, 4_509_194_496, 81.2, "MIT", _TIMM + "swin_tiny_patch4_window7_224.ms_in1k"),
    "tiny_vit_5m": Entry("tinyvit", 224, 5_392_764, 1_270_417_280, 80.7, "Apache-2.0", _TIMM + "tiny_vit_5m_224" + _TINYVIT),
    "tiny_vit_11m": Entry("tinyvit", 224, 10_996_972, 2_033_095_680, 83.2, "Apache-2.0", _TIMM + "tiny_vit_11m_224" + _TINYVIT),
    "tiny_vit_21m": Entry("tinyvit", 224, 21_198_568, 4_275_734_016, 84.8, "Apache-2.0", _TIMM + "tiny_vit_21m_224" + _TINYVIT),
}
