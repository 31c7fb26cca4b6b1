"""The calls of ``serving.v1.Serving``: bytes in, data plane, bytes out."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

from serving.dataplane import DataPlane
from serving.errors import NotFound, ServingError, Unavailable
from serving.frontends.grpc import status, v1_codec
from serving.frontends.grpc.calls import Inference, request_id, unary
from serving.frontends.grpc.exchange import Exchange
from serving.frontends.grpc.methods import Context, Finish, Methods, Running
from serving.frontends.grpc.status import Outcome
from serving.frontends.method import checked, of_model
from serving.request import Description, InferRequest
from serving.v1 import ERROR_TRAILER, SERVICE, description, failure
from serving.v1.stubs import serving_v1_pb2 as pb
from serving.v1.tensors import Parcel

NAME = SERVICE


class V1Service:
    """Answers the protocol's calls from a data plane; owned by ``GrpcFrontEnd``."""

    def __init__(self, plane: DataPlane, inference: Inference) -> None:
        self._plane = plane
        self._inference = inference

    def methods(self) -> Methods:
        """Return what an engine offers, by path."""
        calls = {
            "Predict": self._predict,
            "Describe": self._describe,
            "List": self._list,
            "Ready": self._ready,
        }
        direct = {"Predict": self._begin_predict}
        return unary(NAME, calls, _outcome, self._plane, direct)

    async def _predict(self, data: bytes, context: Context) -> bytes:
        inference = self._inference
        inference.begin()
        try:
            parcel = v1_codec.unpack(data)
            if v1_codec.is_heavy(parcel):
                request, known = await inference.on_thread(self._decode, parcel, context)
            else:
                request, known = self._decode(parcel, context)
            response = await inference.answer(request)
            encode = functools.partial(v1_codec.encode, description=known)
            return await inference.encode(response, encode, v1_codec.HEAVY_BYTES)
        finally:
            inference.end()

    def _begin_predict(self, data: bytes, context: Context, finish: Finish) -> Running | None:
        parcel = v1_codec.unpack(data)
        if v1_codec.is_heavy(parcel):
            return None
        request, known = self._decode(parcel, context)
        encode = functools.partial(v1_codec.encode, description=known)
        return Exchange(self._inference, request, encode, v1_codec.HEAVY_BYTES, finish)

    def _decode(self, parcel: Parcel, context: Context) -> tuple[InferRequest, Description]:
        remaining = context.time_remaining()
        message = v1_codec.parse(pb.PredictRequest, parcel.head)
        known = self._described(message)
        request = v1_codec.decode(
            message,
            parcel.tensors,
            known,
            deadline=None if remaining is None else time.monotonic() + remaining,
            # Reading the metadata costs as much as the parsing, so only where it is needed.
            id=message.id or request_id(context),
        )
        return request, known

    def _described(self, message: Any) -> Description:
        servable, version = v1_codec.target(message)
        return self._plane.describe(servable, version, checked(message.method, "method") or None)

    async def _describe(self, data: bytes, _context: Context) -> bytes:
        message = v1_codec.parse(pb.DescribeRequest, data)
        known = self._described(message)
        return bytes(description.to_message(known).SerializeToString())

    async def _list(self, data: bytes, _context: Context) -> bytes:
        v1_codec.parse(pb.ListRequest, data)
        return v1_codec.listed(await self._plane.servables())

    async def _ready(self, data: bytes, _context: Context) -> bytes:
        message = v1_codec.parse(pb.ReadyRequest, data)
        ready = self._plane.ready()
        if message.servable:
            # Clients poll this for servables that are still to come: not known is not ready.
            try:
                servable, version = v1_codec.target(message)
                ready = of_model(self._plane, servable or "", version).ready
            except (NotFound, Unavailable):
                ready = False
        return bytes(pb.ReadyResponse(ready=ready).SerializeToString())


def _outcome(error: ServingError) -> Outcome:
    """Return how a call ends: as on every service, and with the error itself for our clients."""
    end = status.outcome(error)
    trailer = (ERROR_TRAILER, failure.to_bytes(error))
    return dataclasses.replace(end, trailers=(*end.trailers, trailer))
