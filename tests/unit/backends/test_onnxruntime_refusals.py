"""Models that ONNX Runtime does not load are refused in words that lead on."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from serving.backends import onnxruntime
from serving.backends.base import BackendError, Device, ModelSource
from serving.formats.onnx_trials import trials
from serving.probing import onnxruntime_trials as probe_trials
from tests.unit.formats.nets import written


def refusal(net: onnx.ModelProto, folder: Path) -> str:
    path = folder / "model.onnx"
    path.write_bytes(net.SerializeToString())
    with pytest.raises(BackendError) as caught:
        onnxruntime.open(Device("cpu", 0)).load(ModelSource(str(path), threads=1))
    assert str(folder) not in str(caught.value)
    return str(caught.value)


def test_newer_opset_is_named_with_what_the_engine_knows(tmp_path: Path) -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(x) }")
    net.opset_import[0].version = 999
    found = refusal(net, tmp_path)
    assert re.search(r"opset 999 of ai\.onnx is newer than .* knows, which is up to \d+ \(", found)
    assert "export it for an older one" in found


def test_newer_ir_version_is_named_with_what_the_engine_knows(tmp_path: Path) -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(x) }")
    net.ir_version = 999
    assert re.search(r"IR version 999, newer than .* up to \d+ \(export", refusal(net, tmp_path))


def test_operator_that_the_engine_has_not_is_named(tmp_path: Path) -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(x) }")
    net.graph.node[0].domain, net.graph.node[0].op_type = "com.acme", "Swirl"
    net.opset_import.add(domain="com.acme", version=1)
    found = refusal(net, tmp_path)
    assert found.startswith("ONNX Runtime has no operator com.acme:Swirl (export the model with")


def test_other_refusals_keep_the_engine_s_words(tmp_path: Path) -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(x) }")
    net.graph.node[0].input[0] = "nowhere"
    found = refusal(net, tmp_path)
    assert found.startswith("ONNX Runtime refuses the model: ")
    assert "nowhere" in found


def test_operator_that_its_opset_has_not_is_named(tmp_path: Path) -> None:
    net = written("(float[N,4] x) => (y) { y = Relu(x) }")
    net.graph.node[0].op_type = "Swirl"
    found = refusal(net, tmp_path)
    assert re.match(r"ONNX Runtime \S+ has no operator Swirl in opset 17 \(export", found)


def test_locale_that_the_machine_lacks_is_named_with_the_way_to_have_it(tmp_path: Path) -> None:
    net = written(
        '(string[N] x) => (y) { y = StringNormalizer<case_change_action="LOWER",'
        'locale="xx_YY.UTF-8">(x) }'
    )
    found = refusal(net, tmp_path)
    assert "by the locale xx_YY.UTF-8, which this machine lacks (on Debian" in found
    assert "localedef -i xx_YY -f UTF-8 xx_YY.UTF-8" in found
    engine = probe_trials.refusal(list(trials(net)))
    assert engine["refusal"] == found  # so `serving list` says it, too
