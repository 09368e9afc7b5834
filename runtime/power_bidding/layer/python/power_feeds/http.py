"""HTTP client for the feeds' sources: timeouts, bounded retries, a size limit, and errors without secrets."""

from __future__ import annotations

import datetime
import email.utils
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import urllib3

from power_feeds import hours
from power_feeds.errors import FeedDownError, FeedMalformedError, FeedRefusedError

TRIES = 3
CONNECT_SECONDS, READ_SECONDS = 3, 20
LONGEST_WAIT_SECONDS = 10
"""Maximum pause between two attempts, even if Retry-After is longer. The state machine invokes the function
again after a longer pause."""
THROTTLED_SECONDS = 6
"""Minimum pause after a 429 without Retry-After: OASIS allows one request in 5 seconds per IP address."""
MOST_BYTES = 32 * 2**20
AGENT = "groundplan-power-bidding"


class AnsweredError(FeedMalformedError):
    """The source answered with a status that no retry changes, such as 400."""

    def __init__(self, text: str, status: int, clock: float) -> None:
        super().__init__(text)
        self.status, self.clock = status, clock


@dataclass(frozen=True)
class Answer:
    body: bytes
    clock: float
    """Time in the header Date, or this machine's time if there is no such header, in hours since 1970."""


@dataclass
class Client:
    """Client of a source. `secrets` are the texts that errors must not contain."""

    secrets: Sequence[str] = ()
    tries: int = TRIES
    most_bytes: int = MOST_BYTES
    sleep: Callable[[float], None] = time.sleep
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def get(self, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Return the answer to a GET. Raises `FeedDownError`, `FeedRefusedError` or `FeedMalformedError`."""
        return self._request("GET", with_query(url, query), headers, None)

    def post_form(self, url: str, form: Mapping[str, str]) -> Answer:
        """Return the answer to a POST of a form. Errors as in `get`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._request("POST", url, headers, urllib.parse.urlencode(form).encode())

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        place = self.hidden(_place(url))
        problem = ""
        for attempt in range(1, self.tries + 1):
            try:
                status, answer, found = self._once(method, url, headers, body)
                wait = _retry_after(found)
                problem = f"{place} answered {status}"
            except (urllib3.exceptions.HTTPError, OSError) as error:
                # urllib3's message contains the URL with its query
                status, answer, found, wait = 0, b"", {}, None
                problem = f"{place} cannot be reached: {type(error).__name__}"
            if status == 200:
                return Answer(answer, _clock(found))
            if status in (401, 403):
                raise FeedRefusedError(problem)
            if status and status != 429 and status < 500:
                raise AnsweredError(problem, status, _clock(found))
            if attempt < self.tries:
                if wait is None:
                    wait = max(2 ** (attempt - 1), THROTTLED_SECONDS if status == 429 else 0)
                self.sleep(min(wait, LONGEST_WAIT_SECONDS))
        raise FeedDownError(f"{problem}, {self.tries} times")

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        answer = self.pool.request(
            method,
            url,
            headers={"User-Agent": AGENT, **headers},
            body=body,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            redirect=False,  # a redirect would carry the credentials to another host
            preload_content=False,
        )
        try:
            read = answer.read(self.most_bytes + 1)
            if len(read) > self.most_bytes:
                place = self.hidden(_place(url))
                raise FeedMalformedError(f"{place} answered with more than {self.most_bytes} bytes")
            whole = answer.read(1) == b""  # also detects a truncated body
            return (answer.status if whole else 0), read, answer.headers
        finally:
            answer.release_conn()

    def hidden(self, text: str) -> str:
        """Return `text` with `***` in place of each secret, plain or URL-encoded."""
        for secret in self.secrets:
            for spelled in {secret, urllib.parse.quote(secret), urllib.parse.quote_plus(secret)} - {""}:
                text = text.replace(spelled, "***")
        return text


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Return `url` with `query` added to its query."""
    parts = urllib.parse.urlsplit(url)
    joined = "&".join(part for part in (parts.query, urllib.parse.urlencode(query)) if part)
    return urllib.parse.urlunsplit(parts._replace(query=joined))


def _place(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}{parts.path}"


def _clock(headers: Mapping[str, str]) -> float:
    try:
        return hours.exactly(email.utils.parsedate_to_datetime(headers["Date"]))
    except (KeyError, ValueError, TypeError):
        return hours.exactly(datetime.datetime.now(datetime.UTC))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause in seconds that the header Retry-After requests; None if it has no number or date."""
    text = headers.get("Retry-After")
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max((hours.exactly(email.utils.parsedate_to_datetime(text)) - _clock(headers)) * 3_600, 0)
    except (ValueError, TypeError):
        return None
