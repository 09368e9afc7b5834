"""Requests that no client of the API sends: broken JSON, odd encodings, forged ids, strange headers."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"
NEW_MODEL = {"name": "Mimi", "subject": "cat", "images": [{"type": "image/png", "bytes": 900}]}
NEW_GENERATION = {"prompt": "a photo of sks cat", "seed": 7, "count": 1}
BODY_BYTES = 65_536

SURROGATES = ("\\ud800", "\\udfff", "a\\udc00b", "\\udc00\\ud800", "\\ud83d", "\\uDBFF x")
"""Lone surrogates in JSON notation."""
TEXTS = ('"{}"', '"a{}"', '"{}b"')
NOT_JSON = (
    *("", " ", "{", "}", "[", '"', "nul", "NaN", "-Infinity", "Infinity", "'a'", "{'prompt': 'a'}", "\x00"),
    *(
        '{"prompt": "a",}',
        '{"prompt": "a"} x',
        "// a\n{}",
        "\ufeff{}",
        '{"prompt": "a\nb"}',
        '{"prompt": 01}',
    ),
    *('{"prompt": "a" "seed": 1}', "[1, ]", '{"a"}', "\ud800", '{"prompt": "\udfff"}', '{"prompt": +1}'),
    *("[" * 100_000, '{"prompt":' * 20_000, '"' + "\\" * 999, "\x7f", "undefined"),
)
NESTED = "[" * 3_000 + "]" * 3_000
"""Valid JSON that is too deep for Python's parser, unless the recursion limit was raised, as Hypothesis
does."""
NUMBERS = (
    *(
        "1e400",
        "-1e400",
        "1" * 400,
        "-" + "9" * 400,
        "1" * 5_000,
        "1e999999999",
        "0.1",
        "-1",
        "1.5",
    ),
    *("4294967296", "4294967295.5", "1e10", '"1"', "true", "null", "[]", "{}", "[1]"),
)
"""Values that are not valid as a seed, a count or a size."""
WHOLE = (("1000.0", 1000), ("1e3", 1000), ("1.0", 1), ("1E0", 1), ("10e-1", 1), ("4.0", 4), ("4", 4))
"""Whole numbers according to JSON Schema, in several notations."""
CONTENT_TYPES = (
    *("text/plain", "", " ", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
    *("application/xml", "application/json, text/plain", "application/jsonx", "json", "\ud800", "a" * 5_000),
    *("application/octet-stream", "application/json/x", "*/*", "é"),
)
IDS = (
    *("", " ", ".", "..", "../..", "%2e%2e", "%00", "\x00", "a" * 1_000, "0" * 25, "0" * 27, "O" * 26),
    *("é" * 26, "\ud800" * 26, "0" * 26 + "\n", "\n", "0123456789ABCDEFGHJKMNPQRS", "null", "-1", "{model}"),
    *(
        "0" * 26 + ".tar.gz",
        "'; DROP TABLE models; --",
        "💥" * 26,
        "x" * 9_000,
        "0" * 26 + "/x",
        "\uff11" * 26,
    ),
)
KEYS = ("", " ", " a", "a ", "a" * 129, "é", "\ud800", "a\nb", "\x00", "💥", "a" * 70_000, "\u00a0", "\t")
ODD_TEXTS = ("\x00", "\x08", "\x1f", "a\x7f", "\x85", "\x9f", " ", "\ufeff", "\u2003", "\u2028", "\t\r\n")
"""Texts that are not valid as a name or a prompt."""
FIELDS = ("user", "target", "TargetModel", "__proto__", "", "\x00", "é", "a" * 60_000, "$ref", "constructor")


@dataclass
class Hostile:
    """A request: its route, the other parts of its event, and the allowed statuses of its answer."""

    route: str
    event: dict[str, Any] = field(default_factory=dict)
    allowed: set[int] | None = None


def hostile(
    chance: random.Random,
    routes: Sequence[tuple[str, bool]],
    models: Sequence[str],
    generations: Sequence[str],
) -> Hostile:
    """Draw a request. `routes`: (route, whether it takes a body); `models`, `generations`: existing ids."""
    if chance.random() < 0.3:
        route, has_body = chance.choice(routes)
        name = "generation" if "{generation}" in route else "model"
        made = Hostile(route, {"pathParameters": {name: chance.choice(IDS)}})
        if has_body:
            made.event["body"] = json.dumps(NEW_MODEL if route.endswith("/models") else NEW_GENERATION)
        if f"{{{name}}}" in route:
            made.allowed = {404}
        return made
    if chance.random() < 0.1:
        return _elsewhere(chance)
    route = chance.choice([route for route, has_body in routes if has_body] + [ROUTE_OF_BEFORE])
    if route == ROUTE_OF_BEFORE:
        given = chance.choice([*IDS, *generations])
        right = given in generations
        query = {"before": given, chance.choice(FIELDS): "x"}
        event = {"pathParameters": {"model": chance.choice(models)}, "queryStringParameters": query}
        return Hostile(route, event, {200} if right else {422})
    new_model = route.endswith("/models")
    made = chance.choice(BODIES)(chance, NEW_MODEL if new_model else NEW_GENERATION)
    made.route = route
    made.event["pathParameters"] = {} if new_model else {"model": chance.choice(models)}
    made.event.setdefault("headers", {})
    if not new_model and chance.random() < 0.15:
        made.event["headers"]["Idempotency-Key"] = chance.choice(KEYS)
        made.allowed = {422, *((made.allowed or set()) & {400, 413, 415})}
    return made


ROUTE_OF_BEFORE = "GET /api/models/{model}/generations"
MADE = {201, 404, 409}
"""Possible statuses of answers to a valid body, depending on whether the model exists and is ready."""


def _elsewhere(chance: random.Random) -> Hostile:
    """Draw a request to an unknown route, or one without a signed-in user."""
    if chance.random() < 0.5:
        routes = (
            "GET /",
            "$default",
            "",
            "PATCH /api/models",
            "GET /api/models/",
            "\ud800",
            "GET " + "a" * 1_000,
        )
        return Hostile(chance.choice(routes), {}, {404})
    contexts: tuple[Any, ...] = ({}, {"authorizer": {}}, {"authorizer": {"jwt": {"claims": {}}}})
    return Hostile("GET /api/models", {"requestContext": chance.choice(contexts)}, {401})


def _not_json(chance: random.Random, good: dict[str, Any]) -> Hostile:
    text = chance.choice(NOT_JSON)
    return Hostile("", {"body": text}, {413} if len(text) > BODY_BYTES else {400})


def _nested(chance: random.Random, good: dict[str, Any]) -> Hostile:
    return Hostile("", {"body": NESTED}, {400, 422})


def _surrogate(chance: random.Random, good: dict[str, Any]) -> Hostile:
    text = chance.choice(TEXTS).format(chance.choice(SURROGATES))
    name = chance.choice(["name", "subject", "prompt", "more"])
    rest = json.dumps({key: value for key, value in good.items() if key != name})[1:]
    if chance.random() < 0.2:  # use the text as a field's name, not as its value
        return Hostile("", {"body": f"{{{text}: 1, {rest}"}, {400})
    return Hostile("", {"body": f'{{"{name}": {text}, {rest}'}, {400})


def _twice(chance: random.Random, good: dict[str, Any]) -> Hostile:
    name = chance.choice(list(good))
    return Hostile("", {"body": f'{{"{name}": {json.dumps(good[name])}, {json.dumps(good)[1:]}'}, {400})


def _numbered(good: dict[str, Any], name: str, number: str) -> str:
    if name == "bytes":
        return json.dumps(good).replace("900", number)
    rest = {key: value for key, value in good.items() if key != name}
    return f'{{"{name}": {number}, {json.dumps(rest)[1:]}'


def _number(chance: random.Random, good: dict[str, Any]) -> Hostile:
    name = "bytes" if "images" in good else chance.choice(["seed", "count"])
    return Hostile("", {"body": _numbered(good, name, chance.choice(NUMBERS))}, {422})


def _whole(chance: random.Random, good: dict[str, Any]) -> Hostile:
    text, value = chance.choice(WHOLE)
    name = "bytes" if "images" in good else chance.choice(["seed", "count"])
    return Hostile(
        "", {"body": _numbered(good, name, text)}, {422} if name == "count" and value > 4 else MADE
    )


def _encoded(chance: random.Random, good: dict[str, Any]) -> Hostile:
    text = json.dumps(good)
    content, allowed = chance.choice(
        [
            (base64.b64encode(text.encode()).decode(), MADE),
            (base64.b64encode(text.encode("utf-16")).decode(), {400}),
            (base64.b64encode(text.encode("utf-32")).decode(), {400}),
            (base64.b64encode(b"\xff\xfe{}").decode(), {400}),
            (base64.b64encode(b'{"prompt": "\xed\xa0\x80", "name": "\xc0\x80"}').decode(), {400}),
            (base64.b64encode(b'{"prompt": "\xff"}').decode(), {400}),
            (base64.b64encode(chance.randbytes(60)).decode(), {400}),
            (text, {400}),
            ("%%%", {400}),
            ("é", {400}),
            ("a", {400}),
        ]
    )
    return Hostile("", {"body": content, "isBase64Encoded": True}, allowed)


def _typed(chance: random.Random, good: dict[str, Any]) -> Hostile:
    if chance.random() < 0.3:
        kind = chance.choice([JSON, "Application/JSON", f"{JSON}; charset=utf-8", f"{JSON};x", f" {JSON} "])
        return Hostile("", {"body": json.dumps(good), "headers": {"content-type": kind}}, MADE)
    kind = chance.choice(CONTENT_TYPES)
    return Hostile("", {"body": json.dumps(good), "headers": {"Content-Type": kind}}, {415})


def _large(chance: random.Random, good: dict[str, Any]) -> Hostile:
    name = "name" if "images" in good else "prompt"
    size, allowed = chance.choice([(BODY_BYTES + 1, {413}), (400_000, {413}), (BODY_BYTES // 4, {422})])
    return Hostile(
        "", {"body": json.dumps(good | {name: "💥" * (size // 4 + 1)}, ensure_ascii=False)}, allowed
    )


def _odd(chance: random.Random, good: dict[str, Any]) -> Hostile:
    name = "name" if "images" in good else "prompt"
    return Hostile("", {"body": json.dumps(good | {name: chance.choice(ODD_TEXTS)})}, {422})


def _unknown(chance: random.Random, good: dict[str, Any]) -> Hostile:
    return Hostile("", {"body": json.dumps(good | {chance.choice(FIELDS): 1})}, {422})


def _right(chance: random.Random, good: dict[str, Any]) -> Hostile:
    name, longest = ("name", 80) if "images" in good else ("prompt", 2_000)
    text = chance.choice(["a", "é", "💥", "中", "\u200d", "<", '"', "\\", "\xa0a"]) * longest
    return Hostile("", {"body": json.dumps(good | {name: text[:longest]})}, MADE)


BODIES: tuple[Callable[[random.Random, dict[str, Any]], Hostile], ...] = (
    *(
        _not_json,
        _nested,
        _surrogate,
        _twice,
        _number,
        _whole,
        _encoded,
        _typed,
        _large,
        _odd,
        _unknown,
        _right,
    ),
)
