"""The page at ``/docs``: every route by its heading, written from the OpenAPI document.

One HTML document that loads nothing: no script, style or picture of anybody.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff;overflow-wrap:anywhere}
h2{margin-top:2.5rem}h3{margin:2rem 0 0;font-size:1rem}h4{margin:.8rem 0 0;font-size:.9rem}
p,ul,dl{margin:.2rem 0}ul{padding-left:1.2rem}dt{float:left;clear:left;width:3rem}
dd{margin:0 0 0 3rem}
pre{background:#f6f8fa;padding:.8rem;overflow:auto;border-radius:6px}
code,h3{font-family:ui-monospace,monospace}code{font-size:.9em}
:target{background:#fff3b0;color:#1b1f24}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}
pre{background:#161b22}a{color:#58a6ff}}
"""
_REFERENCE = "#/components/schemas/"
_VARIES = re.compile(r"\{(\w+)\}")


def api_page(schema: dict[str, Any], base_url: str) -> str:
    """Return the page on an OpenAPI document; commands ask the server at ``base_url``."""
    tags = [tag["name"] for tag in schema["tags"]]
    by_tag: dict[str, list[str]] = {tag: [] for tag in tags}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            text = _operation(path, method.upper(), operation, base_url.rstrip("/"))
            by_tag[operation["tags"][0]].append(text)
    shown = [tag for tag in tags if by_tag[tag]]
    links = " · ".join(f"<a href='#{_anchor(tag)}'>{_text(tag)}</a>" for tag in shown)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>serving: API</title><style>{_STYLE}</style><h1>API</h1>",
        "<p>NAME stands for a servable, x for an input of it: <a href='./'>the first page</a> has "
        "calls of each servable that work when pasted. For programs: "
        "<a href=openapi.json>openapi.json</a>. What goes wrong: <a href=errors>errors</a>.</p>",
        f"<p>{links} · <a href='#schemas'>Schemas</a></p>",
        *(f"<h2 id={_anchor(tag)}>{_text(tag)}</h2>{''.join(by_tag[tag])}" for tag in shown),
        "<h2 id=schemas>Schemas</h2>",
        *(_named(name, part) for name, part in schema["components"]["schemas"].items()),
    ]
    return "".join(parts) + "</html>"


def _operation(path: str, method: str, operation: dict[str, Any], base_url: str) -> str:
    parts = [
        f"<h3 id='{_anchor(operation['operationId'])}'>{method} {_text(path)}</h3>",
        f"<p>{_text(operation['summary'])}</p>",
    ]
    if "description" in operation:
        parts.append(f"<p>{_text(operation['description'])}</p>")
    if operation.get("parameters"):
        rows = "".join(f"<li>{_parameter(found)}" for found in operation["parameters"])
        parts.append(f"<h4>Parameters</h4><ul>{rows}</ul>")
    body = operation.get("requestBody", {"content": {}})
    for media, content in body["content"].items():
        optional = "" if body.get("required") else ", may be left out"
        parts.append(f"<h4>Body: {_text(media)}{optional}</h4>{_whole(content['schema'])}")
    parts.append(f"<pre><code>{_text(_curl(path, method, body, base_url))}</code></pre>")
    answers = "".join(_answer(code, found) for code, found in operation["responses"].items())
    return f"{''.join(parts)}<h4>Answers</h4><dl>{answers}</dl>"


def _parameter(found: dict[str, Any]) -> str:
    needed = "" if found.get("required") else ", may be left out"
    about = found.get("description", "")
    return (
        f"<code>{_text(found['name'])}</code> in the {_text(found['in'])}: "
        f"{_kind(found['schema'])}{needed}{_about(about)}"
    )


def _answer(code: str, found: dict[str, Any]) -> str:
    forms = [
        f"{_text(media)} {_kind(content['schema'])}"
        for media, content in found.get("content", {}).items()
        if content.get("schema")
    ]
    form = f" <small>({', '.join(forms)})</small>" if forms else ""
    return f"<dt>{_text(code)}<dd>{_text(found['description'])}{form}"


def _curl(path: str, method: str, body: dict[str, Any], base_url: str) -> str:
    """Return a command of a shell that asks for a route, with the example of its body."""
    values = {"version": "1", "label": "stable", "method": "predict"}
    place = _VARIES.sub(lambda found: values.get(found[1], "NAME"), path)
    command = f"curl {shlex.quote(base_url + place)}"
    content = body["content"].get("application/json")
    if content is not None:
        text = shlex.quote(json.dumps(content["example"]))
        return f"{command} -H 'Content-Type: application/json' \\\n  -d {text}"
    return command if method == "GET" else f"{command} -X {method}"


def _named(name: str, schema: dict[str, Any]) -> str:
    return f"<h3 id='schema-{_anchor(name)}'>{_text(name)}</h3>{_whole(schema)}"


def _whole(schema: dict[str, Any]) -> str:
    """Return a schema as a paragraph, and a list of its members if it is an object."""
    members = "".join(_members(schema))
    listed = f"<ul>{members}</ul>" if members else ""
    return f"<p>{_kind(schema)}{_about(schema.get('description', ''))}</p>{listed}"


def _members(schema: dict[str, Any]) -> Iterator[str]:
    """Yield a list item for each member of an object, or of the objects in a list."""
    schema = schema.get("items", schema)
    required = schema.get("required", ())
    for name, found in schema.get("properties", {}).items():
        inner = "".join(_members(found))
        nested = f"<ul>{inner}</ul>" if inner else ""
        needed = ", required" if name in required else ""
        about = _about(found.get("description", ""))
        yield f"<li><code>{_text(name)}</code>: {_kind(found)}{needed}{about}{nested}"


def _kind(schema: dict[str, Any]) -> str:
    """Return what a value is, in a few words; schemas with a name are links."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCE)
        return f"<a href='#schema-{_anchor(name)}'>{_text(name)}</a>"
    if "enum" in schema:
        return "one of " + ", ".join(_text(value) for value in schema["enum"])
    if "oneOf" in schema and "properties" not in schema:
        return " or ".join(_kind(option) for option in schema["oneOf"])
    kind = schema.get("type", "any value")
    if kind == "array":
        items = schema.get("items")
        return f"list of {_kind(items)}" if items else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_kind(values)}" if values else "object"
    return _text(" or ".join(kind) if isinstance(kind, list) else kind)


def _about(text: str) -> str:
    return f". {_text(text)}" if text else ""


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text).lower()


def _text(value: object) -> str:
    return html.escape(str(value))
