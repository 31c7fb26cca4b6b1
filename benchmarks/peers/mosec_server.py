"""A mosec server for one ONNX model: raw rows or JSON in, the same out.

Runs in an environment of its own; settings come from the environment (``BENCH_...``), because
mosec reads the command line itself.
"""

from __future__ import annotations

import json
import os

import numpy as np
import onnxruntime
import orjson
from mosec import Server, Worker

SPEC = json.loads(os.environ["BENCH_SPEC"])
SHAPE = tuple(SPEC["shape"])
BATCH = int(os.environ["BENCH_BATCH"])


class Inference(Worker):
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            SPEC["model"], options, providers=["CPUExecutionProvider"]
        )

    def deserialize(self, data):
        if SPEC["json"]:
            return np.asarray(orjson.loads(data)["x"], SPEC["dtype"])
        return np.frombuffer(data, SPEC["dtype"]).reshape(SHAPE)

    def forward(self, data):
        if BATCH == 1:
            return self._run(data[None])[0]
        return list(self._run(np.stack(data)))

    def serialize(self, data):
        if SPEC["json"]:
            return orjson.dumps({"y": data}, option=orjson.OPT_SERIALIZE_NUMPY)
        return data.tobytes()

    def _run(self, rows):
        return self.session.run([SPEC["output"]], {SPEC["input"]: rows})[0]


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Inference,
        num=int(os.environ["BENCH_WORKERS"]),
        max_batch_size=BATCH,
        max_wait_time=1 if BATCH > 1 else 0,
    )
    server.run()
