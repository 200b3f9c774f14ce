"""The reference of the HTTP interface as a plain page, made from its OpenAPI description; it needs no script."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE_PATH = "/static/reference.css"


def reference_page(description: Mapping[str, Any]) -> str:
    """The page for an OpenAPI description."""
    info = description["info"]
    sections = [
        _operation(method, path, operation, description)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = description.get("components", {}).get("schemas", {})
    parts = "".join(_schema(name, schema) for name, schema in schemas.items())
    paragraphs = "".join(f"<p>{_text(part)}</p>" for part in info["description"].split("\n\n"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} {escape(info['version'])}: HTTP interface</title>"
        f'<link rel="stylesheet" href="{_STYLE_PATH}">'
        f"<body><main><h1>{escape(info['title'])} {escape(info['version'])}</h1>{paragraphs}"
        '<p>Machines read <a href="/openapi.json">openapi.json</a>.</p>'
        f"{''.join(sections)}<h2>Answers</h2>{parts}</main></body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], description: Mapping[str, Any]) -> str:
    rows = "".join(_parameter(parameter) for parameter in operation.get("parameters", ()))
    table = f"<table><tr><th>parameter<th>type<th>default<th>meaning</tr>{rows}</table>" if rows else ""
    body = operation.get("requestBody")
    kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body["content"]) if body else ""
    taken = f"<p>Body: {_text(body['description'])} {kinds}</p>" if body else ""
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{_text(answer['description'])}<td>{_answer_type(answer)}</tr>"
        for status, answer in operation["responses"].items()
    )
    example = f"<pre>{escape(_example(method, path))}</pre>"
    more = f"<p>{_text(operation['description'])}</p>" if operation.get("description") else ""
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{_text(operation['summary'])}.</p>{more}"
        f"{taken}{table}<table><tr><th>status<th>when<th>answer</tr>{answers}</table>{example}</section>"
    )


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter["schema"]
    default = json.dumps(schema["default"]) if "default" in schema else ""
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code><td>{_type(schema)}<td><code>{escape(default)}</code>"
        f"<td>{_text(parameter.get('description', ''))}</tr>"
    )


def _answer_type(answer: Mapping[str, Any]) -> str:
    contents = answer.get("content", {})
    return ", ".join(_type(content.get("schema", {})) or escape(kind) for kind, content in contents.items())


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(key)}</code><td>{_type(value)}</tr>"
        for key, value in schema.get("properties", {}).items()
    )
    text = schema.get("description", "")
    return (
        f'<section id="{escape(name)}"><h3>{escape(name)}</h3><pre>{escape(text)}</pre><table>{rows}</table></section>'
    )


def _type(schema: Mapping[str, Any]) -> str:
    """The type of a value in words, with a link to what it refers to."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {})) or 'values'}"
    bounds = [f"from {schema['minimum']:g}"] if "minimum" in schema else []
    bounds += [f"to {schema['maximum']:g}"] if "maximum" in schema else []
    return escape(" ".join([schema.get("type", ""), *bounds]))


def _example(method: str, path: str) -> str:
    body = " --data-binary @recording.mp4" if method == "post" else ""
    query = "?filename=recording.mp4" if method == "post" else ""
    return f"curl{body} 'http://127.0.0.1:8000{path}{query}'"


def _text(text: str) -> str:
    """Text with `code` in backquotes."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
