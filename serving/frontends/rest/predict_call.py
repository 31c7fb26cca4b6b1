"""A decoded call of ``POST /predict``, and how its answer is written."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.errors import ExecutionFailed, InvalidRequest, ServingError
from serving.frontends.method import name_of
from serving.frontends.plan import plan_for
from serving.frontends.rest import json_answer, predict_rows
from serving.frontends.rest.wire import Reply
from serving.request import Description, InferRequest, InferResponse


class PredictCall(NamedTuple):
    """A decoded call; ``groups`` is None for the ``inputs`` form."""

    description: Description
    requests: tuple[InferRequest, ...]
    groups: tuple[predict_rows.Group, ...] | None
    id: str

    @property
    def encodes_fast(self) -> bool:
        """False: every number is written as text."""
        return False

    def failed(self, index: int, error: ServingError) -> ServingError:
        """Return an error that names the instance, where it is that of a method's instance."""
        is_own = isinstance(error, (InvalidRequest, ExecutionFailed))
        if self.groups is None or not self.description.method or not is_own:
            return error
        named = copy.copy(error)  # others may be answered with the same one
        named.where = f"instances[{index}]{error.where.removeprefix('inputs')}"
        return named

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the answers as one JSON object."""
        version = responses[0].version if responses else self.description.version
        answer: dict[str, Any] = {
            "servable": self.description.servable,
            "version": version,
            "method": name_of(self.description),
        }
        if self.id:
            answer["id"] = self.id
        if self.groups is None:
            known = plan_for(self.description).outputs
            answer["outputs"] = {
                t.name: predict_rows.whole(t, known[t.name].spec) for t in responses[0].outputs
            }
        else:
            answer["instances"] = predict_rows.split(self.groups, responses, self.description)
        return Reply(json_answer.dumps(answer))
