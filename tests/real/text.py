"""Models that read: what kind of file some bytes are, what a sentence means."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

from serving.tensor import Array
from tests.real.real_model import Infer, RealModel, copied


def _ask_magika(fetched: Path, infer: Infer) -> None:
    settings = json.loads((fetched / "magika.json").read_text())
    kinds = {
        "python": Path(json.__file__).read_bytes(),
        "json": json.dumps([{"name": f"n{i}", "size": i} for i in range(90)], indent=2).encode(),
        "png": (fetched / "astronaut.png").read_bytes(),
        "elf": Path(sys.executable).read_bytes(),
    }
    features = np.stack([_features(content) for content in kinds.values()])
    told = infer({"bytes": features})
    scores = told["target_label"].array()
    labels = [settings["target_labels_space"][n] for n in scores.argmax(1)]
    assert labels == list(kinds)
    assert scores.max(1).min() > 0.9


def _features(content: bytes, size: int = 1024, block: int = 4096, padding: int = 256) -> Array:
    """Return the first and the last 1,024 bytes without surrounding space, padded outwards."""
    begin = list(content[:block].lstrip()[:size])
    end = list(content[-block:].rstrip()[-size:])
    begin += [padding] * (size - len(begin))
    end = [padding] * (size - len(end)) + end
    return np.array(begin + end, np.int32)


def _ask_minilm(fetched: Path, infer: Infer) -> None:
    vocabulary = json.loads((fetched / "minilm.json").read_text())["model"]["vocab"]
    food, bread, baby = (
        _embedding(_word_pieces(sentence, vocabulary), infer)
        for sentence in (
            "A man is eating food.",
            "A man is eating a piece of bread.",
            "The girl is carrying a baby.",
        )
    )
    assert food @ bread > 0.7
    assert abs(food @ baby) < 0.2


def _word_pieces(sentence: str, vocabulary: dict[str, int]) -> Array:
    """Split as BERT does for plain English: words, then the longest pieces that are known."""
    pieces = ["[CLS]"]
    for word in re.findall(r"\w+|[^\w\s]", sentence.lower()):
        start = 0
        while start < len(word):
            lead = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next(end for end in ends if lead + word[start:end] in vocabulary)
            pieces.append(lead + word[start:end])
            start = end
    return np.array([[vocabulary[piece] for piece in [*pieces, "[SEP]"]]], np.int64)


def _embedding(ids: Array, infer: Infer) -> Array:
    told = infer({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0})
    (hidden,) = told.values()
    assert hidden.shape == (1, ids.shape[1], 384)
    mean = hidden.array()[0].mean(0)
    unit: Array = mean / np.linalg.norm(mean)
    return unit


MODELS = (
    RealModel("magika", copied("magika.onnx"), _ask_magika),
    RealModel("minilm", copied("minilm.onnx"), _ask_minilm),
)
