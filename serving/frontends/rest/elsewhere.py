"""What is told to clients of a part of a protocol that this server does not offer.

Such a client would find out by itself that there is no such route, but not where to go. The paths
are those of TensorFlow Serving's RESTful API (g3doc/api_rest.md in its repository), of KServe's V1
protocol, and of Triton's extensions trace, logging and generate (docs/protocol in its).
"""

from __future__ import annotations

import re

from serving.errors import ServingError, Unimplemented
from serving.frontends import not_offered

_PARTS = (
    (
        re.compile(r"/v1/models/[^/:]+(?:/(?:versions|labels)/[^/:]+)?:(?:classify|regress)"),
        "classify and regress take features of tf.Example, which the models served here have not",
        "send the inputs as tensors to ...:predict, which answers with all outputs",
    ),
    (
        re.compile(r"/v1/models/[^/:]+:explain"),
        "explainers are not offered here",
        "send the inputs to ...:predict, which answers with all outputs",
    ),
    (
        re.compile(r"/v2/models/[^/]+(?:/versions/[^/]+)?/generate(?:_stream)?"),
        "the generate extension is not offered here",
        "send the inputs as tensors to .../infer, or as JSON to POST /predict",
    ),
)


_EXTENSIONS = (
    (re.compile(r"/v2/(?:models/[^/]+/)?trace/setting"), not_offered.trace),
    (re.compile(r"/v2/logging"), not_offered.logging),
)


def refusal(path: str) -> ServingError | None:
    """Return what to answer for a decoded path without a route, None if nothing is known of it."""
    for pattern, message, fix in _PARTS:
        if pattern.fullmatch(path):
            return Unimplemented(message, where="path", fix=fix)
    for pattern, refused in _EXTENSIONS:
        if pattern.fullmatch(path):
            return refused("path")
    return None
