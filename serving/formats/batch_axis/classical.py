"""The operators of ai.onnx.ml: what scikit-learn, XGBoost and LightGBM models consist of."""

from __future__ import annotations

from serving.formats.batch_axis.layout import flat_rows
from serving.formats.batch_axis.size import ONE, Size, product
from serving.formats.batch_axis.step import ML, Step, require_axis_zero, rule
from serving.formats.batch_axis.value import Draft, Rows


def _table(step: Step, position: int = 0) -> Rows:
    """Return the rows of a matrix with one row of the batch in each of its rows."""
    if step.rank(position) != 2:
        step.refuse(f"takes a tensor of rank {step.rank(position)} for one row of features")
    return require_axis_zero(step, (position,))


@rule("Imputer", "Normalizer", "Scaler", domain=ML)
def per_feature(step: Step) -> Draft:
    """Every row of the table by itself."""
    _table(step)
    return step.keep()


@rule("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier", domain=ML)
def classifier(step: Step) -> list[Draft]:
    """A label for each row, and its scores."""
    rows = _table(step)
    return [Draft(rows, (rows.size,)), Draft(rows, (rows.size, _score_count(step)))]


def _score_count(step: Step) -> Size | None:
    """Return how many scores trees give a row; of the others shape inference knows it."""
    labels = step.attribute("classlabels_int64s") or step.attribute("classlabels_strings") or ()
    trees = step.node.op_type == "TreeEnsembleClassifier"
    return Size(len(labels)) if trees and labels else None


@rule(
    "LinearRegressor", "SVMRegressor", "TreeEnsemble", "TreeEnsembleRegressor", domain=ML
)  # fmt: skip
def regressor(step: Step) -> Draft:
    """Numbers for each row."""
    rows = _table(step)
    name = "targets" if step.node.op_type == "LinearRegressor" else "n_targets"
    return Draft(rows, (rows.size, Size(step.attribute(name, 1))))


@rule("OneHotEncoder", domain=ML)
def one_hot_encoder(step: Step) -> Draft:
    """A new last axis with one entry for each category."""
    categories = step.attribute("cats_int64s") or step.attribute("cats_strings") or []
    count = Size(len(categories)) if categories else None
    return Draft(step.rows(0), (*step.dims(0), count))


@rule("ArrayFeatureExtractor", domain=ML)
def feature_extractor(step: Step) -> Draft:
    """Entries of the last axis, by a flat list of indices; a vector gains an axis in front."""
    dims = step.dims(0)
    if step.value(1).rows is not None:
        # Class names looked up by the winner's number: the indices are read as one list.
        step.require_free(0)
        rows = flat_rows(step.dims(1), step.rows(1))
        leading = dims[:-1] or (ONE,)
        return Draft(rows.at(len(leading)), (*leading, rows.size))
    step.require_free(1)
    rows = step.rows(0)
    if rows.axis == len(dims) - 1:
        step.refuse(f"picks entries of axis {rows.axis}, the batch")
    return Draft(rows, (*dims[:-1], product(step.dims(1))))


@rule("FeatureVectorizer", domain=ML)
def feature_vectorizer(step: Step) -> Draft:
    """Tables are joined side by side."""
    rows = _table(step)
    for i in range(len(step.inputs)):
        if _table(step, i) != rows:
            step.refuse("joins inputs whose rows are laid out differently")
    return Draft(rows, (rows.size, None))


@rule("ZipMap", domain=ML)
def zip_map(step: Step) -> Draft:
    """A list with one map for each row."""
    rows = _table(step)
    return Draft(rows, (rows.size,), sequence=True)
