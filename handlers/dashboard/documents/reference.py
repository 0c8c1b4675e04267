"""The OpenAPI document in plain words: operations and objects for the tables of one page, and curl lines.

Types are JSON's own, since that is what is sent; what a schema checks besides follows in words.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

METHODS = ("get", "put", "post", "patch", "delete")
LONGEST_PATTERN = 40  # characters of one that is shown; a longer one only keeps control characters out
# Values of the examples, by the name of a field or parameter; others follow from the schema.
EXAMPLES: Mapping[str, Any] = {
    "player_id": "alice",
    "sku": "coins",
    "after": 0,
    "limit": 100,
    "through": 1,
    "name": "Alice",
    "price_minor": 999,
    "currency": "USD",
    "coupon_code": "WELCOME",
}
# The same for whole bodies, of which nothing is required.
BODIES: Mapping[str, Any] = {
    "Player": {"name": "Alice", "country": "DE", "attributes": {"level": 12}},
    "PlayerPatch": {"name": "Alice B.", "country": None},
    "Players": {"players": [{"player_id": "alice", "name": "Alice"}, {"player_id": "bob"}]},
    "Item": {"name": "Gold coins"},
    "PushedPayment": {
        "transactionId": "GPA.3371-0001",
        "userId": "alice",
        "productId": "starterpack",
        "amount": "9.99",
        "currency": "USD",
        "market": "google",
        "purchasedAt": "2026-07-21T14:17:27Z",
    },
}


@dataclass(frozen=True)
class Field:
    """One row of a table: ``type`` may hold links to objects, ``about`` says what is checked and what it means."""

    name: str
    type: Markup
    is_required: bool
    about: str
    place: str = ""  # of a parameter: path, query


@dataclass(frozen=True)
class Answer:
    """What a status means; ``body`` is a link to its object, or empty."""

    status: str
    about: str
    body: Markup


@dataclass(frozen=True)
class Operation:
    """A call. ``curl`` is a whole command with ``{base}`` for the address of the API; ``example`` its body or None."""

    method: str
    path: str
    anchor: str
    summary: str
    is_open: bool
    parameters: tuple[Field, ...]
    body: tuple[Field, ...] | None
    answers: tuple[Answer, ...]
    errors: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True)
class Reference:
    """``objects`` are those that bodies and answers are made of: name -> fields."""

    about: str
    operations: tuple[Operation, ...]
    objects: Mapping[str, tuple[Field, ...]]


def reference(document: Mapping[str, Any]) -> Reference:
    """All calls of an OpenAPI document, those of one first word of the path together."""
    schemas = document["components"]["schemas"]
    operations = [
        _operation(schemas, method, path, item)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    order = list(dict.fromkeys(_first_word(each.path) for each in operations))
    operations.sort(key=lambda each: order.index(_first_word(each.path)))
    bodies = {
        _name(_body_schema(item[each])) for item in document["paths"].values() for each in METHODS if each in item
    }
    inner = {name for schema in schemas.values() for name in _references(schema)}
    objects = {name: _fields(schema) for name, schema in schemas.items() if name not in bodies or name in inner}
    return Reference(
        about=document["info"].get("description", ""),
        operations=tuple(operations),
        objects=dict(sorted(objects.items())),
    )


def _operation(schemas: Mapping[str, Any], method: str, path: str, item: Mapping[str, Any]) -> Operation:
    operation = item[method]
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    schema = _body_schema(operation)
    responses = operation["responses"].items()
    is_open = operation.get("security") == []
    return Operation(
        method=method.upper(),
        path=path,
        anchor=re.sub(r"[^a-z0-9]+", "-", f"{method} {path}".lower()).strip("-"),
        summary=operation["summary"],
        is_open=is_open,
        parameters=tuple(
            Field(each["name"], _type(each["schema"]), each.get("required", False), _about(each), each["in"])
            for each in parameters
        ),
        body=None if schema is None else _fields(schemas[_name(schema)]),
        answers=tuple(_answer(status, each) for status, each in responses if status < "400"),
        errors=tuple(_answer(status, each) for status, each in responses if status >= "400"),
        curl=_curl(method, path, parameters, None if schema is None else _example("", schema, schemas), is_open),
    )


def _body_schema(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {})
    found: Mapping[str, Any] | None = content.get("application/json", {}).get("schema")
    return found


def _answer(status: str, response: Mapping[str, Any]) -> Answer:
    schema = next((each["schema"] for each in response.get("content", {}).values()), None)
    return Answer(status, response["description"], Markup("") if schema is None else _type(schema))


def _fields(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields of an object, the required ones first."""
    required = schema.get("required", ())
    rows = [
        Field(name, _type(each), name in required, _about(each)) for name, each in schema.get("properties", {}).items()
    ]
    return tuple(sorted(rows, key=lambda each: not each.is_required))


def _type(schema: Mapping[str, Any]) -> Markup:
    """Its JSON types, with a link for an object of the document."""
    if "$ref" in schema:
        name = _name(schema)
        return Markup('<a href="#{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    words = [
        Markup("array of {}").format(_type(schema["items"])) if each == "array" and "items" in schema else escape(each)
        for each in types
    ]
    return Markup(" or ").join(words) if words else Markup("any")


def _about(described: Mapping[str, Any]) -> str:
    """What a field means, and what is checked of it."""
    schema = described.get("schema", described)
    words = [str(described.get("description", "")), *_checks(schema)]
    if "items" in schema and "$ref" not in schema["items"]:
        words += [f"each {each}" for each in _checks(schema["items"])]
    if described.get("deprecated"):
        words.append("deprecated")
    return "; ".join(filter(None, words))


def _checks(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield "one of " + ", ".join(str(each) for each in schema["enum"] if each is not None)
    if "format" in schema:
        yield {"date-time": "a time, RFC 3339"}.get(schema["format"], schema["format"])
    for unit, least, most in (
        ("characters", "minLength", "maxLength"),
        ("entries", "minItems", "maxItems"),
        ("fields", "minProperties", "maxProperties"),
        ("", "minimum", "maximum"),
    ):
        yield _range(schema.get(least), schema.get(most), unit)
    if len(pattern := str(schema.get("pattern", ""))) in range(1, LONGEST_PATTERN) and "\\u" not in pattern:
        yield f"as {pattern}"
    if "default" in schema:
        yield f"default {json.dumps(schema['default'])}"


def _range(least: Any, most: Any, unit: str) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f"{least} {unit} or more".replace("  ", " ")
    return (f"up to {most} {unit}" if not least and unit else f"{least or 0} to {most} {unit}").strip()


def _curl(method: str, path: str, parameters: Iterable[Mapping[str, Any]], body: Any, is_open: bool) -> str:
    named = {each["name"]: (each["in"], _example(each["name"], each["schema"], {})) for each in parameters}
    for name, (place, value) in named.items():
        path = path.replace(f"{{{name}}}", str(value)) if place == "path" else path
    query = "&".join(f"{name}={value}" for name, (place, value) in named.items() if place == "query")
    lines = [f"curl {'' if method == 'get' else f'-X {method.upper()} '}'{{base}}{path}{f'?{query}' if query else ''}'"]
    if not is_open:
        lines.append("""-H "Authorization: Bearer $COINSLOT_TOKEN\"""")
    if body is not None:
        kind = "application/merge-patch+json" if method == "patch" else "application/json"
        lines += [f"-H 'Content-Type: {kind}'", f"-d '{json.dumps(body)}'"]
    return " \\\n  ".join(lines)


def _example(name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that the schema takes: what is required, and nothing else."""
    if "$ref" in schema:
        title = _name(schema)
        return BODIES[title] if title in BODIES else _example(name, schemas[title], schemas)
    if name in EXAMPLES:
        return EXAMPLES[name]
    if "anyOf" in schema:
        return _example(name, schema["anyOf"][0], schemas)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind == "object":
        required = schema.get("required", ())
        return {each: _example(each, schema["properties"][each], schemas) for each in required}
    if kind == "array":
        return [_example("", schema["items"], schemas)]
    values = {"integer": max(1, schema.get("minimum", 1)), "number": 1, "boolean": True}
    return values.get(kind, name or "text")


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield _name(schema)
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _name(schema: Mapping[str, Any] | None) -> str:
    return "" if schema is None else str(schema["$ref"].rpartition("/")[2])


def _first_word(path: str) -> str:
    return path.split("/")[1]
