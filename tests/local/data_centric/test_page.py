"""The labeling page in headless Chromium, as a labeler uses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from data_centric.core import workflow
from scenarios.browser import sign_in
from tests.support.browser import Visit, chromium
from tests.support.data_centric.desks import with_settings
from tests.support.data_centric.page import choice, expect_answers, expect_task, label, open_run
from tests.support.data_centric.page_server import Service, drawn, example, served
from tests.support.waiting import until

ADA, BOB = "ada@example.org", "bob@example.org"
SHAPES = ("circle", "square", "triangle")
PICTURE = "The picture to label"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    with served(service) as at:
        yield at


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """`visit(user)` returns the page of a signed-in labeler, in a separate browser profile. At the end the
    browser's console must have no errors."""
    visits: list[Visit] = []

    def opened(user: str = ADA, **context: object) -> Page:
        visits.append(Visit(browser.new_context(locale="en-GB", **context).new_page()))  # type: ignore[arg-type]
        page = visits[-1].page
        page.goto(address)
        enter(page, user)
        return page

    yield opened
    for each in visits:
        each.page.context.close()
        assert not each.complaints


def enter(page: Page, user: str) -> None:
    sign_in(page, user, Service().passwords[user])
    expect(page.get_by_label("Email")).to_have_count(0)


def shapes(service: Service, count: int = 4, **settings: object) -> list[str]:
    """Open a labeling run of small pictures; return the pictures' S3 URIs."""
    names = [service.picture(f"{number}.png", drawn(number, (90, 60))) for number in range(count)]
    run = with_settings(**{"name": "shapes", "classes": SHAPES, "labels": 1, "lease_seconds": 600} | settings)
    service.open(run, [{"source-ref": name} for name in names], "Choose the shape.")
    return names


def picture_after(page: Page, *before: str) -> str:
    """Wait until the page shows a picture whose key is not in `before`; return the key."""
    others = "".join(f":not([src$='/{key}'])" for key in before)
    picture = page.locator(f".stage img{others}")
    expect(picture).to_be_visible()
    picture.evaluate("image => image.decode()")
    return urlsplit(picture.get_attribute("src") or "").path.lstrip("/")


def key_of_truth(picture: str) -> str:
    return str(int(picture.rpartition("/")[2].removesuffix(".png")) % 3 + 1)


def test_labelers_complete_a_run(visit, service):
    # given a run that asks for two labels per picture, and has gold questions
    names = [service.picture(f"shapes/{number}.png", drawn(number)) for number in range(4)]
    gold = {service.picture(f"gold/{number}.png", drawn(number)): number for number in range(3)}
    settings = with_settings(name="shapes", classes=SHAPES, labels=2, gold_every=3, lease_seconds=600)
    service.open(settings, [{"source-ref": name} for name in names], "Choose the shape.", gold=gold)

    # when two people label until no task is left
    for user in (ADA, BOB):
        page = visit(user)
        open_run(page, "shapes")
        seen = label(page, key_of_truth, most=7)
        assert len(seen) == len(set(seen)) >= 4

    # then every picture has the labels of both people, and the page shows that the run is complete
    expect(page.get_by_role("heading", name="All items are complete")).to_be_visible()
    given = service.answers("shapes")
    for number in range(4):
        assert given[f"shapes/{number}.png"] == {ADA: number % 3, BOB: number % 3}
    page.get_by_role("link", name="Open runs").click()
    expect(page.get_by_text("4 of 4 complete")).to_be_visible()


def test_answer_can_be_given_by_a_click(visit, service):
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    first = expect_task(page)
    choice(page, "square").click()
    expect_answers(page, 1)
    second = expect_task(page)
    choice(page, "Unsure").click()
    expect_answers(page, 2)
    assert service.answers("shapes") == {first: {ADA: 1}, second: {ADA: None}}


def test_other_keys_do_not_answer(visit, service):
    # given a task
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)

    # when keys that are not shortcuts of a class are pressed, or any key while shortcuts are off
    page.keyboard.press("4")
    page.keyboard.press("Alt+1")
    page.keyboard.press("i")
    expect(page.get_by_role("region", name="Instructions")).to_be_visible()
    page.keyboard.press("i")
    expect(page.get_by_role("region", name="Instructions")).to_be_hidden()
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.keyboard.press("1")
    page.reload()
    expect_task(page)
    page.keyboard.press("u")

    # then no answer is sent until shortcuts are on
    assert not [call for call in service.calls if call.endswith("/answers")]
    page.get_by_label("Keyboard shortcuts").check()
    page.keyboard.press("u")
    expect_answers(page, 1)


def test_key_pressed_twice_answers_one_task(visit, service):
    # given tasks, and a browser clock that is paused when the first task is answered
    shapes(service)
    page = visit()
    page.clock.install()
    open_run(page, "shapes")
    first = expect_task(page)
    page.clock.pause_at(datetime.now() + timedelta(minutes=1))
    page.keyboard.press("1")
    second = picture_after(page, first)

    # when the key is pressed again at once, then it does not answer the second task
    page.keyboard.press("1")
    expect(choice(page, "Unsure")).to_have_attribute("aria-disabled", "true")
    page.clock.run_for(300)
    expect_task(page)

    # when a key is held, then it answers one task
    page.keyboard.down("2")
    picture_after(page, first, second)
    page.clock.run_for(300)
    expect_task(page)
    page.keyboard.down("2")
    assert len([call for call in service.calls if call.endswith("/answers")]) == 2


def test_answer_is_sent_when_the_connection_is_back(visit, service):
    # given a labeler who answers while offline
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    first = expect_task(page)
    page.context.set_offline(True)
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("Your answer is kept in this browser until it is sent.")

    # when the labeler presses other keys, and the connection is back
    page.keyboard.press("1")
    assert service.answers("shapes") == {}
    page.context.set_offline(False)

    # then the answer is stored, and the next task is shown
    expect_answers(page, 1)
    assert service.answers("shapes") == {first: {ADA: 1}}
    expect(page.get_by_role("alert")).to_have_count(0)
    assert expect_task(page) != first


def test_lost_response_counts_one_answer(visit, service):
    # given a connection that breaks after the service has stored the answer
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    first = expect_task(page)
    lost: list[str] = []

    def lose_once(route: Route) -> None:
        if lost:
            return route.continue_()
        lost.append(route.fetch().text())
        route.abort()

    page.route("**/answers", lose_once)

    # when the labeler answers
    page.keyboard.press("3")

    # then the answer is sent again and counts once
    expect_answers(page, 1)
    assert "kept" in lost[0]
    assert service.answers("shapes") == {first: {ADA: 2}}
    assert len([call for call in service.calls if call.endswith("/answers")]) == 2


def test_unsent_answer_is_sent_after_a_new_visit(visit, service, address):
    # given a labeler who leaves with an unsent answer
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    first = expect_task(page)
    page.route("**/answers", lambda route: route.abort())
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("Your answer is kept")
    page.goto("about:blank")
    page.unroute("**/answers")

    # when the labeler comes back
    page.goto(address)

    # then the page sends the answer while it shows the list of runs
    expect(page.get_by_text("1 of 4 complete, 1 answer by you")).to_be_visible()
    assert service.answers("shapes") == {first: {ADA: 1}}


@pytest.mark.parametrize("user", [ADA, BOB])
def test_answer_outlives_its_session_for_its_labeler_only(visit, service, user):
    # given a session that ends before the answer is sent
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    first = expect_task(page)
    service.tokens.clear()
    service.refreshes.clear()
    page.keyboard.press("2")
    expect(page.get_by_text("Your session has ended.")).to_contain_text("Your last answer is kept")

    # when a user signs in
    enter(page, user)
    expect_task(page)

    # then the answer is sent if this user gave it
    assert service.answers("shapes") == ({first: {ADA: 1}} if user == ADA else {})


def test_late_answer_is_refused_when_another_has_the_task(visit, service):
    # given a picture whose lease ends, and which another labeler then gets
    shapes(service, count=1)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)
    service.ahead += 601
    other = visit(BOB)
    open_run(other, "shapes")
    expect_task(other)

    # when the first labeler answers
    page.keyboard.press("1")

    # then the page shows that the answer does not count, and waits for other tasks
    expect(page.get_by_role("alert")).to_contain_text("Your answer to it does not count.")
    expect(page.get_by_role("heading", name="No task for you at the moment")).to_be_visible()
    other.keyboard.press("2")
    expect_answers(other, 1)
    assert service.answers("shapes") == {"0.png": {BOB: 1}}


def test_end_of_a_lease_is_announced(visit, service):
    # given a task that is leased to the labeler for ten minutes
    shapes(service)
    page = visit()
    page.clock.install()
    open_run(page, "shapes")
    expect_task(page)
    lease = page.locator(".lease")
    expect(lease).to_be_empty()

    # when the lease ends, then the page announces its last minute and its end
    page.clock.fast_forward("09:30")
    expect(lease).to_have_text("Less than a minute is left for this task.")
    page.clock.fast_forward("00:31")
    expect(lease).to_contain_text("The time for this task is over.")

    # when the labeler answers afterwards, then the answer counts, because no other labeler has the task
    page.keyboard.press("1")
    expect_answers(page, 1)


def test_blocked_labeler_sees_a_message(visit, service):
    # given a run that blocks a labeler after the first wrong answer to a gold question
    gold = {service.picture(f"gold/{number}.png", drawn(number, (90, 60))): 0 for number in range(9)}
    names = [service.picture(f"{number}.png", drawn(number, (90, 60))) for number in range(9)]
    run = with_settings(name="shapes", classes=SHAPES, labels=1, gold_every=2, gold_least=1, gold_share=1.0)
    service.open(run, [{"source-ref": name} for name in names], "Choose the shape.", gold=gold)
    page = visit()
    open_run(page, "shapes")

    # when a labeler answers gold questions wrongly
    blocked = page.get_by_role("heading", name="You cannot label in this run")
    task = choice(page, "Unsure").and_(page.locator("[aria-disabled=false]"))
    for _ in range(9):
        expect(blocked.or_(task)).to_be_visible()
        if blocked.is_visible():
            break
        before = expect_task(page)
        page.keyboard.press("2")
        expect(blocked.or_(page.locator(f".stage img:not([src$='/{before}'])"))).to_be_visible()

    # then the labeler sees a message, and gets no more tasks
    expect(blocked).to_be_visible()
    expect(page.get_by_role("img", name=PICTURE)).to_have_count(0)


def test_new_task_appears_by_itself(visit, service):
    # given a picture that another labeler has leased
    shapes(service, count=1)
    other = visit(BOB)
    open_run(other, "shapes")
    expect_task(other)
    page = visit()
    page.clock.install()
    open_run(page, "shapes")
    expect(page.get_by_role("heading", name="No task for you at the moment")).to_be_visible()

    # when the page polls and gets no task, then the focus does not move
    page.get_by_role("button", name="Look again").focus()
    with page.expect_response("**/task"):
        page.clock.fast_forward(25_000)
    expect(page.get_by_role("button", name="Look again")).to_be_focused()

    # when the other labeler's lease ends, then the waiting labeler gets the task, with the focus on its first
    # answer
    service.ahead += 601
    page.clock.fast_forward(25_000)
    assert expect_task(page) == "0.png"
    expect(choice(page, "circle")).to_be_focused()


def test_run_that_is_closed_is_named(visit, service):
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)
    service.close("shapes")
    page.keyboard.press("1")
    expect(page.get_by_role("heading", name="This run is not open")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Open runs").last.click()
    expect(page.get_by_role("heading", name="No open runs")).to_be_visible()


def test_throttled_request_is_retried(visit, service, monkeypatch):
    # given a service that throttles the first two requests
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)
    refusals = [workflow.BusyError(), workflow.BusyError()]
    submit = workflow.submit

    def busy(*arguments: object) -> object:
        if refusals:
            raise refusals.pop()
        return submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(workflow, "submit", busy)

    # when the labeler answers, then the page retries
    page.keyboard.press("1")
    expect_answers(page, 1)
    assert not refusals


def test_task_whose_picture_is_missing_cannot_be_answered_until_reloaded(visit, service):
    # given a picture that is missing from the bucket
    shapes(service, count=1)
    gone = service.objects.pop("0.png")
    page = visit()
    open_run(page, "shapes")
    expect(page.get_by_role("alert")).to_contain_text("The picture cannot be loaded.")

    # when a class is chosen, then the choice is ignored
    page.keyboard.press("1")
    expect(choice(page, "circle")).to_have_attribute("aria-disabled", "true")
    assert service.answers("shapes") == {}

    # when the picture is loaded again, then the task can be answered
    service.objects["0.png"] = gone
    page.get_by_role("button", name="Load it again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect_task(page)
    page.keyboard.press("1")
    expect_answers(page, 1)


def test_picture_zooms_and_moves(visit, service):
    service.picture("0.png", drawn(0))
    shapes(service, count=1)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)
    picture, stage = page.get_by_role("img", name=PICTURE), page.locator(".stage")

    def box() -> tuple[float, float, float]:
        found = picture.bounding_box()
        assert found
        return found["x"], found["y"], found["width"]

    fitted = box()
    middle = stage.bounding_box()
    assert middle
    x, y = middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2

    # when the user zooms with keys, buttons and the wheel, then the picture grows to at most eight times its
    # size
    page.keyboard.press("+")
    assert box()[2] == pytest.approx(1.5 * fitted[2])
    page.get_by_role("button", name="Zoom in").click()
    assert box()[2] == pytest.approx(2.25 * fitted[2])
    page.mouse.move(x, y)
    page.mouse.wheel(0, -5000)
    until(lambda: abs(box()[2] - 8 * fitted[2]) < 1, "zooming to the largest size")

    # when arrow keys and the pointer move the picture, then it moves, but not out of its frame
    before = box()
    page.keyboard.press("ArrowLeft")
    assert box()[0] == pytest.approx(before[0] + 60)
    page.mouse.down()
    page.mouse.move(x - 40, y - 30, steps=4)
    page.mouse.up()
    assert box()[:2] == pytest.approx((before[0] + 20, before[1] - 30))
    for _ in range(200):
        page.keyboard.press("ArrowLeft")
    assert box()[0] <= middle["x"] + 2
    page.keyboard.press("0")
    assert box() == pytest.approx(fitted)
    assert service.answers("shapes") == {}


def test_two_fingers_zoom_the_picture(visit, service):
    service.picture("0.png", drawn(0))
    shapes(service, count=1)
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    open_run(page, "shapes")
    expect_task(page)
    stage = page.locator(".stage").bounding_box()
    assert stage
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *apart: float) -> None:
        points = [{"x": x + side * each, "y": y, "id": side + 1} for each in apart for side in (-1, 1)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    # when two fingers move from 40 to 120 pixels apart
    fingers("touchStart", 20)
    for each in (30, 40, 50, 60):
        fingers("touchMove", each)
    fingers("touchEnd")

    # then the picture is three times as large, and the page is not
    expect(page.locator(".level")).to_have_text("300 %")
    assert page.evaluate("visualViewport.scale") == 1


def test_review_shows_labels_reason_and_neighbours(visit, service):
    # given a picture whose label is suspected
    example(service)
    page = visit()
    open_run(page, "shapes-review")
    expect_task(page)
    about = page.get_by_role("region", name="Is the label right?")

    # then the given label, the suggested label, the reason and the neighbours are shown
    given, suggested = about.get_by_role("definition").all_inner_texts()
    expect(choice(page, f"{given}given")).to_be_visible()
    expect(choice(page, f"{suggested}suggested")).to_be_visible()
    expect(about.get_by_text("The model gives the suggested label 0.97")).to_be_visible()
    neighbours = about.get_by_role("listitem")
    expect(neighbours).to_have_count(3)
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    until(lambda: neighbours.locator("img").evaluate_all(loaded), "loading of the neighbours' pictures")

    # when a label is chosen, then it is sent as the answer
    page.keyboard.press(str(SHAPES.index(suggested) + 1))
    expect_answers(page, 1)
    assert [*service.answers("shapes-review").values()] == [{ADA: SHAPES.index(suggested)}]


def test_one_of_many_classes_can_be_found(visit, service):
    # given more classes than shortcut keys
    classes = tuple(f"kind {number}" for number in range(50))
    shapes(service, count=1, classes=classes)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)

    # when a class name is typed whose letters are also shortcuts
    page.get_by_label("Find a class").press_sequentially("kind 47")
    expect(page.locator(".classes .choice:visible")).to_have_count(1)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")

    # then that class is sent as the answer
    expect_answers(page, 1)
    assert service.answers("shapes") == {"0.png": {ADA: 47}}


def test_next_text_is_announced(visit, service):
    # given a run of two texts without instructions
    run = with_settings(name="comments", classes=("good", "bad"), labels=1)
    service.open(run, [{"source": "first text"}, {"source": "second text"}])
    page = visit()
    page.get_by_role("link", name="comments").click()
    first = expect_task(page)
    expect(page.get_by_role("button", name="Instructions")).to_be_hidden()

    # when the first text is answered, then a screen reader has announced both texts
    page.keyboard.press("1")
    expect_answers(page, 1)
    other = "second" if first.startswith("first") else "first"
    status = page.locator("#status")
    expect(status).to_have_text(f"Answer 1 is saved. The next task: {other} text")


def test_texts_of_a_run_are_never_run(visit, service):
    # given texts that a browser would run as scripts if the page did not escape them
    evil = "<img src=x onerror=alert(1)>"
    run = with_settings(name="texts", classes=(evil, "other"), labels=1)
    service.open(run, [{"source": f"{evil} item"}], evil)
    page = visit()
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))

    # then the texts are shown as text
    open_run(page, "texts")
    assert expect_task(page) == f"{evil} item"
    choice(page, evil).click()
    expect_answers(page, 1)


def test_page_asks_for_no_task_of_a_closed_view(visit, service):
    # given a labeler who leaves a run while the service cannot be reached
    shapes(service)
    page = visit()
    page.route("**/task", lambda route: route.abort())
    open_run(page, "shapes")
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
    page.get_by_role("link", name="Open runs").click()
    expect(page.get_by_text("0 of 4 complete")).to_be_visible()
    page.unroute("**/task")

    # then no task is leased, even when the browser is online again
    page.evaluate("window.dispatchEvent(new Event('online'))")
    page.reload()
    expect(page.get_by_text("0 of 4 complete")).to_be_visible()
    assert not [call for call in service.calls if call.endswith("/task")]


def test_no_view_has_accessibility_errors(service, browser, address):
    """The accessibility checker axe checks the rules of WCAG 2.2 AA, in light mode on a desktop and in dark
    mode on a phone."""
    example(service)
    seen = Visit(browser.new_context(locale="en-GB").new_page())
    page = seen.page
    page.goto(address)
    expect(page.get_by_label("Email")).to_be_visible()
    barriers = {"sign in": seen.barriers()}
    enter(page, ADA)
    expect(page.get_by_role("link", name="comments")).to_be_visible()
    barriers["runs"] = seen.barriers()
    for run in ("shapes", "comments", "shapes-review"):
        page.goto(f"{address}#/runs/{run}")
        expect_task(page)
        barriers[run] = seen.barriers()
    page.context.set_offline(True)
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("Your answer is kept")
    barriers["offline"] = seen.barriers()
    page.context.set_offline(False)
    page.goto(f"{address}#/runs/none")
    expect(page.get_by_role("heading", name="This run is not open")).to_be_visible()
    barriers["closed"] = seen.barriers()
    page.context.close()
    assert {view: found for view, found in barriers.items() if found} == {}


def test_phone_of_360_pixels_shows_picture_and_classes(visit, service):
    shapes(service, classes=tuple("abcdefghij"))
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    open_run(page, "shapes")
    expect_task(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for name in ("a", "Unsure"):
        expect(choice(page, name)).to_be_in_viewport()
    expect(page.locator("kbd").first).to_be_hidden()
    choice(page, "j").tap()
    expect_answers(page, 1)


def test_all_controls_are_reachable_by_keyboard(visit, service):
    # given a task of a run whose instructions are closed
    shapes(service)
    page = visit()
    open_run(page, "shapes")
    expect_task(page)
    page.keyboard.press("+")
    page.reload()
    expect_task(page)

    # when the labeler presses Tab, then the focus moves through the page in order
    stops = []
    for _ in range(13):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText")
            or page.evaluate("document.activeElement.labels[0].innerText")
        )
    words = [re.sub(r"\s+", " ", stop.partition(". ")[0]).strip() for stop in stops]
    assert words == [
        *("Skip to the content", "Labeling", "Sign out", "Open runs", "Instructions I", "Picture"),
        *("Zoom out", "Zoom in", "Fit", "1 circle", "2 square", "3 triangle", "U Unsure"),
    ]

    # when the labeler answers with Enter, then the focus is on the same answer of the next task
    page.keyboard.press("Enter")
    expect_answers(page, 1)
    expect_task(page)
    expect(choice(page, "Unsure")).to_be_focused()
