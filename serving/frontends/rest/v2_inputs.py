"""Read the inputs of a V2 call over REST: JSON, or binary data in the order of the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.errors import InvalidRequest
from serving.frontends import raw_tensor, v2_parameters
from serving.frontends.fit import check_dtype, check_names, check_shape, check_text, named_dtype
from serving.frontends.plan import InputPlan, plan_for
from serving.frontends.rest import json_document, json_open, json_tensor
from serving.frontends.rest.json_document import Document, is_array, wrong_type
from serving.frontends.shared_memory import sharing
from serving.frontends.value import Value
from serving.request import Description
from serving.tensor import ANY, BYTES, TEXT, DType, Tensor, element_count, shape_text


class Inputs:
    """Reads the inputs of one request, and uses up the binary data in their order.

    ``binary`` are the names of the inputs that were binary data, in that order; ``shared`` are the
    parameters of those that lie in shared memory: their tensors are without elements.
    """

    def __init__(self, document: Document, description: Description, tail: memoryview) -> None:
        self._document = document
        self._tail = tail
        self._known = plan_for(description).by_name
        self._specs = description.signature.inputs
        self.binary: list[str] = []
        self.shared: dict[str, Mapping[str, v2_parameters.Scalar]] = {}

    def read(self, raw: Any) -> tuple[Tensor, ...]:
        """Return the tensors in the signature's order."""
        if not is_array(raw):
            raise wrong_type("inputs", "a list of tensors", raw)
        tensors: dict[str, Tensor] = {}
        for index, item in enumerate(self._document.elements(raw)):
            found = json_document.members(item, f"inputs[{index}]")
            name = json_document.text_field(found, "name", f"inputs[{index}].name")
            if name in tensors:
                raise InvalidRequest(
                    f"input {name!r} is given twice", code="duplicate_input", where="inputs"
                )
            item_plan = self._known.get(name)
            if item_plan is None:
                check_names({name}, self._specs, f"inputs[{index}]")
            else:
                tensors[name] = self._tensor(found, item_plan, f"inputs.{name}")
        if len(tensors) != len(self._specs):
            check_names(set(tensors), self._specs, "inputs")
        if len(self._tail):
            raise InvalidRequest(
                "bytes are left over after the last binary tensor",
                code="wrong_size",
                where="body",
                expected="as many bytes as the binary_data_size values add up to",
                given=f"{len(self._tail)} more",
            )
        return tuple([tensors[spec.name] for spec in self._specs])

    def _tensor(self, found: dict[str, Any], plan: InputPlan, where: str) -> Tensor:
        spec = plan.spec
        dtype, named = spec.dtype, json_document.text_field(found, "datatype", f"{where}.datatype")
        if dtype is ANY:
            dtype = named_dtype(named, f"{where}.datatype")
        else:
            check_dtype(named, spec, f"{where}.datatype")
        shape = json_document.shape_field(self._document, found.get("shape"), f"{where}.shape")
        check_shape(shape, plan.whole, f"{where}.shape", plan.axis)
        parameters: Mapping[str, v2_parameters.Scalar] = {}
        if found.get("parameters") is not None:
            parameters = json_document.scalars(found["parameters"], f"{where}.parameters")
            v2_parameters.refuse_input_parameters(parameters, f"{where}.parameters")
            shared = sharing.of(parameters)
            if shared:
                self.shared[spec.name] = shared
                if spec.dtype is ANY and dtype is BYTES and v2_parameters.says_text(parameters):
                    dtype = TEXT
                _check_no_other_data(found, parameters, where)
                return Tensor(spec.name, dtype, shape)
        size = parameters.get("binary_data_size")
        if (size is None) == ("data" not in found):
            raise InvalidRequest(
                "an input needs either 'data' or binary data",
                code="bad_input",
                where=where,
                expected="exactly one of 'data' and 'parameters.binary_data_size'",
                given="neither" if size is None else "both",
            )
        if size is None:
            value = _from_json(self._document, found["data"], dtype, shape, f"{where}.data")
        else:
            data = self._take(size, f"{where}.parameters.binary_data_size")
            self.binary.append(spec.name)
            value = raw_tensor.read(data, dtype, shape, spec.name, where)
        if spec.dtype is ANY and dtype is BYTES:
            dtype = _string_dtype(value, found.get("data"), parameters, where)
        return Tensor(spec.name, dtype, shape, value.array, value.items)

    def _take(self, size: v2_parameters.Scalar, where: str) -> memoryview:
        left = len(self._tail)
        if type(size) is not int or not 0 <= size <= left:
            raise InvalidRequest(
                "the size of the binary data is not usable",
                code="wrong_size",
                where=where,
                expected=f"an integer from 0 to the {left} bytes that are left of the body",
                given=repr(size)[:60],
                fix="" if left else "Inference-Header-Content-Length says where the JSON ends",
            )
        data, self._tail = self._tail[:size], self._tail[size:]
        return data


def _check_no_other_data(
    found: Mapping[str, Any], parameters: Mapping[str, v2_parameters.Scalar], where: str
) -> None:
    if "data" in found or "binary_data_size" in parameters:
        raise InvalidRequest(
            "an input in shared memory has no other data",
            code="bad_input",
            where=where,
            expected="no 'data' and no binary data beside 'parameters.shared_memory_region'",
        )


def _string_dtype(
    value: Value, data: Any, parameters: Mapping[str, v2_parameters.Scalar], where: str
) -> DType:
    """Return TEXT for JSON strings and for what is called text, else BYTES."""
    if v2_parameters.says_text(parameters):
        check_text(value.items or (), where)
        return TEXT
    return BYTES if data is None else json_open.strings(data)


def _from_json(
    document: Document, raw: Any, dtype: DType, shape: tuple[int, ...], where: str
) -> Value:
    """Read ``data``, flat in C order or nested as the shape says."""
    value = json_tensor.read(document, raw, dtype, where)
    count = element_count(shape)
    given = value.shape
    if element_count(given) != count or (len(given) > 1 and count and given != shape):
        raise InvalidRequest(
            "the data does not match the shape",
            code="wrong_size",
            where=where,
            expected=f"{count} elements, flat or nested as {shape_text(shape)}",
            given=f"{element_count(given)} elements as {shape_text(given)}",
        )
    array = None if value.array is None else value.array.reshape(shape)
    return Value(shape, array, value.items)
