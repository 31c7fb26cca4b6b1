"""Requests are cut into instances, and answers joined."""

from __future__ import annotations

import numpy as np
import pytest

from serving.errors import ExecutionFailed, InvalidRequest
from serving.scheduling.pipeline.instances import count, cut, join
from serving.tensor import BYTES, TEXT, Tensor


def numbers(name: str, *shape: int) -> Tensor:
    size = int(np.prod(shape))
    return Tensor.of(name, np.arange(size, dtype=np.int32).reshape(shape))


def test_cut_shares_memory_and_keeps_scalars_arrays() -> None:
    whole = numbers("x", 3)
    (value,) = cut([whole], 2)
    assert value.shape == ()
    assert value.array is not None
    assert value.array.tolist() == 2
    assert whole.array is not None
    assert np.shares_memory(value.array, whole.array)


def test_cut_takes_each_instance_its_strings() -> None:
    texts = Tensor("t", TEXT, (2, 2), items=[b"a", b"b", b"c", b"d"])
    (value,) = cut([texts], 1)
    assert (value.dtype, value.shape, value.items) == (TEXT, (2,), [b"c", b"d"])


def test_join_of_what_was_cut_is_the_same() -> None:
    tensors = [numbers("x", 3, 2), Tensor("t", BYTES, (3,), items=[b"a", b"", b"c"])]
    parts = [cut(tensors, index) for index in range(3)]
    joined = join(("x", "t"), parts)
    assert [t.shape for t in joined] == [(3, 2), (3,)]
    assert joined[0].array is not None
    assert joined[0].array.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert joined[1].items == [b"a", b"", b"c"]


def test_join_of_one_copies_nothing() -> None:
    (value,) = cut([numbers("x", 1, 4)], 0)
    (joined,) = join(("y",), [(value,)])
    assert (joined.name, joined.shape) == ("y", (1, 4))
    assert joined.array is not None
    assert value.array is not None
    assert np.shares_memory(joined.array, value.array)


@pytest.mark.parametrize(
    "other", [numbers("", 3), Tensor("", TEXT, (2,), items=[b"a", b"b"])], ids=["shape", "type"]
)
def test_join_names_the_first_instance_that_differs(other: Tensor) -> None:
    same = numbers("", 2)
    with pytest.raises(ExecutionFailed, match=r"output 'y' is INT32\[2\] for instance 0") as caught:
        join(("y",), [(same,), (same,), (other,)])
    assert caught.value.where == "instances[2]"
    assert caught.value.code == "uneven_instances"


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ([numbers("x")], "wrong_rank"),
        ([numbers("x", 2), numbers("y", 3)], "wrong_shape"),
        ([numbers("x", 0, 2)], "empty_batch"),
    ],
)
def test_count_refuses_what_are_no_instances(tensors: list[Tensor], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        count(tensors)
    assert caught.value.code == code


def test_count_of_a_method_without_inputs_is_one() -> None:
    assert count([]) == 1
