"""A Triton Python-backend model for one ONNX file: one engine run for each of Triton's batches."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            config["parameters"]["model"]["string_value"],
            options,
            providers=["CPUExecutionProvider"],
        )
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name

    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(r, self.input).as_numpy() for r in requests]
        whole = np.concatenate(rows) if len(rows) > 1 else rows[0]
        found = self.session.run([self.output], {self.input: whole})[0]
        answers, at = [], 0
        for part in rows:
            tensor = triton.Tensor(self.output, found[at : at + len(part)])
            answers.append(triton.InferenceResponse([tensor]))
            at += len(part)
        return answers
