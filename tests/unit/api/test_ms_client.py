"""The client's arguments and values, as recorded with MindSpore Serving's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.api.client import Client, SSLConfig, _answer
from serving.frontends.grpc.stubs import ms_service_pb2 as pb

ROOT = Path(__file__).parents[3]
ROWS = json.loads((ROOT / "tests" / "data" / "mindspore_serving" / "client.json").read_text())


def sent(value: Any) -> pb.Tensor:
    """Return the tensor that a value is sent as."""
    request = Client("localhost:1", "s", "m")._request({"x": value})
    found: pb.Tensor = request.instances[0].items["x"]
    return found


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r["name"] == "ctor"], ids=lambda r: str(r["args"])
)
def test_client_refuses_arguments_as_recorded(row: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError) as caught:
        Client(*row["args"])
    assert f"RuntimeError: {caught.value}" == row["raises"]


@pytest.mark.parametrize(
    ("value", "dtype", "shape", "data"),
    [
        (5, pb.MS_INT64, [1], np.int64(5).tobytes()),
        (1.5, pb.MS_FLOAT64, [1], np.float64(1.5).tobytes()),
        (True, pb.MS_BOOL, [1], b"\1"),
        (np.float32(1.5), pb.MS_FLOAT32, [], np.float32(1.5).tobytes()),
        (np.float16([[1, 2]]), pb.MS_FLOAT16, [1, 2], np.float16([1, 2]).tobytes()),
        (np.array([True, False]), pb.MS_BOOL, [2], b"\1\0"),
        (np.int32([[1, 2], [3, 4]]).T, pb.MS_INT32, [2, 2], np.int32([1, 3, 2, 4]).tobytes()),
    ],
)
def test_client_sends_numbers_as_theirs_does(
    value: Any, dtype: int, shape: list[int], data: bytes
) -> None:
    tensor = sent(value)
    assert (tensor.dtype, list(tensor.shape.dims), tensor.data) == (dtype, shape, data)
    assert not tensor.bytes_val


@pytest.mark.parametrize(
    ("value", "dtype", "data"),
    [("héllo", pb.MS_STRING, "héllo".encode()), (b"\0\xff", pb.MS_BYTES, b"\0\xff"),
     ("", pb.MS_STRING, b"")],
)  # fmt: skip
def test_client_sends_text_and_bytes_as_theirs_does(value: Any, dtype: int, data: bytes) -> None:
    tensor = sent(value)
    assert (tensor.dtype, list(tensor.shape.dims)) == (dtype, [1])
    assert (list(tensor.bytes_val), tensor.data) == ([data], b"")


@pytest.mark.parametrize(
    ("instances", "text"),
    [
        ({"x": [1, 2]}, "Not support value type <class 'list'>"),
        ({"x": None}, "Not support value type <class 'NoneType'>"),
        ({"x": np.bool_(True)}, f"Not support value type {np.bool_}"),
        ({"x": np.array(["a"])}, "Unknown data type <U1"),
        ({"x": np.array([1j])}, "Unknown data type complex128"),
        ([1], "instance should be a map"),
        (5, "instance should be a map"),
    ],
)
def test_client_refuses_what_cannot_be_sent_as_recorded(instances: Any, text: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        Client("localhost:1", "s", "m").infer(instances)
    assert str(caught.value) == text


def test_client_ssl_config_wants_certificate_and_key_together(tmp_path: Path) -> None:
    file = tmp_path / "c.pem"
    file.write_text("x")
    with pytest.raises(RuntimeError, match="should be passed at the same time"):
        Client("localhost:1", "s", "m", ssl_config=SSLConfig(certificate=str(file)))
    with pytest.raises(RuntimeError, match="Parameter 'custom_ca' should be str, but actually"):
        SSLConfig(custom_ca=5)
    with pytest.raises(RuntimeError, match="The type of ssl_config should be type of SSLConfig"):
        Client("localhost:1", "s", "m", ssl_config="x")


def test_client_reads_one_error_for_all_and_errors_for_each() -> None:
    failed = pb.ErrorMsg(error_code=3, error_msg=b"bad")
    assert _answer(pb.PredictReply(error_msg=[failed])) == {"error": "bad"}
    good = pb.Instance()
    good.items["y"].dtype = pb.MS_STRING
    good.items["y"].bytes_val.append("é".encode())
    reply = pb.PredictReply(instances=[good, pb.Instance()], error_msg=[pb.ErrorMsg(), failed])
    assert _answer(reply) == [{"y": "é"}, {"error": "bad"}]
    with pytest.raises(RuntimeError, match="error msg result size 2 not be 0, 1 or"):
        _answer(pb.PredictReply(instances=[good], error_msg=[failed, failed]))


def test_client_returns_what_went_wrong_with_the_call() -> None:
    found = Client("127.0.0.1:1", "s", "m").infer({"x": 1})
    prefix = "Grpc Error, (14, 'unavailable'), failed to connect to all addresses"
    assert found["error"].startswith(prefix)
