"""No model: a function for each kind of value, and for each kind of mistake."""

import os
import time

import numpy as np
from mindspore_serving.server import register


def _echo(x):
    return x


def _describe(x):
    if isinstance(x, np.ndarray):
        return f"ndarray:{x.dtype}:{list(x.shape)}:{x.tolist()!r}"
    return f"{type(x).__name__}:{x!r}"


def _str_concat(a, b):
    return a + b


def _bytes_concat(a, b):
    return a.tobytes() + b.tobytes()


def _bool_not(x):
    return ~x


def _plus1(x):
    return x + 1


def _plus1_keep(x):
    return (x + 1).astype(x.dtype)


def _values(x):
    array = np.arange(3, dtype=np.int16)
    return True, 7, 1.5, "text", b"raw\x00\xff", np.float32(2.5), array


def _fail(x):
    total = int(np.sum(x))
    if total % 2:
        raise ValueError(f"odd value {total}")
    return x


def _slow(x):
    time.sleep(float(np.asarray(x).reshape(-1)[0]))
    return os.getpid()


def _batch_length(instances):
    for _ in instances:
        yield len(instances)


def _batch_length_of_any(instances):
    for _ in instances:
        yield len(instances)


def _batch_fail(instances):
    for (x,) in instances:
        if int(np.sum(x)) == 13:
            raise RuntimeError("thirteen")
        yield x


def _zero(x):
    return np.zeros((2, 0), np.float32)


def _scalar(x):
    return np.array(3.0, np.float64)


def _nan(x):
    return np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)


def _in_place(x):
    x += 1
    return x


# What MindSpore Serving's worker does not survive.


def _none(x):
    return None


def _lists(x):
    return [[1, 2], [3, 4]]


def _dict(x):
    return {"a": 1}


def _texts(x):
    return np.array(["a", "b"])


def _fortran(x):
    return np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))


def _transposed(x):
    return np.arange(6, dtype=np.float32).reshape(2, 3).T


def _too_many_outputs(x):
    return x, x


def _batch_few(instances):
    for (x,) in instances[:-1]:
        yield x


def _exit(x):
    raise SystemExit(3)


@register.register_method(output_names=["y"])
def echo(x):
    return register.add_stage(_echo, x, outputs_count=1)


@register.register_method(output_names=["y"])
def passthrough(x):
    return x


@register.register_method(output_names=["y"])
def describe(x):
    return register.add_stage(_describe, x, outputs_count=1)


@register.register_method(output_names=["text"])
def str_concat(a, b):
    return register.add_stage(_str_concat, a, b, outputs_count=1)


@register.register_method(output_names=["text"])
def bytes_concat(a, b):
    return register.add_stage(_bytes_concat, a, b, outputs_count=1)


@register.register_method(output_names=["value"])
def bool_not(x):
    return register.add_stage(_bool_not, x, outputs_count=1)


@register.register_method(output_names=["value"])
def plus1(x):
    return register.add_stage(_plus1, x, outputs_count=1)


@register.register_method(output_names=["value"])
def plus1_keep(x):
    return register.add_stage(_plus1_keep, x, outputs_count=1)


@register.register_method(output_names=["b", "i", "f", "s", "by", "npf", "arr"])
def pyvals(x):
    return register.add_stage(_values, x, outputs_count=7)


@register.register_method(output_names=["y"])
def fail_odd(x):
    return register.add_stage(_fail, x, outputs_count=1)


@register.register_method(output_names=["y"])
def slow(x):
    return register.add_stage(_slow, x, outputs_count=1)


@register.register_method(output_names=["n"])
def batchlen8(x):
    return register.add_stage(_batch_length, x, outputs_count=1, batch_size=8)


@register.register_method(output_names=["n"])
def batchlen0(x):
    return register.add_stage(_batch_length_of_any, x, outputs_count=1, batch_size=0)


@register.register_method(output_names=["y"])
def batch_fail(x):
    return register.add_stage(_batch_fail, x, outputs_count=1, batch_size=8)


@register.register_method(output_names=["y"])
def zero(x):
    return register.add_stage(_zero, x, outputs_count=1)


@register.register_method(output_names=["y"])
def scalar0(x):
    return register.add_stage(_scalar, x, outputs_count=1)


@register.register_method(output_names=["y"])
def nan(x):
    return register.add_stage(_nan, x, outputs_count=1)


@register.register_method(output_names=["y"])
def argmax(x):
    return register.add_stage("argmax_cpp", x, outputs_count=1)


@register.register_method(output_names=["y"])
def in_place(x):
    return register.add_stage(_in_place, x, outputs_count=1)


@register.register_method(output_names=["y"])
def none(x):
    return register.add_stage(_none, x, outputs_count=1)


@register.register_method(output_names=["y"])
def lists(x):
    return register.add_stage(_lists, x, outputs_count=1)


@register.register_method(output_names=["y"])
def a_dict(x):
    return register.add_stage(_dict, x, outputs_count=1)


@register.register_method(output_names=["y"])
def texts(x):
    return register.add_stage(_texts, x, outputs_count=1)


@register.register_method(output_names=["y"])
def fortran(x):
    return register.add_stage(_fortran, x, outputs_count=1)


@register.register_method(output_names=["y"])
def transposed(x):
    return register.add_stage(_transposed, x, outputs_count=1)


@register.register_method(output_names=["y"])
def too_many_outputs(x):
    return register.add_stage(_too_many_outputs, x, outputs_count=1)


@register.register_method(output_names=["y"])
def batch_few(x):
    return register.add_stage(_batch_few, x, outputs_count=1, batch_size=8)


@register.register_method(output_names=["y"])
def leave(x):
    return register.add_stage(_exit, x, outputs_count=1)
