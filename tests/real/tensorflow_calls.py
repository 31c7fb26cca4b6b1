"""Calls of TensorFlow Serving's clients; run by ``test_tensorflow_clients`` in their interpreter.

    python tensorflow_calls.py ovmsclient|tensorflow-serving-api GRPC REST

Prints what they understood, as JSON. The servables are those that the test lays out.
"""

import json
import sys

import numpy as np

LEFT = np.float32([[1, -2, 3.5], [0, 0, 1]])
RIGHT = np.int64([[4, 5], [-6, 7]])


def plain(found):
    """Return outputs, an array or arrays by name, as JSON has them."""
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    return found.tolist() if hasattr(found, "tolist") else found


def of_ovmsclient(client, refused):
    told = {
        "multi": client.predict({"left": LEFT, "right": RIGHT}, "multi"),
        "words": client.predict({"word": [b"two", b"ten"]}, "words"),
        "version": client.predict({"x": np.float32([0.5])}, "net", 1),
        "metadata": client.get_model_metadata("multi"),
        "status": client.get_model_status("net"),
    }
    try:
        client.predict({"x": np.float32([0.5])}, "none")
    except refused as error:
        told["refused"] = str(error)
    return {name: plain(value) for name, value in told.items()}


def ovmsclient(grpc_address, rest_address):
    from ovmsclient import make_grpc_client, make_http_client
    from ovmsclient.tfs_compat.base.errors import ModelServerError

    told = of_ovmsclient(make_grpc_client(grpc_address), ModelServerError)
    told["rest"] = of_ovmsclient(make_http_client(rest_address), ModelServerError)
    return told


def tensorflow_serving_api(grpc_address, _rest_address):
    import grpc
    from tensorflow import make_ndarray, make_tensor_proto
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )  # fmt: skip

    told = {}
    with grpc.insecure_channel(grpc_address) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def predict(name, inputs, version=0, wanted=()):
            request = predict_pb2.PredictRequest(output_filter=wanted)
            request.model_spec.name = name
            if version:
                request.model_spec.version.value = version
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(make_tensor_proto(value))
            outputs = service.Predict(request, 60).outputs
            return {key: make_ndarray(value).tolist() for key, value in outputs.items()}

        told["multi"] = predict("multi", {"left": LEFT, "right": RIGHT})
        told["filtered"] = predict("multi", {"left": LEFT, "right": RIGHT}, wanted=["total"])
        told["version"] = predict("net", {"x": np.float32([0.5])}, 1)
        told["words"] = predict("words", {"word": ["two", "ten"]})["number"]
        try:
            predict("none", {"x": np.float32([0.5])})
        except grpc.RpcError as error:
            told["refused"] = f"{error.code().name}: {error.details()}"
        try:
            service.Classify(classification_pb2.ClassificationRequest(), 60)
        except grpc.RpcError as error:
            told["classify"] = error.code().name

        asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        asked.model_spec.name = "multi"
        found = get_model_metadata_pb2.SignatureDefMap()
        assert service.GetModelMetadata(asked, 60).metadata["signature_def"].Unpack(found)
        inputs = found.signature_def["serving_default"].inputs
        told["metadata"] = {
            name: [info.dtype, [dim.size for dim in info.tensor_shape.dim]]
            for name, info in inputs.items()
        }
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "net"
        versions = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, 60)
        state = get_model_status_pb2.ModelVersionStatus.State
        told["status"] = {v.version: state.Name(v.state) for v in versions.model_version_status}
    return told


if __name__ == "__main__":
    kind, *addresses = sys.argv[1:]
    calls = {"ovmsclient": ovmsclient, "tensorflow-serving-api": tensorflow_serving_api}
    print(json.dumps(calls[kind](*addresses)))
