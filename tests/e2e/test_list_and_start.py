"""What ``serving list`` says of models that ONNX Runtime refuses is what ``serving start`` does."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from click.testing import CliRunner

from serving.cli import main
from tests.models import mlp, unsupported_opset
from tests.server import serving


def _custom_operator(path: Path) -> None:
    mlp(path)
    net = onnx.load(path)
    net.graph.node[0].domain, net.graph.node[0].op_type = "com.acme", "Swirl"
    net.opset_import.add(domain="com.acme", version=1)
    onnx.save(net, path)


def test_list_and_start_agree_and_the_log_gives_each_reason_once(tmp_path: Path) -> None:
    models = tmp_path / "models"
    mlp(models / "mlp" / "1" / "model.onnx")
    unsupported_opset(models / "opset" / "1" / "model.onnx")
    _custom_operator(models / "custom" / "1" / "model.onnx")
    told = CliRunner().invoke(main, ["list", "--model-dir", str(models), "--json"])
    assert told.exit_code == 0, told.output
    listed = {row["servable"]: row["reason"] for row in json.loads(told.stdout)["versions"]}
    assert listed["mlp"] == ""
    assert "com.acme:Swirl" in listed["custom"]
    assert "opset 99 of ai.onnx is newer" in listed["opset"]
    with serving(models, tmp_path / "scratch") as server:
        _, index = server.post("/v2/repository/index", {})
        served = {row["name"]: row["reason"] for row in index}
        log = server.log()
    assert served == listed
    assert [log.count(listed[name]) for name in ("custom", "opset")] == [1, 1]
