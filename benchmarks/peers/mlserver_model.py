"""An MLServer runtime for one ONNX model. Runs in an environment of its own."""

from __future__ import annotations

import json
import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

SPEC = json.loads(os.environ["BENCH_SPEC"])


class Inference(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            SPEC["model"], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(SPEC["dtype"], copy=False)
        found = self.session.run([SPEC["output"]], {SPEC["input"]: np.ascontiguousarray(rows)})[0]
        output = NumpyCodec.encode_output(SPEC["output"], found)
        return InferenceResponse(model_name=self.name, outputs=[output])
