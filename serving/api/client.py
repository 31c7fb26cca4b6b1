"""``mindspore_serving.client``: a client of MindSpore Serving's gRPC protocol, as scripts know it.

Errors of arguments are RuntimeErrors with MindSpore Serving's texts. What the server says is wrong
is no exception: it is returned as ``{"error": text}``, for one instance or for all of them.
"""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.register import checks

__all__ = ["Client", "SSLConfig"]

_PREDICT = "/mindspore.serving.proto.MSService/Predict"
_MESSAGE_BYTES = 512 << 20
_NUMBERS = {
    np.dtype(np.bool_): pb.MS_BOOL,
    np.dtype(np.int8): pb.MS_INT8,
    np.dtype(np.uint8): pb.MS_UINT8,
    np.dtype(np.int16): pb.MS_INT16,
    np.dtype(np.uint16): pb.MS_UINT16,
    np.dtype(np.int32): pb.MS_INT32,
    np.dtype(np.uint32): pb.MS_UINT32,
    np.dtype(np.int64): pb.MS_INT64,
    np.dtype(np.uint64): pb.MS_UINT64,
    np.dtype(np.float16): pb.MS_FLOAT16,
    np.dtype(np.float32): pb.MS_FLOAT32,
    np.dtype(np.float64): pb.MS_FLOAT64,
}
_DTYPES = {number: dtype for dtype, number in _NUMBERS.items()}

Answer = Any
"""A list with a dict for each instance, or one dict ``{"error": text}``."""


class SSLConfig:
    """PEM files of a client: a certificate and its key for servers that ask, whom to trust.

    Without ``custom_ca`` the authorities that gRPC comes with are trusted. Raises RuntimeError.
    """

    def __init__(
        self, certificate: Any = None, private_key: Any = None, custom_ca: Any = None
    ) -> None:
        given = {"certificate": certificate, "private_key": private_key, "custom_ca": custom_ca}
        for name, value in given.items():
            if value is not None:
                checks.text(name, value)
        self.certificate: str | None = certificate
        self.private_key: str | None = private_key
        self.custom_ca: str | None = custom_ca

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what gRPC connects with. Raises RuntimeError, and OSError for a file."""
        if (self.certificate is None) != (self.private_key is None):
            raise RuntimeError("The certificate and private_key should be passed at the same time")
        return grpc.ssl_channel_credentials(
            _content(self.custom_ca), _content(self.private_key), _content(self.certificate)
        )


class Client:
    """A method of a servable at an address, ``host:port`` or ``unix:path``.

    ``version_number`` 0 asks the highest version that serves. The connection is made with the
    first call and lasts as long as this object. Raises RuntimeError.
    """

    def __init__(
        self,
        address: Any,
        servable_name: Any,
        method_name: Any,
        version_number: Any = 0,
        ssl_config: Any = None,
    ) -> None:
        self.address = checks.text("address", address)
        self.servable_name = checks.text("servable_name", servable_name)
        self.method_name = checks.text("method_name", method_name)
        self.version_number = checks.integer("version_number", version_number, 0)
        options = (
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        )
        if ssl_config is None:
            self.channel = grpc.insecure_channel(address, options)
        elif isinstance(ssl_config, SSLConfig):
            self.channel = grpc.secure_channel(address, ssl_config.credentials(), options)
        else:
            raise RuntimeError("The type of ssl_config should be type of SSLConfig")
        self._predict = self.channel.unary_unary(
            _PREDICT, pb.PredictRequest.SerializeToString, pb.PredictReply.FromString
        )

    def infer(self, instances: Any) -> Answer:
        """Ask, and wait for the answer; ``instances`` is a dict of inputs, or a list or tuple.

        A value is a number, text, bytes, or a numpy array or number. Returns ``{"error": text}``
        for a call that failed as well; raises RuntimeError for what cannot be sent.
        """
        request = self._request(instances)
        try:
            return _answer(self._predict(request))
        except grpc.RpcError as error:
            return {"error": f"Grpc Error, {error.code().value}, {error.details()}"}

    def infer_async(self, instances: Any) -> AsyncResult:
        """Ask, and go on; the answer is had from ``result()`` of what is returned."""
        return AsyncResult(self._predict.future(self._request(instances)))

    def _request(self, instances: Any) -> pb.PredictRequest:
        request = pb.PredictRequest()
        request.servable_spec.name = self.servable_name
        request.servable_spec.method_name = self.method_name
        request.servable_spec.version_number = self.version_number
        for instance in instances if isinstance(instances, (tuple, list)) else (instances,):
            if not isinstance(instance, dict):
                raise RuntimeError("instance should be a map")
            items = request.instances.add().items
            for name, value in instance.items():
                _fill(items[name], value)
        return request


class AsyncResult:
    """The answer of a call that is under way."""

    def __init__(self, result_future: Any) -> None:
        self.result_future = result_future

    def result(self) -> Answer:
        """Wait for the answer, and return it as ``infer`` does; raises grpc.RpcError."""
        return _answer(self.result_future.result())


def _fill(tensor: pb.Tensor, value: Any) -> None:
    """Write a value; Python's own numbers are arrays of one element, as they always were."""
    if isinstance(value, (np.ndarray, np.number)):
        _fill_array(tensor, np.asarray(value))
    elif isinstance(value, str):
        _fill_text(tensor, pb.MS_STRING, value.encode())
    elif isinstance(value, (bool, int, float)):
        _fill_array(tensor, np.array((value,)))
    elif isinstance(value, bytes):
        _fill_text(tensor, pb.MS_BYTES, value)
    else:
        raise RuntimeError(f"Not support value type {type(value)}")


def _fill_array(tensor: pb.Tensor, array: Any) -> None:
    number = _NUMBERS.get(array.dtype)
    if number is None:
        raise RuntimeError(f"Unknown data type {array.dtype}")
    tensor.dtype = number
    tensor.shape.dims.extend(array.shape)
    tensor.data = array.tobytes()


def _fill_text(tensor: pb.Tensor, number: int, value: bytes) -> None:
    tensor.dtype = number
    tensor.shape.dims.append(1)
    tensor.bytes_val.append(value)


def _answer(reply: pb.PredictReply) -> Answer:
    errors = reply.error_msg
    if len(errors) == 1 and errors[0].error_code != 0:
        return {"error": errors[0].error_msg.decode()}
    if len(errors) not in (0, len(reply.instances)):
        raise RuntimeError(
            f"error msg result size {len(errors)} not be 0, 1 or length of instances "
            f"{len(reply.instances)}"
        )
    return [
        {"error": errors[place].error_msg.decode()}
        if errors and errors[place].error_code != 0
        else {name: _value(tensor) for name, tensor in instance.items.items()}
        for place, instance in enumerate(reply.instances)
    ]


def _value(tensor: pb.Tensor) -> Any:
    if tensor.dtype in (pb.MS_STRING, pb.MS_BYTES):
        values = [v.decode() if tensor.dtype == pb.MS_STRING else v for v in tensor.bytes_val]
        return values[0] if len(values) == 1 else values
    return np.frombuffer(tensor.data, _DTYPES[tensor.dtype]).reshape(tensor.shape.dims)


def _content(file: str | None) -> bytes | None:
    if file is None:
        return None
    with open(file, "rb") as stream:
        return stream.read()
