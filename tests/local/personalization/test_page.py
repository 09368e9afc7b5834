"""The page of `personalization` in headless Chromium, as a user uses it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from scenarios.browser import sign_in
from tests.support.browser import Visit, chromium
from tests.support.personalization.page import created, drawn, fill_in, hasty
from tests.support.personalization.page_server import Service, served
from tests.support.waiting import until

ADA, BOB, EVE = "ada@example.org", "bob@example.org", "eve@example.org"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def service() -> Service:
    return Service(seconds=6)


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    with served(service) as at:
        yield at
    assert not service.breaches


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[[], Page]]:
    """`visit()` returns the page in a separate browser profile. At the end the browser's console must have no
    errors."""
    visits: list[Visit] = []

    def opened() -> Page:
        visits.append(Visit(hasty(browser)))
        visits[-1].page.goto(address)
        return visits[-1].page

    yield opened
    for each in visits:
        each.page.context.close()
        assert not each.complaints


def signed_in(visit: Callable[[], Page], service: Service, user: str = ADA) -> Page:
    page = visit()
    sign_in(page, user, service.passwords[user])
    expect(page.get_by_role("heading", name="Your models")).to_be_focused()
    return page


def test_user_creates_a_model_makes_pictures_and_deletes_it(visit, service, pictures, tmp_path):
    # GIVEN a signed-in user who has just created a first model
    page = signed_in(visit, service)
    created(page, pictures)

    # THEN every picture is uploaded; the largest picture is scaled down, and the others are unchanged
    (model,) = service.models.values()
    sizes = [Image.open(io.BytesIO(service.objects[key])).size for key in model["images"]]
    assert sizes == [(1600, 1200), (700, 700), (640, 480), (480, 640), (500, 500)]
    assert service.objects[model["images"][1]] == pictures[1].read_bytes()

    # WHEN the page is left open THEN it shows the progress without a reload
    status = page.get_by_role("region", name="Status")
    expect(status.get_by_text(re.compile(r"Learning your cat: step \d+ of 300"))).to_be_visible()
    assert 0 < float(page.get_by_role("progressbar").get_attribute("value") or 0) <= 1
    service.seconds = 0.1  # skip the remaining training time
    expect(page.get_by_role("img", name="First picture 1 of your cat")).to_be_visible()
    expect(page.get_by_role("button", name="Make pictures")).to_be_visible()

    # WHEN pictures are requested THEN they appear, and pictures of the same seed are equal
    drawn(page, "a photo of sks cat on a beach", seed=7, count=2)
    works = page.get_by_role("article")
    expect(works).to_have_count(1)
    expect(works.first.get_by_role("img")).to_have_count(2)
    assert works.first.get_by_role("img").first.evaluate(
        "image => image.decode().then(() => image.naturalWidth)"
    )
    expect(works.first.get_by_text("Seed 7")).to_be_visible()

    # and a picture can be downloaded
    with page.expect_download() as kept:
        works.first.get_by_role("button", name="Download picture 1").click()
    kept.value.save_as(tmp_path / "kept.png")
    assert Image.open(tmp_path / "kept.png").format == "PNG"

    # WHEN the page is reloaded THEN the user is still signed in and sees the pictures
    for seed in (8, 9, 10):
        drawn(page, f"number {seed}", seed=seed)
        expect(works.first.get_by_text(f"Seed {seed}")).to_be_visible()
    page.reload()
    expect(works).to_have_count(3)
    page.get_by_role("button", name="Show older ones").click()
    expect(works).to_have_count(4)
    expect(works.last.get_by_text("a photo of sks cat on a beach")).to_be_visible()
    works.last.get_by_role("button", name="Use again").click()
    expect(page.get_by_label("Seed")).to_have_value("7")
    expect(page.get_by_label("What do you want to see?")).to_have_value("a photo of sks cat on a beach")

    # WHEN the model is deleted THEN a confirmation is required, and all its data is deleted
    page.get_by_role("button", name="Delete this model").click()
    page.get_by_role("button", name="Keep it").click()
    assert service.models
    page.get_by_role("button", name="Delete this model").click()
    page.get_by_role("button", name="Delete everything").click()
    expect(page.get_by_text("Miso is deleted.")).to_be_visible()
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    assert not service.models


def test_other_user_does_not_see_the_model(visit, service, pictures):
    # GIVEN a model of Ada's
    ada = signed_in(visit, service)
    created(ada, pictures)

    # WHEN Bob opens his list, and the model's address
    bob = signed_in(visit, service, BOB)
    expect(bob.get_by_text("Nothing here yet")).to_be_visible()
    bob.goto(ada.url)

    # THEN he sees the message for a model that does not exist
    expect(bob.get_by_text("There is no such model among yours.")).to_be_visible()
    expect(bob.get_by_text("Miso")).to_have_count(0)


def test_only_failed_uploads_are_sent_again(visit, service, pictures):
    # GIVEN a storage that refuses two of five uploads
    page = signed_in(visit, service)
    fill_in(page, pictures)
    service.uploads_lost = 2
    page.get_by_role("button", name="Upload and start").click()

    # WHEN the user retries the two failed uploads, one after the other
    expect(page.get_by_text("2 of 5 pictures did not arrive")).to_be_visible()
    assert not [call for call in service.calls if call.endswith("/start")]
    for _ in range(2):
        page.get_by_role("listitem").get_by_role("button", name="Try again").first.click()

    # THEN the training of this model is started, once
    expect(page.get_by_role("region", name="Status")).to_be_visible()
    assert len(service.models) == 1
    assert len([call for call in service.calls if call.endswith("/start")]) == 1


def test_validation_error_is_shown_at_its_field(visit, service, pictures, tmp_path):
    page = signed_in(visit, service)
    page.get_by_role("link", name="Create your first model").click()
    start = page.get_by_role("button", name="Upload and start")

    # WHEN a required field is empty THEN the error is shown at this field, and the field has the focus
    start.click()
    name = page.get_by_label("Name")
    expect(name).to_be_focused()
    expect(name).to_have_accessible_description(re.compile("Give it a name."))
    name.fill("taken")
    page.get_by_label("What is it?").fill("#!")
    start.click()
    expect(page.get_by_label("What is it?")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("What is it?").fill("cat")
    start.click()
    chooser = page.get_by_label("Choose pictures")
    expect(chooser).to_have_accessible_description(re.compile("Choose at least 4 pictures."))

    # WHEN a file is not a picture, or too small for training THEN it is named and left out
    no_picture, tiny = tmp_path / "letter.jpg", tmp_path / "dot.png"
    no_picture.write_text("Dear Ada")
    Image.new("RGB", (8, 8)).save(tiny)
    chooser.set_input_files([no_picture, tiny, *pictures])
    expect(
        page.get_by_text("letter.jpg is not a picture that this browser can read: choose JPEG, PNG or WebP.")
    ).to_be_visible()
    expect(page.get_by_text("dot.png is too small")).to_be_visible()
    expect(page.get_by_text("5 of up to 20 chosen.")).to_be_visible()

    # WHEN the API refuses a field THEN its message is shown at that field
    start.click()
    expect(name).to_have_accessible_description(re.compile("You have a model of this name."))
    assert not service.models


def test_user_above_the_rate_limit_is_told_when_to_retry(visit, service, pictures):
    service.seconds = 0.1
    page = signed_in(visit, service)
    created(page, pictures)

    drawn(page, "something forbidden")
    expect(page.get_by_label("What do you want to see?")).to_have_accessible_description(
        re.compile("may not be used")
    )
    drawn(page, "a cat", seed="minus one")
    expect(page.get_by_label("Seed")).to_have_accessible_description(re.compile("A whole number from 0"))

    service.busy_seconds = 40
    drawn(page, "a cat")
    said = page.get_by_role("alert")
    expect(said).to_have_text(re.compile(r"many pictures. Try again at \d\d:\d\d:\d\d, in (40|39) s."))


def test_temporary_password_must_be_changed_at_first_sign_in(visit, service):
    page = visit()
    sign_in(page, EVE, "not that one")
    expect(page.get_by_role("alert")).to_have_text("That email address and password do not match.")
    sign_in(page, EVE, "Lent-once-1")
    expect(page.get_by_role("heading", name="Choose your password")).to_be_visible()
    for chosen, again, words in (("short", "shorter", "not the same"), ("short", "short", "not long enough")):
        page.get_by_label("New password").fill(chosen)
        page.get_by_label("The same again").fill(again)
        page.get_by_role("button", name="Save and sign in").click()
        expect(page.get_by_text(words)).to_be_visible()
    page.get_by_label("New password").fill("Eve-and-nobody-else")
    page.get_by_label("The same again").fill("Eve-and-nobody-else")
    page.get_by_role("button", name="Save and sign in").click()
    expect(page.get_by_role("heading", name="Your models")).to_be_visible()
    assert service.passwords[EVE] == "Eve-and-nobody-else"


def test_user_signs_up_and_resets_the_password(visit, service):
    # GIVEN a user pool with open sign-up, and a user who first enters an email address that has an account
    page = visit()
    page.get_by_role("button", name="Create an account").click()
    for user in (ADA, "fay@example.org"):
        page.get_by_label("Email").fill(user)
        page.get_by_label("New password").fill("Fay-and-nobody-else")
        page.get_by_label("The same again").fill("Fay-and-nobody-else")
        page.get_by_role("button", name="Create it").click()
        if user == ADA:
            expect(page.get_by_label("Email")).to_have_accessible_description(re.compile("exists"))

    # WHEN the code that was sent is entered, at the second try
    for code in ("000000", "314159"):
        page.get_by_label("Code").fill(code)
        page.get_by_role("button", name="Go on").click()
        if code == "000000":
            expect(page.get_by_label("Code")).to_have_accessible_description(re.compile("Invalid"))

    # THEN the user is signed in, and can reset the password
    expect(page.get_by_role("heading", name="Your models")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Forgot your password?").click()
    page.get_by_label("Email").fill("fay@example.org")
    page.get_by_role("button", name="Send a code").click()
    page.get_by_label("Code").fill("314159")
    page.get_by_label("New password").fill("Fay-found-it-again-1")
    page.get_by_label("The same again").fill("Fay-found-it-again-1")
    page.get_by_role("button", name="Save and sign in").click()
    expect(page.get_by_role("heading", name="Your models")).to_be_visible()
    assert service.passwords["fay@example.org"] == "Fay-found-it-again-1"


def test_session_is_renewed_until_it_is_revoked(visit, service):
    # GIVEN tokens that expire immediately
    service.token_seconds = 0
    page = signed_in(visit, service)
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    assert len(service.tokens) > 1

    # WHEN Cognito revokes the session THEN the user must sign in again
    service.refreshes.clear()
    page.reload()
    expect(page.get_by_text("Your session has ended.")).to_be_visible()

    # WHEN a user signs out THEN the tokens are deleted in the browser and revoked in Cognito
    sign_in(page, ADA, service.passwords[ADA])
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    until(lambda: not service.refreshes, "the revocation of the tokens")


def test_text_of_users_is_escaped_in_every_view(visit, service, pictures):
    # GIVEN a name and a prompt with a script
    service.seconds = 0.1
    evil = "<img src=x onerror=alert(1)>"
    page = signed_in(visit, service)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    created(page, pictures, name=evil)
    drawn(page, evil)

    # THEN the name and the prompt are shown as text
    expect(page.get_by_role("article").get_by_text(evil)).to_be_visible()
    page.get_by_role("link", name="Your models").click()
    expect(page.get_by_role("link", name=evil)).to_be_visible()


def test_no_view_has_accessibility_errors(visit, service, pictures, browser, address):
    """The accessibility checker axe checks the rules of WCAG 2.2 AA, in light mode on a desktop and in dark
    mode on a phone."""
    seen = Visit(hasty(browser))
    page = seen.page
    page.goto(address)
    expect(page.get_by_label("Email")).to_be_visible()
    barriers = {"sign in": seen.barriers()}
    sign_in(page, ADA, service.passwords[ADA])
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    barriers["nothing yet"] = seen.barriers()
    fill_in(page, pictures)
    barriers["new model"] = seen.barriers()
    page.get_by_role("button", name="Upload and start").click()
    expect(page.get_by_text("Waiting for a machine")).to_be_visible()
    barriers["progress"] = seen.barriers()
    service.seconds = 0.1
    drawn(page, "a photo of sks cat", seed=1, count=4)
    expect(page.get_by_role("article")).to_have_count(1)
    barriers["gallery"] = seen.barriers()
    page.get_by_role("button", name="Delete this model").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    barriers["question"] = seen.barriers()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Your models").click()
    expect(page.get_by_role("link", name="Miso")).to_be_visible()
    barriers["models"] = seen.barriers()
    page.context.close()
    assert {view: found for view, found in barriers.items() if found} == {}


def test_all_controls_are_reachable_by_keyboard(visit, service):
    page = signed_in(visit, service)
    page.reload()
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    stops = []
    for _ in range(4):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.textContent"))
    assert stops == ["Skip to the content", "Likeness", "Sign out", "Create your first model"]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New model")).to_be_focused()
