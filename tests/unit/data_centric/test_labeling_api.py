"""The HTTP API: responses to labelers, refusals, and conformance with its document."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_centric.core import api, http, workflow
from data_centric.core.api import Service, answer
from data_centric.core.http import Answer, HttpError, parse
from data_centric.core.labelers import pseudonym
from data_centric.core.manifests import parse as parsed
from data_centric.core.runs import RunSettings
from data_centric.core.workflow import BusyError, Desk
from tests.support.data_centric.desks import RUN, Rows, World, entries, with_settings

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = json.loads((ROOT / "runtime/data_centric/openapi.json").read_text())
KEY = b"secret"


class Addresses:
    def address(self, reference: str, seconds: int) -> str:
        return f"https://pictures/{reference.removeprefix('s3://')}?seconds={seconds}"


class Site:
    """The API over a table in memory."""

    def __init__(self, run: RunSettings = RUN, items: int = 3) -> None:
        self.world = World(items, run)
        self.counted: list[str] = []
        self.service = Service(
            self.world.table,
            Addresses(),
            KEY,
            lambda: self.world.time,
            lambda name, _: self.counted.append(name),
        )

    def __call__(
        self, method: str, path: str, user: str = "ann", body: Any = None, groups: str = ""
    ) -> Answer:
        found = event(method, path, user, body, groups)
        try:
            operation, call = parse(found)
            return answer(self.service, operation.name, call)
        except HttpError as problem:
            return problem.answer()


def event(method: str, path: str, user: str = "ann", body: Any = None, groups: str = "") -> Any:
    run, _, rest = path.removeprefix("/api/runs").removeprefix("/").partition("/")
    route = "/api/runs/{run}/" + rest if run else "/api/runs"
    claims = {"sub": user} | ({"cognito:groups": groups} if groups else {})
    return {
        "routeKey": f"{method} {route}",
        "pathParameters": {"run": run} if run else None,
        "body": body if isinstance(body, str) or body is None else json.dumps(body),
        "requestContext": {"authorizer": {"jwt": {"claims": claims}}},
    }


def code(answered: Answer) -> tuple[int, str, str]:
    assert answered.body
    error = answered.body["error"]
    return answered.status, error["code"], error["field"]


def test_labeler_completes_a_run_from_the_list() -> None:
    site = Site()
    (run,) = (site("GET", "/api/runs").body or {})["runs"]
    assert run == {
        "name": "animals",
        "kind": "label",
        "instructions": "",
        "classes": ["cat", "dog", "owl"],
        "done": 0,
        "items": 3,
        "complete": 0,
    }
    for number in range(1, 4):
        task = site("POST", "/api/runs/animals/task").body or {}
        assert set(task) == {"item", "until", "source", "review"}
        assert task["source"]["url"].startswith("https://pictures/pictures/animals/")
        body = {"item": task["item"], "choice": number % 3}
        for result in ("kept", "already"):
            told = site("POST", "/api/runs/animals/answers", body=body).body
            assert told == {"result": result, "done": number, "items": 3, "complete": 0}
    assert site("POST", "/api/runs/animals/task") == Answer(204)
    assert site.counted == ["Answers"] * 3
    # and labelers are stored by pseudonym
    stored = {name for task in site.world.tasks for name in task.answers}
    assert stored == {pseudonym("ann", KEY)}


def test_picture_can_be_read_until_the_lease_ends() -> None:
    for seconds, shown in ((60, 60), (3600, 900)):
        site = Site(with_settings(lease_seconds=seconds))
        task = site("POST", "/api/runs/animals/task").body or {}
        assert task["source"]["url"].endswith(f"?seconds={shown}")
    site.world.time += 3590
    again = site("POST", "/api/runs/animals/task").body or {}
    assert (again["item"], again["source"]["url"][-11:]) == (task["item"], "?seconds=10")


def test_text_and_review_are_shown_as_they_are() -> None:
    site = Site(with_settings(kind="review"), items=0)
    (entry,) = parsed(b'{"source": "a text"}')
    (task,) = workflow.tasks_of(site.world.run, [entry], {})
    review = {
        "given": "cat",
        "suggested": "dog",
        "reason": "why",
        "neighbours": [{"reference": "s3://pictures/n.png", "label": "dog"}],
    }
    site.world.table.write([replace(task, review=json.dumps(review))])
    told = site("POST", "/api/runs/animals/task").body or {}
    assert told["source"] == {"kind": "text", "text": "a text"}
    assert told["review"] == review | {
        "neighbours": [{"url": "https://pictures/pictures/n.png?seconds=60", "label": "dog"}]
    }


def test_complete_items_are_counted_again_after_seconds() -> None:
    site = Site(with_settings(labels=1), items=1)
    site("GET", "/api/runs")
    task = site("POST", "/api/runs/animals/task").body or {}
    told = site("POST", "/api/runs/animals/answers", body={"item": task["item"], "choice": 0}).body or {}
    assert told["complete"] == 0
    site.world.time += api.COUNT_SECONDS + 1
    (run,) = (site("GET", "/api/runs").body or {})["runs"]
    assert (run["complete"], run["done"]) == (1, 1)


def test_run_of_a_group_exists_for_its_members_only() -> None:
    site = Site(with_settings(group="experts"))
    for groups, listed, status in (("", 0, 404), ("[experts others]", 1, 200), ("[nonexperts]", 0, 404)):
        assert len((site("GET", "/api/runs", groups=groups).body or {})["runs"]) == listed
        assert site("POST", "/api/runs/animals/task", groups=groups).status == status


def test_refusals_have_their_codes() -> None:
    site = Site()
    for name in ("none", "x" * 3000, "a b"):  # DynamoDB refuses a key of 3,000 bytes
        assert code(site("POST", f"/api/runs/{name}/task")) == (404, "not_found", "")
    body = {"item": site.world.item, "choice": 0}
    assert code(site("POST", "/api/runs/animals/answers", body=body)) == (409, "no_lease", "")
    assert code(site("GET", "/api/runs/animals/progress", groups="[labelers]")) == (403, "forbidden", "")
    assert code(site("GET", "/api/runs", user="")) == (401, "unauthorized", "")
    assert code(site("PUT", "/api/runs")) == (404, "not_found", "")
    workflow.close_run(site.world.desk)
    assert code(site("POST", "/api/runs/animals/task")) == (404, "not_found", "")
    assert site("GET", "/api/runs").body == {"runs": []}


def test_blocked_labeler_gets_an_error() -> None:
    run = with_settings(gold_every=2, gold_least=1)
    site = Site(with_settings(name="other"), items=0)
    desk = Desk(site.world.table, run, lambda: site.world.time)
    gold = entries(3, "gold")
    workflow.load(desk, entries(9), gold, {each.item: 1 for each in gold})
    for _ in range(9):
        told = site("POST", "/api/runs/animals/task")
        if told.status == 403:
            break
        site("POST", "/api/runs/animals/answers", body={"item": (told.body or {})["item"], "choice": 0})
    assert code(site("POST", "/api/runs/animals/task")) == (403, "blocked", "")


def test_operators_see_progress_after_the_end_too() -> None:
    site = Site()
    for _ in range(2):
        told = site("GET", "/api/runs/animals/progress", groups="[operators]")
        assert (told.status, (told.body or {})["items"]) == (200, 3)
        workflow.close_run(site.world.desk)


def test_conflict_that_lasts_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()

    def busy(*_: object) -> None:
        raise BusyError

    monkeypatch.setattr(workflow, "next_task", busy)
    told = site("POST", "/api/runs/animals/task")
    assert (code(told), told.headers["Retry-After"]) == ((503, "busy", ""), "1")


ITEM = "0" * 24


@pytest.mark.parametrize(
    ("body", "status", "field", "message"),
    [
        ({"choice": 1}, 400, "item", "item is missing; it must be the value of `item`"),
        ({"item": ITEM}, 400, "choice", "choice is missing; it must be the index of a class, or null"),
        ({"item": 3, "choice": 1}, 400, "item", "item must be the value of `item`"),
        ({"item": ITEM, "choice": -1}, 400, "choice", "choice must be the index of a class, or null"),
        ({"item": ITEM, "choice": True}, 400, "choice", "choice must be the index of a class"),
        ({"item": ITEM, "choice": 1.5}, 400, "choice", "choice must be the index of a class"),
        (
            {"item": ITEM, "choice": 3},
            400,
            "choice",
            "choice must be a whole number from 0 to 2, or null, got 3",
        ),
        (
            {"item": ITEM, "choice": 1, "who": "me"},
            400,
            "who",
            "who is an unknown field, must be one of",
        ),
        ([], 400, "body", "body must be an object with item and choice"),
        ("no json", 400, "", "The body must be JSON."),
        ("[" * 4000, 400, "", "The body must be JSON."),
        ('"' + "x" * 5000 + '"', 413, "", "The body must have at most 4096 bytes."),
    ],
)
def test_invalid_body_names_the_field(body: Any, status: int, field: str, message: str) -> None:
    told = Site()("POST", "/api/runs/animals/answers", body=body)
    assert told.status == status
    assert told.body
    assert told.body["error"]["field"] == field
    assert message in told.body["error"]["message"]


def test_choice_may_be_a_whole_float() -> None:
    site = Site()
    task = site("POST", "/api/runs/animals/task").body or {}
    body = {"item": task["item"], "choice": 1.0}
    assert (site("POST", "/api/runs/animals/answers", body=body).body or {})["result"] == "kept"
    assert {choice for task in site.world.tasks for choice in task.answers.values()} == {1}


def test_body_may_be_base64() -> None:
    found = event("POST", "/api/runs/animals/answers", body={"item": ITEM, "choice": None})
    found |= {"body": base64.b64encode(found["body"].encode()).decode(), "isBase64Encoded": True}
    _, call = parse(found)
    assert call.body == {"item": ITEM, "choice": None}
    with pytest.raises(HttpError, match="must be JSON"):
        parse(found | {"body": "\N{SNOWMAN}"})


def test_document_has_an_operation_for_each_route() -> None:
    assert {each.name for each in http.operations().values()} == set(api._OPERATIONS)
    codes = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    source = "".join(
        (ROOT / f"runtime/data_centric/{name}.py").read_text()
        for name in ("core/api", "core/http", "handlers/api")
    )
    assert [each for each in codes if f'"{each}"' not in source] == []


def test_answer_is_json_or_nothing() -> None:
    assert Answer(204).to_gateway() == {
        "statusCode": 204,
        "headers": {"Cache-Control": "no-store"},
        "body": "",
    }
    told = Answer(200, {"a": 1}).to_gateway()
    assert (told["headers"]["Content-Type"], told["body"]) == ("application/json", '{"a": 1}')


def test_open_runs_come_in_the_order_of_their_start() -> None:
    table = Rows()
    for number, name in enumerate(("late", "early")):
        desk = Desk(table, with_settings(name=name), lambda number=number: 100.0 - number)
        workflow.load(desk, entries(1))
    assert [*table.open_runs()] == ["early", "late"]
