"""What holds for every architecture of the catalogue, at full size."""

from __future__ import annotations

import re

import numpy as np
import pytest

from msedge.errors import ModelError
from msedge.models import architecture, count_macs, count_params, create_model, describe, list_models, state
from msedge.models.catalogue import CATALOGUE
from msedge.models.layers import BatchNorm2d

# of the published weights: parameters of the model that timm 1.0.31 builds; G multiply-adds at the default size as timm's
# tables and the papers have them
PUBLISHED = {
    "deit_tiny": (5_717_416, 1.26),
    "deit_small": (22_050_664, 4.6),
    "vit_tiny": (5_717_416, 1.26),
    "vit_small": (22_050_664, 4.6),
    "mobilevit_xxs": (1_272_024, 0.42),
    "mobilevit_xs": (2_317_848, 1.05),
    "mobilevit_s": (5_578_632, 2.03),
    "poolformer_s12": (11_915_176, 1.82),
    "efficientformer_l1": (12_289_928, 1.3),
    "swin_tiny": (28_288_354, 4.5),
    "tiny_vit_5m": (5_392_764, 1.3),
    "tiny_vit_11m": (10_996_972, 2.0),
    "tiny_vit_21m": (21_198_568, 4.3),
}
EVERY = pytest.mark.parametrize("name", list_models())


def test_every_architecture_with_published_weights_is_compared():
    assert set(PUBLISHED) == {name for name, entry in CATALOGUE.items() if entry.source}
    for name, entry in CATALOGUE.items():
        assert (entry.top1 is None) == (entry.licence is None) == (entry.source is None) == (name not in PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_catalogue_has_the_published_sizes(name):
    params, gmacs = PUBLISHED[name]
    assert CATALOGUE[name].params == params
    assert CATALOGUE[name].macs / 1e9 == pytest.approx(gmacs, rel=0.03)


@EVERY
def test_the_parameters_are_learned_ones_and_running_statistics(name):
    model = create_model(name)
    assert count_params(model) == CATALOGUE[name].params
    norms = [path for path, cell in model.cells_and_names() if isinstance(cell, BatchNorm2d)]
    statistics = {f"{path}.running_{kind}" for path in norms for kind in ("mean", "var")}
    assert {n for n, p in state(model).items() if not p.requires_grad} == statistics
    assert all(np.isfinite(p.asnumpy()).all() for p in state(model).values())


@pytest.mark.slow
@EVERY
def test_the_graph_multiplies_as_often_as_the_catalogue_says(ms, name):
    assert count_macs(create_model(name)) == CATALOGUE[name].macs


def refused(name: str) -> list[int]:
    """Sizes from 1 px on that the architecture cannot take."""
    arch = architecture(name)

    def takes(size: int) -> bool:
        try:
            return arch.config(size).check(size) is None
        except ModelError:
            return False

    return [size for size in range(1, 300) if not takes(size)]


@EVERY
def test_a_size_that_cannot_be_is_one_line_with_sizes_nearby_that_can(name):
    sizes = refused(name)
    assert 1 in sizes
    for size in sizes:
        with pytest.raises(ModelError) as e:
            create_model(name, image_size=size)
        text = str(e.value)
        assert "\n" not in text
        assert f"{size} px" in text
        nearby = [int(s) for s in re.findall(r"\d+", e.value.hint.rpartition("sizes nearby")[2])]
        assert min(abs(other - size) for other in nearby) <= 64
        for other in nearby:
            assert describe(name, image_size=other).image_size == other


@EVERY
def test_larger_images_fit(name):
    size = architecture(name).image_size
    for other in (size, size + 64, 2 * size):
        assert describe(name, image_size=other).image_size == other


@EVERY
@pytest.mark.parametrize("field", ["params", "macs"])
def test_a_narrower_name_of_a_family_is_smaller(name, field):
    rising = [["swin_nano", "swin_micro", "swin_tiny"], ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"]]
    rising += [["tiny_vit_5m", "tiny_vit_11m", "tiny_vit_21m"], ["deit_tiny", "deit_small"], ["vit_tiny", "vit_small"]]
    family = next((names for names in rising if name in names), [name])
    values = [getattr(CATALOGUE[n], field) for n in family]
    assert values == sorted(values)
