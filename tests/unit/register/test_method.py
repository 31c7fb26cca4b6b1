"""Methods and stages: the graph that is kept, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serving import register
from serving.definition import INPUTS, Function, Kind, Method, Node, Ref
from serving.register import registry
from serving.register.registry import Registry


@pytest.fixture(autouse=True)
def opened() -> Iterator[Registry]:
    with registry.opened("shop") as found:
        yield found


def double(x: Any) -> Any:
    return x


def swap(x: Any, y: Any) -> Any:
    return y, x


def each(instances: Any) -> Any:
    yield from instances


def test_method_is_the_graph_that_its_function_builds(opened: Registry) -> None:
    model = register.declare_model("m.mindir", "MindIR")

    @register.register_method(output_names=["sum", "same"])
    def predict(x: Any, y: Any) -> Any:
        y, x = register.add_stage(swap, x, y, outputs_count=2, tag="Preprocess")
        total = register.add_stage(model, y, x, outputs_count=1)
        best = register.add_stage("argmax_cpp", total, outputs_count=1)
        return best, y

    first, second = Ref(INPUTS, 0), Ref(INPUTS, 1)
    assert opened.definition().methods == (
        Method(
            "predict",
            ("x", "y"),
            ("sum", "same"),
            (
                Node(Kind.FUNCTION, "swap", (first, second), 2, tag="Preprocess"),
                Node(Kind.MODEL, "m.mindir", (Ref(0, 0), Ref(0, 1)), 1),
                Node(Kind.BUILTIN, "argmax_cpp", (Ref(1, 0),), 1),
            ),
            (Ref(2, 0), Ref(0, 0)),
        ),
    )
    assert opened.definition().functions == (Function("swap", 2, 2),)
    assert opened.calls == {"swap": swap}


def test_method_may_use_loops_and_conditions(opened: Registry) -> None:
    @register.register_method("y")
    def predict(x: Any) -> Any:
        for step in range(4):
            if step % 2:
                x = register.add_stage(double, x, outputs_count=1)
        return x

    (method,) = opened.definition().methods
    assert [node.inputs for node in method.nodes] == [(Ref(INPUTS, 0),), (Ref(0, 0),)]


def test_method_may_return_what_it_is_given(opened: Registry) -> None:
    register.register_method(("b", "a"))(lambda a, b: [b, a])
    (method,) = opened.definition().methods
    assert (method.inputs, method.nodes) == (("a", "b"), ())
    assert method.returns == (Ref(INPUTS, 1), Ref(INPUTS, 0))


def test_method_function_stays_what_it_was() -> None:
    @register.register_method("y")
    def predict(x: Any) -> Any:
        return x

    assert predict(3) == 3


def stage(function: Any, *, name: str, **how: Any) -> None:
    def method(x: Any) -> Any:
        return register.add_stage(function, x, **{"outputs_count": 1, **how})

    method.__name__ = name
    register.register_method("y")(method)


def test_functions_keep_the_batch_size_that_was_asked_for(opened: Registry) -> None:
    stage(double, name="a")
    stage(each, name="b", batch_size=0)
    assert opened.definition().functions == (
        Function("double", 1, 1, None),
        Function("each", 1, 1, 0),
    )


@pytest.mark.parametrize(
    ("sizes", "kept"), [((8, 4), 4), ((4, 8), 4), ((0, 8), 8), ((8, 0), 8), ((0, 0), 0)]
)
def test_functions_of_several_stages_keep_to_the_smallest_batch_size(
    opened: Registry, sizes: tuple[int, int], kept: int
) -> None:
    for number, size in enumerate(sizes):
        stage(each, name=f"m{number}", batch_size=size)
    assert opened.definition().functions == (Function("each", 1, 1, kept),)


def test_functions_of_one_name_are_told_apart(opened: Registry) -> None:
    def adder(number: int) -> Any:
        def add(x: Any) -> Any:
            return x + number

        return add

    one, two = adder(1), adder(2)
    for name, function in (("a", one), ("b", two), ("c", one)):
        stage(function, name=name)
    nodes = [method.nodes[0].name for method in opened.definition().methods]
    assert nodes == ["add", "add#2", "add"]
    assert [opened.calls[name](1) for name in nodes] == [2, 3, 2]


def test_functions_may_be_methods_of_an_object(opened: Registry) -> None:
    class Tokenizer:
        def encode(self, x: Any) -> Any:
            return x

    tokenizer = Tokenizer()
    stage(tokenizer.encode, name="a")
    stage(tokenizer.encode, name="b")
    assert opened.definition().functions == (Function("encode", 1, 1),)


def test_functions_may_have_parameters_with_a_default(opened: Registry) -> None:
    def resize(x: Any, size: int = 8) -> Any:
        return x

    stage(resize, name="a")
    assert opened.definition().functions == (Function("resize", 1, 1),)


OUTPUTS: list[tuple[Any, str]] = [
    (double, "should be str or tuple/list of str, but actually <class 'function'>"),
    ([], "Parameter 'output_names' should not be empty"),
    (["y", "y"], "The item value 'y' in parameter 'output_names' should not be repeated"),
    ([""], "The item of parameter 'output_names' should not be empty str"),
]


@pytest.mark.parametrize(("names", "text"), OUTPUTS)
def test_method_refuses_wrong_output_names(names: Any, text: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        register.register_method(names)
    assert text in str(caught.value)


PARAMETERS: list[tuple[Any, str]] = [
    (lambda *x: x, "'<lambda>' input x cannot be VAR_POSITIONAL !"),
    (lambda **x: x, "'<lambda>' input x cannot be VAR_KEYWORD !"),
    (lambda a, *, x: x, "'<lambda>' input x cannot be KEYWORD_ONLY !"),
    (lambda: 1, "Method '<lambda>' has no inputs"),
    (lambda x: 1, "Each value returned is a placeholder for data and must come from the method"),
    (lambda x: (x, None), "Each value returned is a placeholder for data"),
    (lambda x: (x, x), "Method return output size 2 not match registered 1"),
]


@pytest.mark.parametrize(("function", "text"), PARAMETERS)
def test_method_refuses_what_is_no_graph(opened: Registry, function: Any, text: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        register.register_method("y")(function)
    assert text in str(caught.value)
    assert not opened.definition().methods


def test_method_names_are_unique() -> None:
    stage(double, name="a")
    with pytest.raises(RuntimeError, match="method 'a' has been registered more than once"):
        stage(double, name="a")


def in_method(body: Any) -> Any:
    def predict(x: Any) -> Any:
        return body(x)

    return register.register_method("y")(predict)


STAGES: list[tuple[Any, str]] = [
    (lambda x: register.add_stage(double, 3, outputs_count=1), "Each value of parameter *args is"),
    (lambda x: register.add_stage(double, outputs_count=1), "inputs count of a stage cannot be 0"),
    (lambda x: register.add_stage(double, x, outputs_count=0), "'outputs_count' should be >= 1"),
    (lambda x: register.add_stage(double, x, outputs_count="1"), "'outputs_count' should be int"),
    (lambda x: register.add_stage(double, x, outputs_count=1, tag=""), "'tag' should not be empty"),
    (lambda x: register.add_stage(double, x, x, outputs_count=1), "function double input args count"
     " 1 not match the count 2 registered in method"),
    (lambda x: register.add_stage(each, x, outputs_count=1, batch_size=-1), "'batch_size' should be"
     " >= 0"),
    (lambda x: register.add_stage(int, x, outputs_count=1), "the parameter 'stage' of add_stage "
     "must be function or Model returned by declare_model, now is <class 'type'>"),
    (lambda x: register.add_stage(register.Model("m"), x, outputs_count=1), "and ensure that "
     "interface 'declare_model' can take effect when importing servable_config.py"),
    (lambda x: register.add_stage("argmin_cpp", x, outputs_count=1), "the stage 'argmin_cpp' has "
     "not been registered; built-in stages: 'argmax_cpp'"),
    (lambda x: register.add_stage("argmax_cpp", x, outputs_count=2), "Stage function 'argmax_cpp' "
     "outputs count 2 not match last registered count 1, method name 'predict'"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), STAGES)
def test_stage_refuses_wrong_arguments(body: Any, text: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        in_method(body)
    assert text in str(caught.value)


def test_stage_belongs_into_a_method() -> None:
    with pytest.raises(RuntimeError, match="can only be used in a function that is wrapped by reg"):
        register.add_stage(double, 1, outputs_count=1)


def test_stage_refuses_placeholders_of_another_method() -> None:
    kept: list[Any] = []
    in_method(lambda x: (kept.append(x), x)[1])
    with pytest.raises(RuntimeError, match="must come from the method inputs"):
        in_method(lambda x: register.add_stage(swap, x, kept[0], outputs_count=2)[0])


def test_stages_agree_on_the_counts_of_a_function() -> None:
    stage(lambda x, y=0: x, name="a")
    free = lambda *x: x  # noqa: E731
    stage(free, name="b")
    with pytest.raises(
        RuntimeError,
        match=r"Stage function 'shop.<lambda>#2' inputs count 2 not match last registered count 1, "
        "method name 'predict'",
    ):
        in_method(lambda x: register.add_stage(free, x, x, outputs_count=1))


def test_stages_agree_on_whether_a_function_takes_batches() -> None:
    stage(double, name="a")
    with pytest.raises(RuntimeError, match="should be enabled or disabled consistently"):
        stage(double, name="b", batch_size=1)


def test_stages_agree_on_the_counts_of_a_model() -> None:
    model = register.declare_model("m.mindir", "MindIR")
    in_method(lambda x: register.add_stage(model, x, outputs_count=1))
    with pytest.raises(
        RuntimeError,
        match="Model 'm.mindir' inputs count 2 not match last registered count 1",
    ):
        in_method(lambda x: register.add_stage(model, x, x, outputs_count=1))
