"""The API and its document: every route has code, and every invalid body gets an error that names the
field."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from personalization.aws import endpoint
from personalization.core import http
from personalization.core.http import BODY_BYTES, HttpError, operations, parse
from personalization.core.ports import BusyError, FieldRefusedError
from personalization.core.service import OPERATIONS
from settings.personalization import Limits

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = json.loads((ROOT / "runtime/personalization/openapi.json").read_text())
MODEL = "01m83jqav0ppw1v617gkkkdbxc"
GOOD = {"name": "Mimi", "subject": "cat", "images": [{"type": "image/png", "bytes": 900}]}
CREATE, GENERATE = "POST /api/models", "POST /api/models/{model}/generations"


def event(route: str, body: Any = None, **changes: Any) -> Any:
    claims = {"sub": "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"}
    return {
        "routeKey": route,
        "pathParameters": {"model": MODEL},
        "body": body if isinstance(body, str) else json.dumps(body),
        "requestContext": {"authorizer": {"jwt": {"claims": claims}}},
    } | changes


def problem(route: str, body: Any, **changes: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        parse(event(route, body, **changes))
    return caught.value


# The document


def test_operations_of_document_and_code_are_the_same():
    assert {operation.name for operation in operations().values()} == set(OPERATIONS)


def test_every_reference_in_the_document_leads_somewhere():
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        found = DOCUMENT
        for part in reference.split("/"):
            found = found[part]


def test_every_operation_documents_security_and_error_responses():
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["security"] == [{"user": []}]
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            assert operation["summary"], (path, method)
            assert {"401", "429", "503"} <= set(operation["responses"]), (path, method)
            assert ("404" in operation["responses"]) == ("{" in path), (path, method)


def test_every_request_field_has_a_description():
    for name in ("NewModel", "NewImage", "NewGeneration"):
        for field, schema in DOCUMENT["components"]["schemas"][name]["properties"].items():
            assert schema["description"], (name, field)


def test_every_error_code_is_in_the_document():
    codes = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    for module in ("core/http", "core/service", "handlers/api"):
        text = (ROOT / "runtime/personalization" / f"{module}.py").read_text()
        assert set(re.findall(r'Problem\(\s*\d+, "([a-z_]+)"', text)) <= set(codes)


def test_handler_module_does_not_import_pillow():
    program = "import sys; import personalization.handlers.api; sys.exit('PIL' in sys.modules)"
    env = os.environ | {"PYTHONPATH": str(ROOT / "runtime")}
    subprocess.run([sys.executable, "-c", program], env=env, check=True)


# Authentication


def test_caller_is_identified_by_the_token_only():
    _, call = parse(event(CREATE, GOOD, headers={"X-User": "somebody", "sub": "somebody"}))
    assert call.user == "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"


@pytest.mark.parametrize(
    "context", [{}, {"authorizer": {}}, {"authorizer": {"jwt": {"claims": {"sub": ""}}}}]
)
def test_request_without_a_verified_token_is_refused(context):
    assert problem(CREATE, GOOD, requestContext=context).status == 401


@pytest.mark.parametrize("route", ["GET /api/nothing", "PUT /api/models", "$default", ""])
def test_another_route_is_not_found(route):
    assert problem(route, None).answer().body == http.not_found().answer().body


# Requests


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({}, "name", "is missing, must be 1 to 80 characters"),
        (GOOD | {"name": ""}, "name", "1 to 80 characters"),
        (GOOD | {"name": "   "}, "name", "not only blanks"),
        (GOOD | {"name": "a" * 81}, "name", "1 to 80 characters"),
        (GOOD | {"name": "a\nb"}, "name", "on one line"),
        (GOOD | {"name": 7}, "name", "1 to 80 characters"),
        (GOOD | {"subject": "{trigger}"}, "subject", "letters"),
        (GOOD | {"subject": "9 cats"}, "subject", "beginning with a letter"),
        (GOOD | {"subject": "cat\n"}, "subject", "letters"),
        (GOOD | {"images": []}, "images", "pictures"),
        (GOOD | {"images": "many"}, "images", "a list"),
        (GOOD | {"images": GOOD["images"] * 101}, "images", "pictures"),
        (GOOD | {"images": [{"type": "image/png"}]}, "images[0].bytes", "is missing"),
        (
            GOOD | {"images": [*GOOD["images"], {"type": "image/gif", "bytes": 1}]},
            "images[1].type",
            "image/webp",
        ),
        (GOOD | {"images": [{"type": "image/png", "bytes": 0}]}, "images[0].bytes", "whole number"),
        (GOOD | {"images": [{"type": "image/png", "bytes": 1.5}]}, "images[0].bytes", "whole number"),
        (GOOD | {"images": [{"type": "image/png", "bytes": True}]}, "images[0].bytes", "whole number"),
        (
            GOOD | {"images": [{"type": "image/png", "bytes": 1, "key": "x"}]},
            "images[0].key",
            "must be one of: type, bytes",
        ),
        (GOOD | {"user": "somebody"}, "user", "is unknown, must be one of: name, subject, images"),
        (GOOD | {"target": "somebody/model.tar.gz"}, "target", "is unknown"),
        ([], "", "an object with name"),
        (None, "", "an object with name"),
    ],
)
def test_invalid_model_is_refused_with_its_field_and_allowed_values(body, field, told):
    found = problem(CREATE, body)
    assert (found.status, found.code, found.field) == (422, "invalid", field)
    assert told in found.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \t "}, "prompt"),
        ({"prompt": "a" * 2001}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "a cat", "count": 0}, "count"),
        ({"prompt": "a cat", "count": 5}, "count"),
        ({"prompt": "a cat", "seed": -1}, "seed"),
        ({"prompt": "a cat", "seed": 2**32}, "seed"),
        ({"prompt": "a cat", "seed": "7"}, "seed"),
        ({"prompt": "a cat", "TargetModel": "x/y.tar.gz"}, "TargetModel"),
        ({"prompt": "a cat", "steps": 9999}, "steps"),
    ],
)
def test_invalid_generation_is_refused_with_its_field(body, field):
    found = problem(GENERATE, body)
    assert (found.status, found.field) == (422, field)
    assert found.message.startswith(("must be ", "is missing, must be ", "is unknown, must be one of: "))


@pytest.mark.parametrize("body", ["", "{", "NaN", '{"name": Infinity}', "\x00", "[" * 50_000])
def test_body_that_is_not_json_is_refused(body):
    assert problem(CREATE, body).status == 400


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"name": "\\ud800"}', "not UTF-8"),
        ('{"\\udfff": 1}', "not UTF-8"),
        ('{"name": ["a", {"b": "\\udc00\\ud800"}]}', "not UTF-8"),
        ("\ud800", "not UTF-8"),
        ('{"name": "a", "name": "b"}', "a name twice"),
        ('{"images": [{"bytes": 1, "bytes": 1}]}', "a name twice"),
        ("[" * 50_000, "nested too deeply"),
        ("-Infinity", "not a JSON number"),
    ],
)
def test_body_outside_rfc_7493_is_refused_with_the_reason(body, why):
    found = problem(CREATE, body)
    assert (found.status, found.code) == (400, "bad_request")
    assert why in found.message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-8-sig"])
def test_body_in_another_encoding_than_utf_8_is_refused(encoding):
    body = base64.b64encode(json.dumps(GOOD).encode(encoding)).decode()
    assert problem(CREATE, body, isBase64Encoded=True).status == 400


def test_emoji_written_as_a_surrogate_pair_is_a_name():
    body = json.dumps(GOOD).replace("Mimi", "\\ud83d\\ude3a")
    assert parse(event(CREATE, body))[1].body["name"] == "\N{SMILING CAT FACE WITH OPEN MOUTH}"


@pytest.mark.parametrize("number", ["1000.0", "1e3", "1000", "10E2"])
def test_whole_number_is_accepted_in_any_notation(number):
    _, call = parse(event(CREATE, json.dumps(GOOD).replace("900", number)))
    found = call.body["images"][0]["bytes"]
    assert (found, type(found)) == (1000, int)


@pytest.mark.parametrize("number", ["1" * 400, "1" * 5_000, "1e400", "-1e400", "1e999999999", "0.5"])
def test_invalid_picture_size_is_refused_with_its_field(number):
    found = problem(CREATE, json.dumps(GOOD).replace("900", number))
    assert (found.status, found.field) == (422, "images[0].bytes")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json, text/plain", "multipart/form-data"])
def test_body_of_another_content_type_is_refused(kind):
    found = problem(CREATE, GOOD, headers={"Content-Type": kind})
    assert (found.status, found.code) == (415, "unsupported_type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_body_of_json_is_read(kind):
    assert parse(event(CREATE, GOOD, headers={"content-type": kind}))[1].body == GOOD


@pytest.mark.parametrize("key", ["", " ", "a ", "\ud800", "é", "a" * 129, "a\n", "\x00"])
def test_idempotency_key_outside_the_document_is_refused(key):
    found = problem(GENERATE, {"prompt": "a"}, headers={"Idempotency-Key": key})
    assert (found.status, found.field) == (422, "Idempotency-Key")


@pytest.mark.parametrize("before", ["", "0" * 25, "0" * 26 + "\n", "\ud800" * 26, "O" * 26])
def test_page_that_begins_at_an_invalid_id_is_refused(before):
    route = "GET /api/models/{model}/generations"
    assert problem(route, None, queryStringParameters={"before": before}).field == "before"


@pytest.mark.parametrize(
    "text", ["\x00", "a\x08", "\x1f", "a\x7f", "\x85", "\x9fa", "\ufeff", "\u2003\u00a0"]
)
def test_control_characters_or_blanks_are_no_name_or_prompt(text):
    assert problem(CREATE, GOOD | {"name": text}).field == "name"
    assert problem(GENERATE, {"prompt": text}).field == "prompt"


def test_prompt_may_have_lines_and_a_name_may_not():
    assert parse(event(GENERATE, {"prompt": "a\n\tcat"}))[1].body == {"prompt": "a\n\tcat"}
    assert problem(CREATE, GOOD | {"name": "a\u2028b"}).field == "name"


def test_bounds_of_the_document_are_those_of_the_limits():
    def most(field: str) -> int:
        [found] = [each.le for each in Limits.model_fields[field].metadata if hasattr(each, "le")]
        return found

    schemas = DOCUMENT["components"]["schemas"]
    assert most("images_max") == schemas["NewModel"]["properties"]["images"]["maxItems"]
    assert most("image_bytes") == schemas["NewImage"]["properties"]["bytes"]["maximum"]
    assert most("prompt_chars") == schemas["NewGeneration"]["properties"]["prompt"]["maxLength"]
    [least] = [each.ge for each in Limits.model_fields["pictures_per_minute"].metadata if hasattr(each, "ge")]
    assert least == schemas["NewGeneration"]["properties"]["count"]["maximum"]


def test_base64_body_is_decoded_and_an_invalid_one_refused():
    body = base64.b64encode(json.dumps(GOOD).encode()).decode()
    assert parse(event(CREATE, body, isBase64Encoded=True))[1].body == GOOD
    assert problem(CREATE, "%%%", isBase64Encoded=True).status == 400
    assert problem(CREATE, base64.b64encode(b"\xff\xfe{").decode(), isBase64Encoded=True).status == 400


def test_body_above_the_limit_is_refused_before_parsing():
    assert problem(CREATE, "[" * (BODY_BYTES + 1)).status == 413


def test_problem_with_a_retry_time_sets_retry_after():
    answer = HttpError(429, "too_many", "at most 3 models are allowed", "models", retry_after=0.2).answer()
    assert answer.headers == {"Retry-After": "1"}
    assert answer.body == {
        "error": {"code": "too_many", "field": "models", "message": "at most 3 models are allowed"}
    }


# The endpoint


PNG = base64.b64encode(endpoint.PNG + b"...").decode()


class Endpoint:
    """A stub of SageMaker's runtime client, whose calls return or raise `answer`."""

    def __init__(self, answer: bytes | Exception):
        self.answer, self.asked = answer, {}

    def invoke_endpoint(self, **asked: Any) -> dict[str, Any]:
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"Body": io.BytesIO(self.answer)}


def model_error(status: int, message: str) -> ClientError:
    answer: Any = {
        "Error": {"Code": "ModelError", "Message": "Received error from primary"},
        "OriginalStatusCode": status,
        "OriginalMessage": message,
    }
    return ClientError(answer, "InvokeEndpoint")


def invoke(answer: bytes | Exception) -> list[bytes]:
    client: Any = Endpoint(answer)
    runtime = endpoint.SageMakerEndpoint(client, "e")
    return runtime.generate("u/m.tar.gz", {"prompt": "a cat", "seed": 1, "count": 1})


def test_pictures_are_returned_as_bytes():
    assert invoke(json.dumps({"images": [PNG]}).encode()) == [endpoint.PNG + b"..."]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("prompt must be text of 1 to 500 characters", "must be text of 1 to 500 characters"),
        # the message of an older image, which may still serve while the endpoint is updated
        ("prompt: at most 77 tokens", "at most 77 tokens"),
    ],
)
def test_refusal_of_the_model_names_the_field(error: str, message: str):
    with pytest.raises(FieldRefusedError) as caught:
        invoke(model_error(400, json.dumps({"error": error})))
    assert (caught.value.field, caught.value.message) == ("prompt", message)


@pytest.mark.parametrize(
    "error",
    [
        model_error(507, "does not fit"),
        model_error(503, ""),
        model_error(500, '{"error": "prompt: leaked"}'),
        model_error(400, '{"error": "/opt/ml/secret: no such file"}'),
        model_error(404, "not json"),
        ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "InvokeEndpoint"),
        ClientError({"Error": {"Code": "ModelNotReadyException", "Message": ""}}, "InvokeEndpoint"),
        ClientError({"Error": {"Code": "ValidationError", "Message": "no endpoint"}}, "InvokeEndpoint"),
        ReadTimeoutError(endpoint_url="e"),
    ],
)
def test_unexpected_error_is_reported_as_busy_with_a_retry_time(error):
    with pytest.raises(BusyError) as caught:
        invoke(error)
    assert caught.value.seconds >= 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"images": []}',
        b'{"images": ["!"]}',
        b'{"images": ["aGVsbG8="]}',
        b'{"images": 5}',
    ],
)
def test_response_without_pictures_is_an_error(body):
    with pytest.raises(BusyError):
        invoke(body)
