"""Tries small models out, to tell whether this ONNX Runtime would refuse what they stand for."""

from __future__ import annotations

import base64
from typing import Any, Dict, List

from serving.probing.answering import serve


def refusal(trials: List[str]) -> Dict[str, Any]:
    """Return why the first of ``trials`` that is refused is; an empty text where none is.

    They are ONNX models in base64. What is wrong with them otherwise (their nodes have no inputs)
    is no refusal of what they stand for.
    """
    import onnxruntime

    from serving.backends.onnxruntime_refusals import lacking

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for trial in trials:
        try:
            onnxruntime.InferenceSession(
                base64.b64decode(trial), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the engine raises a family of types without a common base
            text = lacking(" ".join(str(error).split()), str(onnxruntime.__version__))
            if text:
                return {"refusal": text}
    return {"refusal": ""}


if __name__ == "__main__":
    serve({"refusal": refusal})
