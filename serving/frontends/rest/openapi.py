"""The inference routes in OpenAPI's words, added to what FastAPI writes of its own routes."""

from __future__ import annotations

from typing import Any

PREDICT = "Inference"
TENSORFLOW = "TensorFlow Serving and KServe V1"
MINDSPORE = "MindSpore Serving"
METADATA = "Metadata"
HEALTH = "Health"
STATISTICS = "Statistics"
REPOSITORY = "Repository"
MEMORY = "Shared memory"
TAGS = (PREDICT, TENSORFLOW, MINDSPORE, METADATA, HEALTH, STATISTICS, REPOSITORY, MEMORY)
"""The headings that routes stand under, in order."""

_OF_FASTAPI = ("HTTPValidationError", "ValidationError")
"""Its answer to parameters of a wrong type, which there are none of here."""
_DTYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16", "BYTES",
]  # fmt: skip


def with_inference(schema: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's schema with the inference routes, their bodies and their errors."""
    paths = schema.setdefault("paths", {})
    _correct(paths)
    paths["/predict"] = {"post": _predict()}
    paths["/v2/models/{name}/infer"] = {"post": _infer(versioned=False)}
    paths["/v2/models/{name}/versions/{version}/infer"] = {"post": _infer(versioned=True)}
    paths["/model/{name}:{method}"] = {"post": _mindspore(versioned=False)}
    paths["/model/{name}/version/{version}:{method}"] = {"post": _mindspore(versioned=True)}
    for place in ("", "/versions/{version}", "/labels/{label}"):
        paths[f"/v1/models/{{name}}{place}:predict"] = {"post": _tensorflow(place)}
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in _OF_FASTAPI:
        schemas.pop(name, None)
    schemas.update(_SCHEMAS)
    schema["tags"] = [{"name": tag} for tag in TAGS]
    return schema


def _correct(paths: dict[str, Any]) -> None:
    """Put the errors that FastAPI's routes answer with where it writes of its own."""
    error = {"application/json": {"schema": _ref("V2Error")}}
    for path, methods in paths.items():
        for operation in methods.values():
            answers = operation["responses"]
            answers.pop("422", None)
            answers["200"]["description"] = "Done"
            if "/models/{name}" in path:
                answers["404"] = {"description": _MEANINGS["404"], "content": error}


def _predict() -> dict[str, Any]:
    return {
        "operationId": "predict",
        "tags": [PREDICT],
        "summary": "Run a servable on rows (instances) or on whole tensors (inputs)",
        "requestBody": _json_body("PredictRequest", {"servable": "NAME", **_ROWS}),
        "responses": _responses("PredictAnswer", "Problem", "application/problem+json"),
    }


def _infer(*, versioned: bool) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.5, 1.5, 2.5]}
    body = _json_body("InferRequest", {"inputs": [tensor]})
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
        "tags": [PREDICT],
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
        "tags": [MINDSPORE],
        "summary": "What clients of MindSpore Serving ask for; the method of a model is predict",
        "parameters": [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names],
        "requestBody": _json_body("MindSporeRequest", _ROWS),
        "responses": {"200": {"description": "The outputs, or an error", "content": answer}},
    }


def _tensorflow(place: str) -> dict[str, Any]:
    names = ["name", *(name for name in ("version", "label") if name in place)]
    return {
        "operationId": "_".join(("tensorflow", *names[1:])),
        "tags": [TENSORFLOW],
        "summary": "What clients of TensorFlow Serving and of KServe's V1 protocol ask for",
        "parameters": [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names],
        "requestBody": _json_body("TensorFlowRequest", _ROWS),
        "responses": _responses("TensorFlowAnswer", "V2Error", "application/json"),
    }


def _json_body(name: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": _ref(name), "example": example}
    return {"required": True, "content": {"application/json": content}}


def _responses(answer: str, error: str, error_type: str) -> dict[str, Any]:
    content = {error_type: {"schema": _ref(error)}}
    done = {"description": "The outputs", "content": {"application/json": {"schema": _ref(answer)}}}
    errors = {code: {"description": text, "content": content} for code, text in _MEANINGS.items()}
    return {"200": done, **errors}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_ROWS = {"instances": [{"x": [0.5, 1.5, 2.5]}]}
"""What the examples ask with: a row of a servable with one input."""
_MEANINGS = {
    "400": "The request does not fit the servable",
    "404": "No such servable, version or method",
    "413": "The body is too large",
    "415": "A content type or encoding that is not read here",
    "429": "A queue is full; Retry-After says when to come back",
    "503": "Not ready, or the worker was lost; Retry-After says if and when to come back",
    "504": "The deadline passed",
}
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
    "TensorFlowRequest": {
        **_object(
            [],
            signature_name={"type": "string", "description": "A method, or serving_default"},
            instances={
                **_list({"oneOf": [_NAMED_VALUES, _ref("Value")]}),
                "description": "Rows, each without the batch axis",
            },
            inputs={
                "oneOf": [_NAMED_VALUES, _ref("Value")],
                "description": "Whole tensors, batch axis included; bare where there is one input",
            },
        ),
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "additionalProperties": False,
    },
    "TensorFlowAnswer": _object(
        [],
        predictions={
            "type": "array",
            "items": {},
            "description": "Rows: objects, or bare values where there is one output",
        },
        outputs={"description": "Whole tensors: an object, or bare where there is one output"},
    ),
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
