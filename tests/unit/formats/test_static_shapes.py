"""Output shapes that follow from input shapes, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from serving.formats.static_shapes import has_static_outputs
from tests.unit.formats import architectures
from tests.unit.formats.nets import written


@pytest.mark.parametrize(
    "build",
    [
        architectures.mlp,
        architectures.lenet,
        architectures.residual_cnn,
        architectures.transformer,
        architectures.trees,
        architectures.recurrent,
    ],
)
def test_shapes_follow_from_the_inputs(build: Any) -> None:
    assert has_static_outputs(build().graph)


@pytest.mark.parametrize(
    "graph",
    [
        "(float[N,4] x) => (y) { y = NonZero(x) }",
        "(float[N,4] x, int64[2] s) => (y) { y = Reshape(x, s) }",
        "(float[N,4] x, int64[2] s) => (y) { t = Abs(s) y = Expand(x, t) }",
        "(int64 n) => (y) { z = Constant<value_int=0>() o = Constant<value_int=1>() "
        "y = Range(z, n, o) }",
        "(float[N,4] x, int64[1] k) => (y) { y, i = TopK(x, k) }",
        "(float[N,4] x, int64[1] e) => (y) { s = Constant<value_ints=[0]>() y = Slice(x, s, e) }",
        "(float[N,4] x) => (y) { y = com.acme.Mystery(x) }",
        "(float[N,4] x) => (y) { m = ReduceMax<keepdims=0>(x) i = Cast<to=7>(m) "
        "a = Constant<value_ints=[0]>() u = Unsqueeze(i, a) y = ConstantOfShape(u) }",
        "(float[N,4] x) => (z, y) { z = Relu(x) y = NonZero(z) }",
    ],
)
def test_shapes_that_depend_on_values_are_found(graph: str) -> None:
    assert not has_static_outputs(written(graph).graph)


def test_list_of_maps_has_no_static_shape() -> None:
    assert not has_static_outputs(architectures.pipeline().graph)
