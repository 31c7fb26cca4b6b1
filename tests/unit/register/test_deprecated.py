"""The registration of before MindSpore Serving 1.5 becomes the same stages."""

# ruff: noqa: RET504  (outputs are counted where they are assigned)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serving import register
from serving.definition import Function
from serving.register import registry
from serving.register.registry import Registry


@pytest.fixture(autouse=True)
def opened() -> Iterator[Registry]:
    with registry.opened("shop") as found:
        yield found


def before(x: Any, y: Any) -> Any:
    return x, y


def after(instances: Any) -> Any:
    yield from instances


def test_old_form_becomes_stages(opened: Registry) -> None:
    register.declare_servable(servable_file="m.mindir", model_format="MindIR", with_batch_dim=False)

    @register.register_method(output_names=["z"])
    def predict(x: Any, y: Any) -> Any:
        """Have all three."""
        x, y = register.call_preprocess(before, x, y)
        s, _ = register.call_servable(x, y)
        z = register.call_postprocess_pipeline(after, s)
        return z

    definition = opened.definition()
    (method,) = definition.methods
    assert [(n.name, n.outputs, n.tag) for n in method.nodes] == [
        ("before", 2, "Preprocess"),
        ("m.mindir", 2, ""),
        ("after", 1, "Postprocess"),
    ]
    assert definition.functions == (Function("before", 2, 2), Function("after", 1, 1, 0))
    assert not definition.model("m.mindir").with_batch_dim


def declare(*names: str) -> None:
    for name in names:
        register.declare_servable(name, "mindir")


def test_old_form_needs_one_model() -> None:
    def predict(x: Any) -> Any:
        y = register.call_servable(x)
        return y

    with pytest.raises(RuntimeError, match="There is no model declared"):
        register.register_method("y")(predict)
    declare("a", "b")
    with pytest.raises(RuntimeError, match="more than one servable declared when the interface"):
        register.register_method("y")(predict)


def in_a_loop(x: Any) -> Any:
    for _ in range(1):
        x = register.call_servable(x)
    return x


def returned(x: Any) -> Any:
    return register.call_servable(x)


@pytest.mark.parametrize("method", [in_a_loop, returned])
def test_old_form_is_refused_where_outputs_cannot_be_counted(method: Any) -> None:
    declare("a")
    with pytest.raises(RuntimeError, match=r"complex statements .* use 'add_stage' to replace"):
        register.register_method("y")(method)


def late(x: Any) -> Any:
    y = register.call_servable(x)
    y = register.call_preprocess_pipeline(after, y)
    return y


def twice(x: Any) -> Any:
    y = register.call_servable(x)
    y = register.call_servable(y)
    return y


def post_first(x: Any) -> Any:
    y = register.call_postprocess_pipeline(after, x)
    y = register.call_servable(y)
    return y


ORDERS = [
    (late, "call_servable should be invoked after call_preprocess"),
    (twice, "call_servable should not be invoked more than once"),
    (post_first, "call_postprocess or call_postprocess_pipeline should be invoked after call_serv"),
]


@pytest.mark.parametrize(("method", "text"), ORDERS)
def test_old_form_keeps_its_order(method: Any, text: str) -> None:
    declare("a")
    with pytest.raises(RuntimeError) as caught:
        register.register_method("y")(method)
    assert f"Check failed in method '{method.__name__}', {text}" in str(caught.value)


def test_old_form_belongs_into_a_method() -> None:
    with pytest.raises(RuntimeError, match="call_preprocess can only be used in a function that"):
        register.call_preprocess(before, 1)
