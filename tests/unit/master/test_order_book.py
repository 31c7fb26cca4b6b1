"""Which models a worker on a device is to have."""

from __future__ import annotations

from serving.channel.messages import Load
from serving.devices import Device, Where
from serving.master.order_book import OrderBook, Ordered

CPU, FIRST, SECOND, NPU = Device(), Device("gpu", 0), Device("gpu", 1), Device("ascend", 0)


def ordered(model: int, backend: str = "stub") -> Ordered:
    return Ordered(Load(model, "m", "/m", backend, {}, True, 1, 1, False), 5.0)


def models(book: OrderBook, device: Device) -> list[int]:
    return [found.load.model for found in book.for_device(device)]


def test_order_holds_for_the_devices_that_it_names() -> None:
    book = OrderBook()
    book.put(Where("cpu"), ordered(1, "onnxruntime"))
    book.put(Where("gpu", (1,)), ordered(1, "tensorrt"))
    book.put(Where("gpu"), ordered(2))
    assert [models(book, d) for d in (CPU, FIRST, SECOND, NPU)] == [[1], [2], [1, 2], []]
    found = book.of(1, SECOND)
    assert found is not None
    assert found.load.backend == "tensorrt"
    assert book.of(1, FIRST) is None


def test_order_for_the_same_devices_is_replaced() -> None:
    book = OrderBook()
    book.put(Where("gpu"), ordered(1, "old"))
    book.put(Where("gpu"), ordered(1, "new"))
    found = book.of(1, FIRST)
    assert found is not None
    assert found.load.backend == "new"


def test_order_that_is_taken_back_is_gone_there_or_everywhere() -> None:
    book = OrderBook()
    for where in (Where("cpu"), Where("gpu")):
        book.put(where, ordered(1))
    book.take_back(1, Where("gpu"))
    assert (models(book, CPU), models(book, FIRST)) == ([1], [])
    assert 1 in book
    book.take_back(1, Where("cpu"))
    assert 1 not in book
    book.put(Where("gpu"), ordered(1))
    book.take_back(1)
    assert 1 not in book
    book.take_back(1)  # once more does no harm
