"""Train the language servable and write its model, its sample request and the right answer.

    python servables/language/train.py

A linear classifier over the pairs and triples of bytes in a text of any length: each pair and
each triple is hashed to a row of a table of weights, and the mean of the rows is the score of each
language. Nothing is tuned by looking at the held-out sentences, and the fit is convex, so every
run finds the same weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]

HERE = Path(__file__).resolve().parent
LANGUAGES = ("de", "en", "es", "fr", "it", "nl")
HELD_OUT_EVERY = 5
PAIRS, TRIPLES = 1024, 4096  # rows of the two tables of weights
FACTOR = 31
SPACE = ord(" ")
SAMPLE = "Les étoiles brillent au-dessus de la mer."  # in neither part of the sentences


@dataclass(frozen=True)
class Sentences:
    """Texts and the language of each."""

    texts: tuple[str, ...]
    languages: tuple[str, ...]


def split() -> tuple[Sentences, Sentences]:
    """Return (training, held-out): every fifth meaning, from the first, in all its languages."""
    text = (HERE / "sentences.txt").read_text(encoding="utf-8").partition("\n")[2]
    parts: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for i, meaning in enumerate(text.strip().split("\n\n")):
        for line in meaning.splitlines():
            language, _, sentence = line.partition(" ")
            parts[i % HELD_OUT_EVERY == 0].append((sentence, language))
    training, held_out = (Sentences(*zip(*part, strict=True)) for part in parts)
    return training, held_out


def encoded(text: str) -> Bytes:
    """Return a text as the model takes it: UINT8 [1, length], its bytes in UTF-8."""
    return np.frombuffer(text.encode(), np.uint8)[None]


def folded() -> Numbers:
    """Return what each byte counts as, INT64 [256]: small letters; all but letters is a space."""
    table = np.full(256, SPACE)
    table[128:] = np.arange(128, 256)  # parts of letters with accents
    for letter in range(ord("a"), ord("z") + 1):
        table[[letter, letter - 32]] = letter
    return table


def hashes(text: str) -> tuple[Numbers, Numbers]:
    """Return the table rows of the pairs and of the triples of a text between two spaces."""
    codes = np.pad(folded()[encoded(text)[0]], 2, constant_values=SPACE)
    pairs = codes[:-1] * FACTOR + codes[1:]
    return pairs % PAIRS, (pairs[:-1] * FACTOR + codes[2:]) % TRIPLES


def features(texts: tuple[str, ...]) -> csr_matrix:
    """Return how often each table row is met, as a share, [texts, PAIRS + TRIPLES]."""
    rows, columns, shares = [], [], []
    for row, text in enumerate(texts):
        pairs, triples = hashes(text)
        for found, offset in ((pairs, 0), (triples, PAIRS)):
            rows += [row] * len(found)
            columns += (found + offset).tolist()
            shares += [1 / len(found)] * len(found)
    return csr_matrix((shares, (rows, columns)), (len(texts), PAIRS + TRIPLES))


def train(sentences: Sentences) -> LogisticRegression:
    """Return the fitted classifier; its classes are ``LANGUAGES`` in order."""
    net = LogisticRegression(C=1000.0, max_iter=2000)
    net.fit(features(sentences.texts), sentences.languages)
    assert tuple(net.classes_) == LANGUAGES
    return net


def to_onnx(net: LogisticRegression) -> onnx.ModelProto:
    """Return the classifier as ONNX; it takes the bytes of texts, equally long in one request."""
    weights = net.coef_.T.astype(np.float32)
    constants = {
        "fold": folded(),
        "around": np.array([0, 2, 0, 2]),
        "space": np.array(SPACE),
        "factor": np.array(FACTOR),
        "pair_rows": np.array(PAIRS),
        "triple_rows": np.array(TRIPLES),
        "pair_weights": weights[:PAIRS],
        "triple_weights": weights[PAIRS:],
        "bias": net.intercept_.astype(np.float32),
        "names": np.array([name.encode() for name in LANGUAGES], object),
        **{str(number): np.array([number]) for number in (0, 1, 2, -1)},
        "end": np.array([np.iinfo(np.int64).max]),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["text"], ["bytes"], to=TensorProto.INT64),
        node("Gather", ["fold", "bytes"], ["letters"]),
        node("Pad", ["letters", "around", "space"], ["codes"]),
        node("Slice", ["codes", "0", "-1", "1"], ["first"]),
        node("Slice", ["codes", "1", "end", "1"], ["second"]),
        node("Slice", ["codes", "2", "end", "1"], ["third"]),
        node("Mul", ["first", "factor"], ["first_times"]),
        node("Add", ["first_times", "second"], ["pairs"]),
        node("Mod", ["pairs", "pair_rows"], ["pair_hash"]),
        node("Slice", ["pairs", "0", "-1", "1"], ["pairs_begun"]),
        node("Mul", ["pairs_begun", "factor"], ["pairs_times"]),
        node("Add", ["pairs_times", "third"], ["triples"]),
        node("Mod", ["triples", "triple_rows"], ["triple_hash"]),
        node("Gather", ["pair_weights", "pair_hash"], ["pair_scores"]),
        node("Gather", ["triple_weights", "triple_hash"], ["triple_scores"]),
        node("ReduceMean", ["pair_scores"], ["pair_mean"], axes=[1], keepdims=0),
        node("ReduceMean", ["triple_scores"], ["triple_mean"], axes=[1], keepdims=0),
        node("Sum", ["pair_mean", "triple_mean", "bias"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
        node("ArgMax", ["scores"], ["winner"], axis=1, keepdims=0),
        node("Gather", ["names", "winner"], ["language"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "language",
        [value("text", TensorProto.UINT8, ["batch", "length"])],
        [
            value("language", TensorProto.STRING, ["batch"]),
            value("probabilities", TensorProto.FLOAT, ["batch", len(LANGUAGES)]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
        doc_string="which language a text is written in; its bytes in UTF-8",
    )
    model = helper.make_model(
        graph,
        producer_name="serving-language",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def sample() -> tuple[str, str]:
    """Return the body of ``POST /predict`` for one sentence, and its right answer."""
    body = {"servable": "language", "instances": [{"text": encoded(SAMPLE)[0].tolist()}]}
    answer = {"instances": [{"language": "fr"}]}
    return json.dumps(body, separators=(",", ":")) + "\n", json.dumps(answer) + "\n"


def main() -> None:
    """Train, print the held-out accuracy, write ``1/model.onnx`` and the two JSON files."""
    training, held_out = split()
    # One thread: the order of additions, and so every weight, is then the same on each run.
    with threadpool_limits(limits=1):
        net = train(training)
    right = int((net.predict(features(held_out.texts)) == held_out.languages).sum())
    total = len(held_out.texts)
    print(f"held-out accuracy: {right}/{total} = {right / total:.2%}")
    (HERE / "1").mkdir(exist_ok=True)
    (HERE / "1" / "model.onnx").write_bytes(to_onnx(net).SerializeToString(deterministic=True))
    body, answer = sample()
    (HERE / "sample.json").write_text(body)
    (HERE / "answer.json").write_text(answer)


if __name__ == "__main__":
    main()
