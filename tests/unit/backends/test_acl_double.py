"""The double of ``acl`` holds callers to CANN's rules: calls, states, threads, memory."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.unit.backends.acl_caller import D2H, H2D, Run

# 1. Arguments and answers.


def test_double_takes_positional_arguments_of_the_right_number_and_type(card: Any) -> None:
    for call in (
        lambda: card.rt.malloc(64),
        lambda: card.rt.malloc(size=64, policy=0),
        lambda: card.rt.malloc(np.int64(64), 0),
        lambda: card.rt.malloc(64.0, 0),
        lambda: card.rt.malloc(True, 0),
    ):
        with pytest.raises(TypeError):
            call()


def test_double_answers_in_the_shapes_of_pyacl(card: Any, plain: Path) -> None:
    run = Run(card, plain)
    assert card.mdl.get_input_dims(run.desc, 0) == ({"name": "x", "dimCount": 1, "dims": [2]}, 0)
    assert card.mdl.get_input_dims(run.desc, 9) == ({}, 100000)
    assert card.mdl.get_output_name_by_index(run.desc, 0) == "Node_0:0:y"
    desc = card.create_tensor_desc(0, [2], 2)
    assert card.destroy_tensor_desc(desc) is None
    assert card.mdl.get_dataset_buffer(run.given, 5) == 0
    free, total, code = card.rt.get_mem_info(0)
    assert (0 < free < total, code) == (True, 0)
    assert card.rt.get_mem_info(1)[2] != 0


def test_double_exports_functions_and_no_constant(acl: Any) -> None:
    for module in (acl, acl.rt, acl.mdl, acl.util):
        public = {n: v for n, v in vars(module).items() if not n.startswith("_")}
        public.pop("annotations", None)
        assert public
        assert all(callable(v) or isinstance(v, ModuleType) for v in public.values())


def test_double_tells_a_handle_of_the_wrong_kind(
    card: Any, plain: Path, broken: Callable[[str], Any]
) -> None:
    run = Run(card, plain)
    handles = {
        "dataset": run.given, "model desc": run.desc, "stream": run.stream, "model": run.model,
        "data buffer": run.given_buffers[0], "context": card.context,
    }  # fmt: skip
    assert len(set(handles.values())) == len(handles)
    with broken("is used as dataset and is a stream"):
        card.mdl.destroy_dataset(run.stream)
    with broken("is no handle"):
        card.rt.destroy_stream(12345)


# 2. States.


def test_double_wants_to_be_initialised_once_and_finalised_once(acl: Any) -> None:
    assert acl.rt.set_device(0) == 100001
    assert acl.init() == 0
    assert acl.init() == 100002
    assert acl.finalize() == 0
    assert acl.finalize() == 100037


def test_double_knows_which_devices_there_are(
    double: Any, acl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    acl.init()
    assert acl.rt.get_device_count() == (1, 0)
    assert acl.rt.set_device(1) == 107001
    monkeypatch.setenv("ACL_DOUBLE_DEVICES", "0")
    double.renew()
    acl.init()
    assert acl.rt.set_device(0) == 207004
    assert acl.get_soc_name() is None


def test_double_wants_the_device_given_back_before_the_end(
    card: Any, broken: Callable[[str], Any]
) -> None:
    with broken("finalized while a device is set"):
        card.finalize()
    with broken("while a context of it lives"):
        card.rt.reset_device(0)
    stream = card.rt.create_stream()[0]
    with broken("while a stream of it lives"):
        card.rt.destroy_context(card.context)
    assert card.rt.destroy_stream(stream) == 0
    assert card.rt.destroy_context(card.context) == 0
    assert card.rt.reset_device(0) == 0
    assert card.finalize() == 0


# 3. Contexts, threads, processes.


def elsewhere(do: Callable[[], Any]) -> Any:
    """Return what a call comes to in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    thread.join()
    return found[0]


def test_double_has_no_context_in_a_new_thread(card: Any) -> None:
    assert elsewhere(card.rt.create_stream) == (0, 107002)
    assert elsewhere(lambda: (card.rt.set_context(card.context), card.rt.get_context())) == (
        0, (card.context, 0),
    )  # fmt: skip


def test_double_keeps_streams_and_models_to_their_context(
    card: Any, plain: Path, broken: Callable[[str], Any]
) -> None:
    run = Run(card, plain)
    other, _ = card.rt.create_context(0)
    assert card.rt.synchronize_stream(run.stream) == 107003
    with broken("under another context than it was loaded in"):
        card.mdl.execute(run.model, run.given, run.wanted)
    with broken("unloaded under another context"):
        card.mdl.unload(run.model)
    assert card.rt.destroy_context(other) == 0
    assert card.rt.create_stream() == (0, 107002)


def test_double_does_not_live_on_in_a_forked_child(card: Any) -> None:
    pid = os.fork()
    if not pid:
        try:
            card.rt.get_device()
        except AssertionError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# 4. Memory.


def test_double_keeps_device_memory_out_of_reach(card: Any, broken: Callable[[str], Any]) -> None:
    device, _ = card.rt.malloc(64, 0)
    host = np.zeros(64, np.uint8)
    assert device % 32 == 0
    with broken("a copy takes device memory for the host's"):
        card.util.ptr_to_bytes(device, 64)
    with broken("a copy takes host for the device memory's"):
        card.rt.memcpy(host.ctypes.data, 64, host.ctypes.data, 64, H2D)
    assert card.rt.memcpy(host.ctypes.data, 64, device, 64, D2H) == 0
    assert set(host) == {0xA5}


def test_double_looks_at_sizes_and_at_what_was_freed(
    card: Any, broken: Callable[[str], Any]
) -> None:
    host = np.zeros(128, np.uint8)
    device, _ = card.rt.malloc(64, 0)
    at = host.ctypes.data
    assert card.rt.malloc(0, 0) == (0, 100000)
    assert card.rt.malloc_host(0) == (0, 100000)
    assert card.rt.memcpy(device, 64, at, 128, H2D) == 107000
    assert card.rt.memcpy(0, 64, at, 64, H2D) == 100000
    assert card.rt.memcpy(device, 64, at, 0, H2D) == 0
    assert card.rt.free(0) == 100000
    with broken("beyond the 64 allocated"):
        card.rt.memcpy(device, 128, at, 128, H2D)
    assert card.rt.free(device) == 0
    with broken("device memory that is not allocated"):
        card.rt.memcpy(device, 64, at, 64, H2D)
    with broken("after this device memory was given up"):
        card.rt.free(device)


def test_double_has_so_much_memory_and_no_more(
    double: Any, acl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACL_DOUBLE_MEMORY_MB", "1")
    double.renew()
    acl.init()
    acl.rt.set_device(0)
    first, code = acl.rt.malloc(1 << 19, 0)
    assert code == 0
    assert acl.rt.get_mem_info(0)[0] == (1 << 19) - 32  # each block is padded by 32 bytes
    assert acl.rt.malloc(1 << 19, 0) == (0, 207001)
    assert acl.rt.free(first) == 0
    assert acl.rt.malloc(1 << 19, 0)[1] == 0


# 5. Borrowed bytes.


def test_double_notices_bytes_that_died_before_the_copy(
    card: Any, broken: Callable[[str], Any]
) -> None:
    device, _ = card.rt.malloc(64, 0)
    kept = bytes(bytearray(range(64)))
    assert card.rt.memcpy(device, 64, card.util.bytes_to_ptr(kept), 64, H2D) == 0
    address = card.util.bytes_to_ptr(bytes(bytearray(range(64))))
    with broken("of a bytes object that is gone"):
        card.rt.memcpy(device, 64, address, 64, H2D)
    with pytest.raises((ValueError, TypeError)):
        card.util.bytes_to_ptr(bytearray(4))


def test_double_numbers_are_all_different_by_kind(card: Any) -> None:
    made = [card.mdl.create_desc() for _ in range(3)] + [card.mdl.create_dataset()]
    assert all(a != b for a, b in itertools.combinations(made, 2))
