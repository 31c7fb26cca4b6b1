"""Calls of clients for V2 and KServe's V1; run by ``test_inference_clients`` in their interpreter.

    python inference_calls.py kserve|mlserver|nvidia-pytriton|openapi-python-client GRPC REST

Prints what they understood, as JSON. The servables are those that the test lays out.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

LEFT = np.float32([[1, -2, 3.5], [0, 0, 1]])
RIGHT = np.int64([[4, 5], [-6, 7]])
WORDS = np.array(["two", "ten"], object)


def kserve(grpc_address, rest_address):
    return asyncio.run(_kserve(grpc_address, f"http://{rest_address}"))


async def _kserve(grpc_address, base):
    from httpx import HTTPStatusError
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    def request(binary):
        inputs = [InferInput("left", [2, 3], "FP32"), InferInput("right", [2, 2], "INT64")]
        for tensor, array in zip(inputs, (LEFT, RIGHT), strict=True):
            tensor.set_data_from_numpy(array, binary_data=binary)
        return InferRequest("multi", inputs, parameters={"binary_data_output": binary})

    def plain(answer):
        return {o.name: o.as_numpy().reshape(o.shape).tolist() for o in answer.outputs}

    told = {}
    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    rows = [{"left": a.tolist(), "right": b.tolist()} for a, b in zip(LEFT, RIGHT, strict=True)]
    told["v1"] = (await first.infer(base, {"instances": rows}, "multi"))["predictions"]
    told["alive"] = [await first.is_server_live(base), await first.is_model_ready(base, "multi")]
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    told["alive"] += [await rest.is_server_live(base), await rest.is_server_ready(base)]
    async with InferenceGRPCClient(grpc_address) as grpc:
        told["alive"] += [await grpc.is_server_live(), await grpc.is_model_ready("multi")]
        for binary in (False, True):
            told[f"rest {binary}"] = plain(await rest.infer(base, request(binary), "multi"))
            told[f"grpc {binary}"] = plain(await grpc.infer(request(binary)))
    try:
        await rest.infer(base, request(False), "none")
    except HTTPStatusError as error:
        told["refused"] = str(error)
    large = {"instances": [[0] * (3 << 20)]}
    try:
        await rest.infer(base, large, "multi")
    except HTTPStatusError as error:
        told["too large"] = error.response.status_code
    return told


def mlserver(grpc_address, rest_address):
    import grpc
    from mlserver.codecs import NumpyCodec, StringCodec
    from mlserver.grpc import converters, dataplane_pb2_grpc
    from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse

    def multi():
        inputs = [NumpyCodec.encode_input("left", LEFT), NumpyCodec.encode_input("right", RIGHT)]
        return InferenceRequest(inputs=inputs)

    def plain(answer):
        return {o.name: NumpyCodec.decode_output(o).tolist() for o in answer.outputs}

    base, told = f"http://{rest_address}/v2/models", {}
    body = multi().model_dump_json().encode()
    with urllib.request.urlopen(f"{base}/multi/infer", body) as answer:
        told["rest"] = plain(InferenceResponse.model_validate_json(answer.read()))
    with urllib.request.urlopen(f"{base}/multi") as answer:
        told["inputs"] = len(MetadataModelResponse.model_validate_json(answer.read()).inputs)
    with grpc.insecure_channel(grpc_address) as channel:
        service = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)

        def infer(asked, name, raw):
            sent = converters.ModelInferRequestConverter.from_types(asked, name, use_raw=raw)
            return converters.ModelInferResponseConverter.to_types(service.ModelInfer(sent))

        for raw in (False, True):
            told[f"grpc {raw}"] = plain(infer(multi(), "multi", raw))
        words = StringCodec.encode_input("word", list(WORDS))
        words.shape = [2]
        told["words"] = plain(infer(InferenceRequest(inputs=[words]), "words", True))["number"]
    told["command"] = _mlserver_command(rest_address, body)
    return told


def _mlserver_command(rest_address, body):
    with tempfile.TemporaryDirectory() as home:
        given, found = Path(home, "in.jsonl"), Path(home, "out.jsonl")
        given.write_bytes((body + b"\n") * 5)
        subprocess.run(
            [sys.executable, "-m", "mlserver.cli.main", "infer", "-u", rest_address, "-m", "multi",
             "-i", given, "-o", found, "-s", "2", "--binary-data"],
            check=True, capture_output=True,
        )  # fmt: skip
        answers = [json.loads(line) for line in found.read_text().splitlines()]
    return [answer["outputs"][0]["data"] for answer in answers]


def nvidia_pytriton(grpc_address, rest_address):
    from pytriton.client import AsyncioModelClient, FuturesModelClient, ModelClient

    def plain(outputs):
        return {name: array.tolist() for name, array in outputs.items()}

    async def awaited(url):
        async with AsyncioModelClient(url, "multi", init_timeout_s=60) as client:
            return plain(await client.infer_batch(left=LEFT, right=RIGHT))

    told = {}
    for kind, url in (("grpc", f"grpc://{grpc_address}"), ("http", f"http://{rest_address}")):
        with ModelClient(url, "multi", init_timeout_s=60) as client:
            client.wait_for_model(60)
            told[kind] = plain(client.infer_batch(LEFT, RIGHT))
            told[f"{kind} sample"] = plain(client.infer_sample(LEFT[0], RIGHT[0]))
        told[f"{kind} aio"] = asyncio.run(awaited(url))
        with ModelClient(url, "words", init_timeout_s=60) as client:
            told[f"{kind} words"] = plain(client.infer_batch(np.char.encode(WORDS.astype(str))))
    # Over gRPC this one asks by HTTP from its second client on: it forgets what it was told.
    with FuturesModelClient(f"http://{rest_address}", "multi", max_workers=4) as client:
        futures = [client.infer_batch(LEFT, RIGHT) for _ in range(20)]
        told["futures"] = [plain(future.result(60)) for future in futures]
    return told


def openapi_python_client(_grpc_address, rest_address):
    base, told = f"http://{rest_address}", {}
    with tempfile.TemporaryDirectory() as home:
        made = subprocess.run(
            [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none",
             "--url", f"{base}/openapi.json", "--output-path", Path(home, "generated")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        told["warnings"] = [line for line in made.stdout.splitlines() if "WARNING" in line]
        sys.path.insert(0, home)
        from generated import Client
        from generated.api.inference import infer, predict
        from generated.models import InferRequest

        client = Client(base_url=base)
        inputs = {"left": LEFT.tolist(), "right": RIGHT.tolist()}
        told["predict"] = predict.sync(client=client, body={"servable": "multi", "inputs": inputs})
        tensors = [
            {"name": "left", "shape": [2, 3], "datatype": "FP32", "data": LEFT.tolist()},
            {"name": "right", "shape": [2, 2], "datatype": "INT64", "data": RIGHT.tolist()},
        ]
        asked = InferRequest.from_dict({"inputs": tensors})
        answer = infer.sync("multi", client=client, body=asked)
        told["infer"] = {o.name: np.reshape(o.data, o.shape).tolist() for o in answer.outputs}
        told["refused"] = infer.sync("none", client=client, body=asked).error
    told["predict"] = told["predict"].to_dict()["outputs"]
    return told


if __name__ == "__main__":
    kind, *addresses = sys.argv[1:]
    print(json.dumps(globals()[kind.replace("-", "_")](*addresses)))
