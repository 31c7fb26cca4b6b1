"""Which small models stand for what an engine may not know of a large one."""

from __future__ import annotations

import base64

import onnx
import pytest
from onnx import helper

from serving.formats.onnx_model import examine
from serving.formats.onnx_trials import trials
from tests.unit.formats.nets import written

RELU = "(float[N,4] x) => (y) { y = Relu(x) }"
CUSTOM = ("com.acme", "Swirl")


def with_custom(net: onnx.ModelProto) -> onnx.ModelProto:
    net.graph.node[0].domain, net.graph.node[0].op_type = CUSTOM
    net.opset_import.add(domain="com.acme", version=1)
    return net


def asked(net: onnx.ModelProto) -> list[tuple[str, str]]:
    models = [onnx.ModelProto.FromString(base64.b64decode(text)) for text in trials(net)]
    return [(m.graph.node[0].domain, m.graph.node[0].op_type) for m in models]


def test_model_that_every_engine_knows_asks_for_nothing() -> None:
    assert trials(written(RELU)) == ()
    assert examine(written(RELU)).trials == ()


@pytest.mark.parametrize(
    ("domain", "version"), [("", 22), ("ai.onnx", 99), ("ai.onnx.ml", 6), ("com.microsoft", 2)]
)
def test_new_opset_is_asked_about_as_the_model_has_it(domain: str, version: int) -> None:
    net = written(RELU)
    del net.opset_import[:]
    net.opset_import.add(domain=domain, version=version)
    (text,) = trials(net)
    trial = onnx.ModelProto.FromString(base64.b64decode(text))
    assert (domain, version) in [(o.domain, o.version) for o in trial.opset_import]
    assert {"", "ai.onnx"} & {o.domain for o in trial.opset_import}


def test_new_file_version_is_asked_about() -> None:
    net = written(RELU)
    net.ir_version = 99
    (text,) = trials(net)
    assert onnx.ModelProto.FromString(base64.b64decode(text)).ir_version == 99


def test_operator_that_is_not_of_the_standard_is_asked_about() -> None:
    assert CUSTOM in asked(with_custom(written(RELU)))


def test_function_of_the_model_itself_is_not_asked_about_but_what_it_is_made_of_is() -> None:
    net = with_custom(written(RELU))
    opsets = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Relu", ["x"], ["y"])]
    net.functions.append(helper.make_function(*CUSTOM, ["x"], ["y"], body, opsets))
    assert CUSTOM not in asked(net)
    net.functions[0].node[0].domain, net.functions[0].node[0].op_type = "com.acme", "Twist"
    assert ("com.acme", "Twist") in asked(net)
    assert CUSTOM not in asked(net)


def test_operator_in_a_branch_is_asked_about() -> None:
    net = written(RELU)
    inner = helper.make_node("Swirl", ["x"], ["z"], domain="com.acme")
    branch = helper.make_graph([inner], "b", [], [onnx.ValueInfoProto(name="z")])
    net.graph.node.append(
        helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    )
    assert asked(net) == [CUSTOM]


def test_case_of_words_is_asked_about_as_the_model_changes_it_for_it_needs_a_locale() -> None:
    text = '(string[N] x) => (y) { a = StringNormalizer<case_change_action="LOWER",locale="xx">(x) '
    text += 'b = StringNormalizer<case_change_action="LOWER",locale="xx">(a) y = Identity(b) }'
    (trial,) = trials(written(text))
    net = onnx.ModelProto.FromString(base64.b64decode(trial))
    assert {a.name: helper.get_attribute_value(a) for a in net.graph.node[0].attribute} == {
        "case_change_action": b"LOWER",
        "locale": b"xx",
    }
    (given,) = net.graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.STRING
