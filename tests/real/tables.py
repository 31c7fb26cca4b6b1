"""Models that take a row of a table: strings in, strings and maps out."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnxruntime.datasets import get_example
from sklearn.datasets import load_iris

from serving.tensor import Array
from tests.real.real_model import Infer, RealModel

_PENGUINS = Path(__file__).parents[2] / "servables" / "penguins"
_SPECIES = ("Adelie", "Chinstrap", "Gentoo")
_WORDS = ("island", "sex")
_NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def _place_penguins(_: Path, folder: Path) -> None:
    """Let the classifier tell its probabilities as scikit-learn's converters do: as maps."""
    model = onnx.load(_PENGUINS / "1" / "model.onnx")
    (probabilities,) = (o for o in model.graph.output if o.name == "probabilities")
    model.graph.output.remove(probabilities)
    string, number = onnx.TensorProto.STRING, onnx.TensorProto.FLOAT
    table = helper.make_map_type_proto(string, helper.make_tensor_type_proto(number, None))
    rows = helper.make_sequence_type_proto(table)
    model.graph.output.append(helper.make_value_info("by_species", rows))
    model.graph.node.append(
        helper.make_node(
            "ZipMap",
            ["probabilities"],
            ["by_species"],
            domain="ai.onnx.ml",
            classlabels_strings=_SPECIES,
        )
    )
    onnx.save(model, folder / "model.onnx")


def _ask_penguins(_: Path, infer: Infer) -> None:
    rows = _complete_rows()[::6]
    told = infer(
        {
            **{name: _column([row[name] for row in rows], object) for name in _WORDS},
            **{name: _column([row[name] for row in rows], np.float32) for name in _NUMBERS},
        }
    )
    names = [name.decode() for name in told["species"].array()]
    right = [name == row["species"] for name, row in zip(names, rows, strict=True)]
    assert sum(right) / len(rows) > 0.97
    for name, chances in zip(names, told["by_species"].documents(), strict=True):
        assert sorted(chances) == sorted(_SPECIES)
        assert max(chances, key=chances.get) == name


def _complete_rows() -> list[dict[str, str]]:
    with (_PENGUINS / "penguins.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if "NA" not in row.values()]


def _column(values: list[str], kind: type) -> Array:
    return np.array(values, dtype=kind).reshape(-1, 1)


def _place_iris(_: Path, folder: Path) -> None:
    """Take the example that the onnxruntime package brings; it is frozen to three rows.

    It declares two features where its coefficients, 3 by 4, are for all four of the flowers.
    """
    model = onnx.load(get_example("logreg_iris.onnx"))
    rows, features = model.graph.input[0].type.tensor_type.shape.dim
    assert (rows.dim_value, features.dim_value) == (3, 2)
    features.dim_value = 4
    onnx.save(model, folder / "model.onnx")


def _ask_iris(_: Path, infer: Infer) -> None:
    iris = load_iris()
    flowers = [0, 60, 120]  # one of each kind
    told = infer({"float_input": iris.data[flowers].astype(np.float32)})
    assert told["label"].array().tolist() == iris.target[flowers].tolist()
    for kind, chances in enumerate(told["probabilities"].documents()):
        assert max(chances, key=chances.get) == str(kind)


MODELS = (
    RealModel("penguin_maps", _place_penguins, _ask_penguins),
    RealModel("iris", _place_iris, _ask_iris),
)
