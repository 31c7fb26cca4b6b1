"""The inference routes in OpenAPI's words, added to what FastAPI writes of its own routes."""

from __future__ import annotations

from typing import Any

_DTYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16", "BYTES",
]  # fmt: skip


def with_inference(schema: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's schema with the inference routes, their bodies and their errors."""
    paths = schema.setdefault("paths", {})
    paths["/predict"] = {"post": _predict()}
    paths["/v2/models/{name}/infer"] = {"post": _infer(versioned=False)}
    paths["/v2/models/{name}/versions/{version}/infer"] = {"post": _infer(versioned=True)}
    paths["/model/{name}:{method}"] = {"post": _mindspore(versioned=False)}
    paths["/model/{name}/version/{version}:{method}"] = {"post": _mindspore(versioned=True)}
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_SCHEMAS)
    return schema


def _predict() -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Run a servable on rows (instances) or on whole tensors (inputs)",
        "requestBody": _json_body("PredictRequest"),
        "responses": _responses("PredictAnswer", "Problem", "application/problem+json"),
    }


def _infer(*, versioned: bool) -> dict[str, Any]:
    body = _json_body("InferRequest")
    body["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    names = ["name", "version"] if versioned else ["name"]
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "Length of the JSON part when binary data follows it",
        "schema": {"type": "integer", "minimum": 0},
    }
    return {
        "operationId": "infer_version" if versioned else "infer",
        "summary": "Open Inference Protocol V2 inference, with the binary tensor data extension",
        "description": "A method of a servable is the model servable:method, or is named by the "
        "parameter method. Where it takes text and bytes, JSON strings are text; binary data are "
        'text with the parameter content_type "str".',
        "parameters": [
            *({"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names),
            length,
        ],
        "requestBody": body,
        "responses": _responses("InferAnswer", "V2Error", "application/json"),
    }


def _mindspore(*, versioned: bool) -> dict[str, Any]:
    names = ["name", "version", "method"] if versioned else ["name", "method"]
    answer = {"application/json": {"schema": _ref("MindSporeAnswer")}}
    return {
        "operationId": "mindspore_version" if versioned else "mindspore",
        "summary": "What clients of MindSpore Serving ask for; the method of a model is predict",
        "parameters": [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names],
        "requestBody": _json_body("MindSporeRequest"),
        "responses": {"200": {"description": "The outputs, or an error", "content": answer}},
    }


def _json_body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _ref(name)}}}


def _responses(answer: str, error: str, error_type: str) -> dict[str, Any]:
    meanings = {
        "400": "The request does not fit the servable",
        "404": "No such servable, version or method",
        "413": "The body is too large",
        "415": "A content type or encoding that is not read here",
        "429": "A queue is full; Retry-After says when to come back",
        "503": "Not ready, or the worker was lost; Retry-After says when to come back",
        "504": "The deadline passed",
    }
    content = {error_type: {"schema": _ref(error)}}
    done = {"description": "The outputs", "content": {"application/json": {"schema": _ref(answer)}}}
    errors = {code: {"description": text, "content": content} for code, text in meanings.items()}
    return {"200": done, **errors}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_SHAPE = _list({"type": "integer", "minimum": 0})
_PARAMETERS = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_NAMED_VALUES = {"type": "object", "additionalProperties": _ref("Value")}
_VERSION_NAME = {
    "description": "A number or a label; the newest if left out",
    "oneOf": [{"type": "integer", "minimum": 1}, {"type": "string"}],
}
_COMMON = {
    "servable": {"type": "string", "description": "May be left out when one is served"},
    "version": {"type": "integer", "minimum": 1},
    "method": {
        "type": "string",
        "description": "May be left out of a servable with one method, or one called predict",
    },
    "id": _TEXT,
}

_SCHEMAS: dict[str, Any] = {
    "Value": {
        "description": "A number, string or boolean, nested lists of them, or raw bytes; "
        "dtype says what they are for an input of any type (BYTES if left out)",
        "oneOf": [
            {"type": ["number", "string", "boolean"]},
            {"type": "array", "items": {}},
            _object(
                ["b64"],
                b64={"type": "string", "format": "byte"},
                dtype={"type": "string", "enum": _DTYPES},
                shape=_SHAPE,
            ),
        ],
    },
    "PredictRequest": {
        **_object(
            [],
            **{**_COMMON, "version": _VERSION_NAME},
            parameters=_PARAMETERS,
            instances={
                **_list({"oneOf": [_NAMED_VALUES, _ref("Value")]}),
                "description": "Rows, each without the batch axis",
            },
            inputs={**_NAMED_VALUES, "description": "Whole tensors, batch axis included"},
        ),
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "additionalProperties": False,
    },
    "PredictAnswer": _object(
        ["servable", "version", "method"],
        **_COMMON,
        instances=_list({"type": "object", "additionalProperties": {}}),
        outputs={"type": "object", "additionalProperties": {}},
    ),
    "Problem": _object(
        ["type", "title", "status", "detail", "code", "request_id"],
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        code=_TEXT,
        where=_TEXT,
        expected=_TEXT,
        given=_TEXT,
        fix=_TEXT,
        request_id=_TEXT,
    ),
    "InferRequest": _object(
        ["inputs"],
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs=_list(
            _object(
                ["name", "shape", "datatype"],
                name=_TEXT,
                shape=_SHAPE,
                datatype={"type": "string", "enum": _DTYPES},
                parameters=_PARAMETERS,
                data={"type": "array", "items": {}},
            )
        ),
        outputs=_list(_object(["name"], name=_TEXT, parameters=_PARAMETERS)),
    ),
    "InferAnswer": _object(
        ["model_name", "outputs"],
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETERS,
        outputs=_list(
            _object(
                ["name", "shape", "datatype"],
                name=_TEXT,
                shape=_SHAPE,
                datatype={"type": "string", "enum": _DTYPES},
                parameters=_PARAMETERS,
                data={"type": "array", "items": {}},
            )
        ),
    ),
    "V2Error": _object(["error"], error=_TEXT),
    "MindSporeRequest": _object(
        ["instances"],
        instances={"oneOf": [_list(_NAMED_VALUES), _NAMED_VALUES]},
    ),
    "MindSporeAnswer": _object(
        [],
        instances=_list({"type": "object", "additionalProperties": {}}),
        error_msg=_TEXT,
    ),
}
