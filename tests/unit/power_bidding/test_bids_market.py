"""The client of the market's API, against a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from power_bidding.aws.market import LARGEST_ANSWER, TRIES, Access, HttpMarket
from power_bidding.core.bid_ports import MarketDownError, MarketRefusedError, Telemetry
from power_bidding.core.offers import Offer, Slot
from tests.support.power_bidding.desks import ASSET, NIGHT

OFFER = Offer(
    ASSET, Slot(NIGHT, "RT"), NIGHT - 2, ((-8.0, -150.0), (8.0, 50.0)), "proposed", "model", "7", 1, ""
)
KEY = "very-secret-key"
Answer = tuple[int, Any]


class Server:
    """A server that answers each request with the next of `answers`, and repeats the last answer."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, str, Any]] = []
        """Method, path, key and body of each request"""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply("GET")

            def do_POST(self) -> None:
                self.reply("POST")

            def reply(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                given = json.loads(body) if body else None
                outer.asked.append((method, self.path, self.headers["x-api-key"], given))
                status, answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                if status == 302:
                    self.send_header("location", f"{outer.url}/elsewhere")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.server.shutdown()
    found.server.server_close()


class Secret:
    """A secret whose key is rotated: a call with `again` returns a new key."""

    def __init__(self, url: str) -> None:
        self.url, self.key, self.reads = url, KEY, 0

    def __call__(self, again: bool) -> Access:
        self.reads += again
        return Access(self.url, f"{self.key}-{self.reads}" if self.reads else self.key)


def market(server: Server, pauses: list[float] | None = None) -> HttpMarket:
    sleep: Callable[[float], None] = (pauses if pauses is not None else []).append
    return HttpMarket(Secret(server.url), sleep)


def test_offer_is_sent_with_its_id(server: Server) -> None:
    server.answers = [(200, {"accepted": True})]
    market(server).send(OFFER)
    body = {
        "asset": ASSET,
        "market": "RT",
        "hour": "2022-01-31T05:00Z",
        "segments": [[-8.0, -150.0], [8.0, 50.0]],
        "id": OFFER.digest,
    }
    assert server.asked == [("POST", "/offers", KEY, body)]


def test_offer_that_the_market_already_has_is_accepted(server: Server) -> None:
    server.answers = [(409, {"accepted": True, "error": "it is here already"})]
    market(server).send(OFFER)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((409, {"error": "already offered"}), "already offered"),
        ((422, {"error": "late: it was due"}), "late: it was due"),
        ((422, b"not json"), "returned status 422"),
        ((400, {"error": "a\nline"}), "a line"),
        ((422, {"error": "x" * 1000}), "x" * 300),
    ],
)
def test_refusal_is_final_and_has_its_reason(server: Server, answer: Answer, reason: str) -> None:
    server.answers = [answer]
    with pytest.raises(MarketRefusedError) as raised:
        market(server).send(OFFER)
    assert str(raised.value) == reason or (reason.startswith("returned") and reason in str(raised.value))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_request_to_a_failing_market_is_retried(server: Server, status: int) -> None:
    pauses: list[float] = []
    server.answers = [(status, {}), (status, {}), (200, {"accepted": True})]
    market(server, pauses).send(OFFER)
    assert len(server.asked) == TRIES == 3
    assert len(pauses) == 2
    assert 1 <= pauses[0] <= 2 <= pauses[1] <= 4


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}),
        (200, b"<html>"),
        (200, {"accepted": False}),
        (200, [1]),
        (302, {}),
        (404, {}),
        (200, b"[" + b" " * LARGEST_ANSWER + b"]"),
    ],
)
def test_invalid_market_response_raises_market_down(server: Server, answer: Answer) -> None:
    server.answers = [answer]
    with pytest.raises(MarketDownError) as raised:
        market(server).send(OFFER)
    assert KEY not in str(raised.value)
    assert len(server.asked) <= TRIES
    assert {path for _, path, _, _ in server.asked} == {"/offers"}


def test_rotated_key_is_read_again(server: Server) -> None:
    server.answers = [(401, {}), (200, {"accepted": True})]
    asked = market(server)
    asked.send(OFFER)
    asked.send(OFFER)
    assert [key for _, _, key, _ in server.asked] == [KEY, f"{KEY}-1", f"{KEY}-1"]


def test_refused_key_is_reported_without_the_key(server: Server) -> None:
    server.answers = [(403, {})]
    with pytest.raises(MarketDownError, match="rejects the key with status 403") as raised:
        market(server).send(OFFER)
    assert KEY not in str(raised.value)
    assert len(server.asked) == 2


def test_unreachable_market_is_down() -> None:
    asked = HttpMarket(lambda again: Access("http://127.0.0.1:9", KEY), lambda seconds: None)
    with pytest.raises(MarketDownError, match="POST offers: NewConnectionError"):
        asked.send(OFFER)


def test_market_without_an_address_is_closed() -> None:
    assert not HttpMarket(lambda again: Access("", "")).open


def test_telemetry_is_read(server: Server) -> None:
    server.answers = [(200, {"state_of_charge": 12, "awards": {"2022-01-31T05:00Z": -3.5}})]
    assert market(server).telemetry("a b", NIGHT) == Telemetry(12.0, {NIGHT: -3.5})
    assert server.asked == [("GET", "/telemetry?asset=a+b&hour=2022-01-31T05%3A00Z", KEY, None)]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"state_of_charge": None},
        {"state_of_charge": "12"},
        {"state_of_charge": 1, "awards": [1]},
        {"state_of_charge": 1, "awards": {"x": 1}},
        {"state_of_charge": 1, "awards": {"2022-01-31T05:00Z": None}},
        b'{"state_of_charge": NaN}',
    ],
)
def test_telemetry_that_cannot_be_read_is_down(server: Server, answer: Any) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(MarketDownError):
        market(server).telemetry(ASSET, NIGHT)
