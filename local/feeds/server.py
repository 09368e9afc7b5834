"""The HTTP server of the operators' APIs, the market and the control calls. It listens only on the loopback
interface, and requires API keys."""

from __future__ import annotations

import email.utils
import hmac
import json
import secrets
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.feeds import caiso, ercot, faults, times, weather
from local.feeds.market import Market
from local.feeds.world import World

ADDRESS = "127.0.0.1"
MOST_BODY_BYTES = 2**20
SHAPES = ("caiso", "ercot")
JSON, ZIP = "application/json", "application/x-zip-compressed"
Reply = tuple[int, bytes, str]


def _key() -> str:
    return secrets.token_urlsafe(24)


@dataclass
class Keys:
    """The server's API keys and passwords. They are generated at each start and at each rotation."""

    subscription: str = field(default_factory=_key)
    username: str = field(default_factory=lambda: f"user-{_key()}")
    password: str = field(default_factory=_key)
    weather: str = field(default_factory=_key)
    forecast: str = field(default_factory=_key)
    market: str = field(default_factory=_key)


class FeedServer:
    """Server of one replay. Call `start`, then give the feeds the result of `secret`, then call `stop`."""

    def __init__(self, world: World, market: Market, shape: str, port: int = 0) -> None:
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
        self.world, self.market, self.shape = world, market, shape
        self.keys, self.tokens, self.control_key = Keys(), ercot.Tokens(), _key()
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer((ADDRESS, port), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self._http.server_address[1]}"

    def start(self) -> FeedServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def secret(self) -> dict[str, Any]:
        """Return the secret with this server's keys, in the format of the feeds' secret in Secrets
        Manager."""
        keys = self.keys
        operator: dict[str, Any] = {"source": "caiso", "url": self.url + caiso.PATH}
        if self.shape == "ercot":
            operator = {
                "source": "ercot",
                "url": self.url + ercot.BASE,
                "token_url": self.url + ercot.TOKEN_PATH,
                "subscription_key": keys.subscription,
                "username": keys.username,
                "password": keys.password,
            }
        place = "?latitude=29.76&longitude=-95.36"
        return {
            "prices": operator,
            "load": operator,
            "weather": {"url": self.url + weather.PATH + place, "key": keys.weather},
            "price_forecast": {"url": self.url + weather.FORECAST_PATH, "key": keys.forecast},
            "market": {"url": self.url, "key": keys.market},
        }

    # Requests

    def reply(
        self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """Answer one request. Raises `ValueError` or `KeyError` for an invalid request."""
        now = self.world.clock.now()
        route = f"{method} {path}"
        if route == f"POST {ercot.TOKEN_PATH}":
            return self._token(body, now)
        if route == f"GET {caiso.PATH}":
            return self._feed(
                caiso.feed_of(query),
                now,
                lambda twice: caiso.answer(self.world, query, now, doubled=twice),
                ZIP,
            )
        if method == "GET" and path.startswith(ercot.BASE):
            return self._ercot(path, query, headers, now)
        if route == f"GET {weather.PATH}":
            allowed = _same(query.get("apikey"), self.keys.weather)
            return self._feed(
                "weather",
                now,
                lambda twice: weather.answer(self.world, query, now, doubled=twice),
                JSON,
                allowed,
            )
        if route == f"GET {weather.FORECAST_PATH}":
            allowed = _same(headers.get("x-api-key"), self.keys.forecast)
            return self._feed(
                "price_forecast",
                now,
                lambda twice: weather.forecasts(self.world, query, now, doubled=twice),
                JSON,
                allowed,
            )
        if route in ("POST /offers", "GET /telemetry", "GET /results"):
            return self._market(route, query, headers, body, now)
        if path in ("/clock", "/faults", "/keys"):
            return self._control(route, query, headers, body)
        return _json(404, {"error": f"there is no {route}"})

    def _feed(
        self, feed: str, now: float, make: Callable[[bool], bytes | None], kind: str, allowed: bool = True
    ) -> Reply:
        self.world.faults.strike(feed, now)
        if not allowed or self.world.faults.has(feed, "unauthorized", now):
            return _json(401, {"error": "the key is not valid"})
        if self.world.faults.has(feed, "down", now):
            return _json(503, {"error": "try again later"})
        body = make(self.world.faults.has(feed, "duplicated", now))
        if body is None:
            return _json(404, {"error": f"{feed} has no such report"})
        if self.world.faults.has(feed, "malformed", now):
            body = body[: len(body) * 2 // 3]
        return 200, body, kind

    def _ercot(self, path: str, query: dict[str, str], headers: Mapping[str, str], now: float) -> Reply:
        allowed = _same(
            headers.get("ocp-apim-subscription-key"), self.keys.subscription
        ) and self.tokens.valid(headers.get("authorization", ""))
        return self._feed(
            ercot.feed_of(path),
            now,
            lambda twice: ercot.answer(self.world, path, query, now, doubled=twice),
            JSON,
            allowed,
        )

    def _token(self, body: bytes, now: float) -> Reply:
        form = dict(urllib.parse.parse_qsl(body.decode()))
        right = _same(form.get("username"), self.keys.username) and _same(
            form.get("password"), self.keys.password
        )
        if not right or form.get("grant_type") != "password":
            return _json(401, {"error": "access_denied"})
        return 200, self.tokens.issue(), JSON

    def _market(
        self, route: str, query: dict[str, str], headers: Mapping[str, str], body: bytes, now: float
    ) -> Reply:
        if not _same(headers.get("x-api-key"), self.keys.market):
            return _json(401, {"error": "the key is not valid"})
        if route == "POST /offers":
            return _json(*self.market.offer(_object(body), now))
        if route == "GET /telemetry":
            return _json(*self.market.telemetry(query["asset"], times.parse(query["hour"]), now))
        return _json(200, self.market.results(now))

    def _control(self, route: str, query: dict[str, str], headers: Mapping[str, str], body: bytes) -> Reply:
        if not _same(headers.get("x-api-key"), self.control_key):
            return _json(401, {"error": "the key is not valid"})
        if route == "POST /clock":
            given = _object(body)
            to = times.parse(given["hour"]) if "hour" in given else None
            self.world.clock.set(
                to=to, step=given.get("step", 0), rate=given.get("rate"), paused=given.get("paused")
            )
        elif route == "POST /faults":
            self.world.faults.all.append(faults.parse(_object(body)))
        elif route == "DELETE /faults":
            self.world.faults.end(query.get("feed", ""), query.get("kind", ""))
        elif route == "GET /faults":
            return _json(200, self.world.faults.shown())
        elif route == "POST /keys":
            self.keys, self.tokens = Keys(), ercot.Tokens()
            return _json(200, self.secret())
        elif route != "GET /clock":
            return _json(404, {"error": f"there is no {route}"})
        clock = self.world.clock
        now = clock.now()
        moment = times.moment(now).isoformat(timespec="seconds")
        shown = {"hour": times.text(now), "now": moment, "rate": clock.rate, "paused": clock.paused}
        return _json(200, shown | {"faults": len(self.world.faults.all)})


def _same(given: str | None, key: str) -> bool:
    return hmac.compare_digest((given or "").encode(), key.encode())


def _object(body: bytes) -> dict[str, Any]:
    found = json.loads(body or b"{}")
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")
    return found


def _json(status: int, document: Any) -> Reply:
    return status, json.dumps(document).encode(), JSON


def _handler(server: FeedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        wbufsize = 2**16  # headers and body in one packet: else the body waits for an acknowledgement

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: URLs contain keys."""

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Return the replay's time for the header Date, from which clients read a source's clock."""
            now = server.world.clock.now() * 3_600
            return email.utils.formatdate(now if timestamp is None else timestamp, usegmt=True)

        def _serve(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > MOST_BODY_BYTES:
                self.close_connection = True
                return self._send(
                    *_json(413, {"error": f"the body must have at most {MOST_BODY_BYTES} bytes"})
                )
            body = self.rfile.read(int(length))
            if "Origin" in self.headers or "Sec-Fetch-Site" in self.headers:
                return self._send(*_json(403, {"error": "requests of web pages are refused"}))
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                with server.lock:
                    reply = server.reply(self.command, parts.path, query, headers, body)
            except (ValueError, KeyError) as error:
                reply = _json(400, {"error": f"{type(error).__name__}: {error}"})
            except Exception:
                self.send_error(500)
                raise
            return self._send(*reply)

        do_GET = do_POST = do_DELETE = _serve

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

    return Handler
