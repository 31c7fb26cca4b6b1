"""Train the penguins servable and write its model, its sample request and the right answer.

    pip install skl2onnx
    python servables/penguins/train.py

A logistic regression over one table row: where a penguin was met, its sex and four measurements
tell its species. The table lies beside this script. Nothing is tuned by looking at the held-out
rows, and the regression is convex, so every run finds the same weights.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from sklearn.compose import ColumnTransformer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
WORDS = ("island", "sex")
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
COLUMNS = (*WORDS, *NUMBERS)
MISSING = "NA"
UNKNOWN = "unknown"
HELD_OUT_EVERY = 5
SAMPLE = 40  # which held-out penguin sample.json carries

Row = dict[str, Any]


def penguins() -> list[Row]:
    """Return the rows of the table that were measured; a sex not noted is ``unknown``."""
    with (HERE / "penguins.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["bill_length_mm"] != MISSING]
    return [
        {
            "species": row["species"],
            "island": row["island"],
            "sex": UNKNOWN if row["sex"] == MISSING else row["sex"],
            **{name: float(row[name]) for name in NUMBERS},
        }
        for row in rows
    ]


def split() -> tuple[list[Row], list[Row]]:
    """Return (training, held-out): every fifth row of the table, from the first, is held out."""
    rows = penguins()
    held = range(0, len(rows), HELD_OUT_EVERY)
    return [row for i, row in enumerate(rows) if i not in held], [rows[i] for i in held]


def columns(rows: list[Row]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the rows as the model takes them: one [rows, 1] tensor for each column."""
    words = {name: np.array([[row[name]] for row in rows], object) for name in WORDS}
    return words | {name: np.array([[row[name]] for row in rows], np.float32) for name in NUMBERS}


def matrix(rows: list[Row]) -> np.ndarray[Any, Any]:
    """Return the rows as scikit-learn takes them: one table of mixed types, ``COLUMNS`` wide."""
    return np.array([[row[name] for name in COLUMNS] for row in rows], object)


def train(rows: list[Row]) -> Pipeline:
    """Return the fitted pipeline: words one-hot, numbers scaled, then logistic regression."""
    words = list(range(len(WORDS)))
    numbers = list(range(len(WORDS), len(COLUMNS)))
    prepare = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), words),
            ("numbers", StandardScaler(), numbers),
        ]
    )
    net = Pipeline([("prepare", prepare), ("classify", LogisticRegression(max_iter=1000))])
    return net.fit(matrix(rows), [row["species"] for row in rows])


def to_onnx(net: Pipeline) -> onnx.ModelProto:
    """Return the pipeline as ONNX: six inputs of one column each, species and probabilities."""
    from skl2onnx import convert_sklearn  # type: ignore[import-untyped]
    from skl2onnx.common.data_types import (  # type: ignore[import-untyped]
        FloatTensorType,
        StringTensorType,
    )

    inputs = [(name, StringTensorType([None, 1])) for name in WORDS]
    inputs += [(name, FloatTensorType([None, 1])) for name in NUMBERS]
    model = convert_sklearn(
        net,
        "penguins",
        inputs,
        target_opset={"": 17, "ai.onnx.ml": 3},
        options={"zipmap": False},
    )
    made = [output.name for output in model.graph.output]
    renamed = dict(zip(made, ("species", "probabilities"), strict=True))
    for node in model.graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for output in model.graph.output:
        output.name = renamed[output.name]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name, model.producer_version = "serving-penguins", ""
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def sample(held_out: list[Row]) -> tuple[str, str]:
    """Return the body of ``POST /predict`` for one held-out penguin, and its right answer."""
    row = held_out[SAMPLE]
    body = {"servable": "penguins", "instances": [{name: row[name] for name in COLUMNS}]}
    answer = {"instances": [{"species": row["species"]}]}
    return json.dumps(body) + "\n", json.dumps(answer) + "\n"


def main() -> None:
    """Train, print the held-out accuracy, write ``1/model.onnx`` and the two JSON files."""
    training, held_out = split()
    # One thread: the order of additions, and so every weight, is then the same on each run.
    with threadpool_limits(limits=1):
        net = train(training)
    right = sum(net.predict(matrix(held_out)) == [row["species"] for row in held_out])
    print(f"held-out accuracy: {right}/{len(held_out)} = {right / len(held_out):.2%}")
    (HERE / "1").mkdir(exist_ok=True)
    (HERE / "1" / "model.onnx").write_bytes(to_onnx(net).SerializeToString(deterministic=True))
    body, answer = sample(held_out)
    (HERE / "sample.json").write_text(body)
    (HERE / "answer.json").write_text(answer)
    print(f"sample.json holds a {held_out[SAMPLE]['species']}")


if __name__ == "__main__":
    main()
