"""The calls of TensorFlow Serving's gRPC services: bytes in, data plane, bytes out."""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from serving.dataplane import DataPlane
from serving.errors import Unimplemented
from serving.frontends.grpc import tf_codec, tf_tensor
from serving.frontends.grpc.calls import REQUEST_ID, Call, Inference, request_id, unary
from serving.frontends.grpc.exchange import Exchange
from serving.frontends.grpc.methods import Context, DirectContext, Finish, Methods, Running
from serving.frontends.grpc.status import outcome
from serving.frontends.grpc.stubs import tensorflow_serving_pb2 as pb
from serving.frontends.grpc.tf_codec import HEAVY_BYTES, Parcel
from serving.frontends.tensorflow.model_status import statuses
from serving.frontends.tensorflow.signatures import signatures
from serving.request import InferRequest, InferResponse

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
SESSION = "tensorflow.serving.SessionService"
NAMES = (PREDICTION, MODEL, SESSION)

_BY_TENSORS = "send the inputs as tensors to PredictionService/Predict, which answers with outputs"
_EXAMPLES = "takes features of tf.Example, which the models served here have not"
_REFUSED = {
    PREDICTION: {
        "Classify": (f"Classify {_EXAMPLES}", _BY_TENSORS),
        "Regress": (f"Regress {_EXAMPLES}", _BY_TENSORS),
        "MultiInference": (f"MultiInference {_EXAMPLES}", _BY_TENSORS),
    },
    MODEL: {
        "HandleReloadConfigRequest": (
            "there is no list of models to replace: the model directory is what is served",
            "put a model's folder there, or load by request: `serving load NAME`, "
            "POST /v2/repository/models/NAME/load",
        ),
    },
    SESSION: {
        "SessionRun": (
            "nodes of a graph cannot be run here",
            "name inputs and outputs of the model to PredictionService/Predict",
        ),
    },
}


class _Decoded(NamedTuple):
    request: InferRequest
    signature: str


class TensorFlowService:
    """Answers TensorFlow Serving's clients from a data plane; owned by ``GrpcFrontEnd``.

    ``limit_bytes`` bounds what a request's tensors may come to when an element stands for many.
    """

    def __init__(self, plane: DataPlane, inference: Inference, limit_bytes: int) -> None:
        self._plane = plane
        self._inference = inference
        self._limit_bytes = limit_bytes

    def methods(self) -> Methods:
        """Return what an engine offers, by path."""
        offered: dict[str, dict[str, Call]] = {
            PREDICTION: {"Predict": self._predict, "GetModelMetadata": self._metadata},
            MODEL: {"GetModelStatus": self._status},
            SESSION: {},
        }
        direct = {PREDICTION: {"Predict": self._begin_predict}}
        found = {}
        for name, calls in offered.items():
            refused = {call: _refuses(*why) for call, why in _REFUSED[name].items()}
            ways = direct.get(name, {})
            found.update(unary(name, calls | refused, outcome, self._plane, ways, views=ways))
        return found

    async def _predict(self, data: bytes, context: Context) -> bytes:
        inference = self._inference
        inference.begin()
        try:
            parcel = tf_codec.unpack(data)
            remaining = context.time_remaining()
            deadline = None if remaining is None else time.monotonic() + remaining
            terms = request_id(context), deadline
            if tf_codec.is_heavy(parcel):
                decoded = await inference.on_thread(self._decode, parcel, terms)
            else:
                decoded = self._decode(parcel, terms)
            response = await inference.answer(decoded.request)
            encode = partial(tf_codec.encode, signature=decoded.signature)
            slow = tf_tensor.is_slow(response.outputs, HEAVY_BYTES)
            return await inference.encode(response, encode, HEAVY_BYTES, slow=slow)
        finally:
            inference.end()

    def _begin_predict(
        self, data: bytes | memoryview, context: DirectContext, finish: Finish
    ) -> Running | None:
        parcel = tf_codec.unpack(data)
        if tf_codec.is_heavy(parcel):
            return None
        decoded = self._decode(parcel, context.terms(REQUEST_ID))
        encode = partial(tf_codec.encode, signature=decoded.signature)
        return _Exchange(self._inference, decoded.request, encode, HEAVY_BYTES, finish)

    def _decode(self, parcel: Parcel, terms: tuple[str, float | None]) -> _Decoded:
        id, deadline = terms
        message = tf_codec.parse(pb.PredictRequest, parcel.head)
        asked = tf_codec.target_of(message.model_spec)
        signature = message.model_spec.signature_name
        description = asked.described(self._plane.describe, signature)
        request = tf_codec.decode(
            message,
            parcel.inputs,
            description,
            self._limit_bytes,
            asked=asked,
            deadline=deadline,
            id=id,
        )
        return _Decoded(request, signature)

    async def _metadata(self, data: bytes, _context: Context) -> bytes:
        message = tf_codec.parse(pb.GetModelMetadataRequest, data)
        tf_codec.check_fields(message.metadata_field)
        asked = tf_codec.target_of(message.model_spec)
        return tf_codec.metadata(asked.servable, signatures(self._plane, asked))

    async def _status(self, data: bytes, _context: Context) -> bytes:
        message = tf_codec.parse(pb.GetModelStatusRequest, data)
        asked = tf_codec.target_of(message.model_spec)
        return tf_codec.status(await statuses(self._plane, asked))


class _Exchange(Exchange):
    """An exchange whose answer has integers written one by one."""

    __slots__ = ()

    def _is_heavy(self, response: InferResponse) -> bool:
        return super()._is_heavy(response) or tf_tensor.is_slow(response.outputs, HEAVY_BYTES)


def _refuses(message: str, fix: str) -> Call:
    async def refuse(_data: bytes, _context: Context) -> bytes:
        raise Unimplemented(message, fix=fix)

    return refuse
