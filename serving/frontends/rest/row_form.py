"""What calls have in common that differ in their numbers only: read and answered as one.

A codec that keeps the frame of a body offers it as a ``RowForm``; whoever gathers such calls knows
no wire format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from serving.frontends import rows
from serving.frontends.method import Describe
from serving.frontends.rest.wire import Call, Reply
from serving.request import Description, InferRequest, InferResponse


class Written(NamedTuple):
    """The answers to calls, in order: each is a text between what is the same for all of them.

    ``like`` is the reply that each is, but for its body.
    """

    like: Reply
    before: bytes
    texts: list[bytes]
    after: bytes


class RowForm(Protocol):
    """The form of calls of so many rows for one input."""

    @property
    def unit(self) -> int:
        """How many rows each of them has."""
        ...

    def holds(self, describe: Describe) -> bool:
        """Return whether such calls still mean what they did; raises what ``describe`` raises."""
        ...

    def request(self, texts: Sequence[bytes]) -> InferRequest | None:
        """Return the request of as many calls as there are texts, None if one of them is not fit.

        A text is what stands in a call where the form has numbers.
        """
        ...

    def written(self, response: InferResponse) -> Written | None:
        """Return the answers to the calls of a response, None to write each with ``one``."""
        ...

    def one(self, response: InferResponse) -> Reply | None:
        """Return the answer to the call that a response is for; None to let ``call`` write it.

        Where it is long, or holds what it takes more than this form to write.
        """
        ...

    def call(self) -> Call:
        """Return one of the calls by itself, to write any answer with."""
        ...


class Cut(NamedTuple):
    """A form that a body has, and the bytes before and behind its numbers."""

    form: RowForm
    before: int
    behind: int


def stacks(description: Description, unit: int) -> bool:
    """Return whether calls of so many rows for the one input of a model may go together."""
    one_input = len(description.batch.inputs) == 1 and not description.method
    return one_input and rows.stacks(description, unit)
