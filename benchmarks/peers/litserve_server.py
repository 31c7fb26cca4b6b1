"""A LitServe server for one ONNX model: JSON in, JSON out. Runs in an environment of its own."""

from __future__ import annotations

import json
import os

import litserve
import numpy as np
import onnxruntime

SPEC = json.loads(os.environ["BENCH_SPEC"])
BATCH = int(os.environ["BENCH_BATCH"])


class Inference(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            SPEC["model"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):
        return np.asarray(request["x"], SPEC["dtype"])

    def batch(self, inputs):
        return np.stack(inputs)

    def unbatch(self, output):
        return list(output)

    def predict(self, x):
        rows = x if BATCH > 1 else x[None]
        found = self.session.run([SPEC["output"]], {SPEC["input"]: rows})[0]
        return found if BATCH > 1 else found[0]

    def encode_response(self, output):
        return {"y": output.tolist()}


if __name__ == "__main__":
    api = Inference(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["BENCH_WORKERS"])
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
    )
