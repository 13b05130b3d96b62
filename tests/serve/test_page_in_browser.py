"""The page in Debian's Chromium and Firefox: every view is used, and what it shows is looked at.

Needs `chromium` or `firefox-esr` on the path and the packages playwright and axe-playwright-python.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Running
from tests.axe import serious_findings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow
LIMIT = 60_000
BROWSERS: dict[str, dict[str, Any]] = {
    "chromium": {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]},
    # through WebDriver BiDi: Playwright's own protocol needs a Firefox of its own
    "firefox": {"executable_path": shutil.which("firefox-esr"), "channel": "moz-firefox"},
}


@pytest.fixture(scope="module", params=list(BROWSERS))
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    options = BROWSERS[request.param]
    if options["executable_path"] is None:
        pytest.skip(f"{request.param} is not installed")
    with playwright.sync_playwright() as tools:
        opened = getattr(tools, request.param).launch(timeout=5 * LIMIT, **options)
        try:
            opened.new_page().close()
        except playwright.Error as error:  # a protocol newer than the browser
            pytest.skip(f"this Playwright cannot drive {request.param}: {error.message[:200]}")
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any, server: Running) -> Iterator[Callable[..., Any]]:
    """Opens the page; nothing may be complained of on its console."""
    complaints: list[str] = []
    pages = []

    def begin(
        width: int = 1200, dark: bool = False, model: str = "book", fragment: str = ""
    ) -> Any:
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        pages.append(page)
        page.set_default_timeout(LIMIT)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{server.url}/{fragment}")
        page.wait_for_selector("#about:not(:empty)")
        page.select_option("#model", model)
        return page

    yield begin
    for page in pages:
        page.close()
    assert complaints == []


def write(page: Any, count: int = 30, prompt: str = "The ") -> str:
    page.fill("#prompt", prompt)
    page.fill("#set-max_tokens", str(count))
    page.click("#go")
    page.locator("#text .token").nth(count - 1).wait_for()
    page.locator("#go").wait_for()
    return str(page.inner_text("#text"))


def test_the_text_is_what_the_api_gives(open_page: Callable[..., Any], server: Running) -> None:
    page = open_page()
    shown = write(page)
    body = {"model": "book", "prompt": "The ", "max_tokens": 30, "seed": 0, "temperature": 0.8}
    right = server.post("/v1/completions", body).json()["choices"][0]["text"]
    assert shown == "The " + right
    labels = [each.get_attribute("aria-label") for each in page.locator("#text .token").all()]
    assert all(label and label.endswith("percent") for label in labels)


def test_an_alternative_is_taken_and_undone(open_page: Callable[..., Any]) -> None:
    page = open_page()
    before = write(page)
    token = page.locator("#text .token").nth(10)
    token.hover()
    others = page.locator("#alternatives button")
    assert others.count() == 10
    percents = [float(each.split()[-2]) for each in others.all_inner_texts()]
    assert percents == sorted(percents, reverse=True)
    chosen = next(n for n in range(10) if others.nth(n).get_attribute("aria-current") != "true")
    others.nth(chosen).click()
    page.locator("#text .token").nth(40).wait_for()
    after = page.inner_text("#text")
    assert after[:14] == before[:14] and after[14] != before[14]
    page.locator("#go").wait_for()
    page.click("#undo")
    assert page.inner_text("#text") == before


def test_a_link_shows_the_same_text_to_somebody_else(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.fill("#set-seed", "7")
    shown = write(page, 20, "A dog")
    page.click("#link")
    fragment = "#" + page.url.partition("#")[2]
    other = open_page(fragment=fragment)
    other.click("#go")
    other.locator("#text .token").nth(19).wait_for()
    assert other.inner_text("#text") == shown


def test_a_text_is_stopped_and_goes_on(open_page: Callable[..., Any], server: Running) -> None:
    page = open_page()
    page.fill("#set-max_tokens", "5000")
    page.click("#go")
    page.locator("#text .token").nth(5).wait_for()
    page.click("#stop")
    scheduler = server.served[0].scheduler
    assert scheduler is not None
    ends = time.monotonic() + 20
    while scheduler.running and time.monotonic() < ends:
        time.sleep(0.05)
    assert scheduler.running == 0
    had = page.locator("#text .token").count()
    page.fill("#set-max_tokens", "10")
    page.click("#more")
    page.locator("#text .token").nth(had + 9).wait_for()


def test_what_a_model_writes_never_becomes_html(open_page: Callable[..., Any]) -> None:
    page = open_page()
    write(page, 5, "<img src=x onerror=alert(1)><b>bold</b>")
    assert page.locator("#text img, #text b").count() == 0
    assert "<b>bold</b>" in page.inner_text("#text")


def test_a_conversation_is_held_edited_and_saved(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(model="talk")
    page.click("#tab-chat")
    page.fill("#question", "3 cats?")
    page.keyboard.press("Enter")
    page.locator(".message.assistant").wait_for()
    page.locator("#chat-stop").wait_for(state="hidden")
    page.click("#regenerate")
    page.locator("#chat-stop").wait_for(state="hidden")
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / "saved.jsonl"
    download.value.save_as(saved)
    messages = json.loads(saved.read_text())["messages"]
    assert messages[0] == {"role": "user", "content": "3 cats?"}
    page.click(".message.user button")
    assert page.input_value("#question") == "3 cats?"
    assert page.locator(".message").count() == 0


def test_a_model_without_conversations_says_how_to_get_one(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#tab-chat")
    assert "--task chat" in page.inner_text("#no-chat")
    assert not page.is_visible("#question")


def test_attention_and_the_logit_lens_are_those_of_the_model(
    open_page: Callable[..., Any], server: Running
) -> None:
    page = open_page()
    page.click("#tab-inspect")
    page.fill("#look-text", "The cat sat")
    page.click("#look")
    page.locator("#lens td").first.wait_for()
    page.select_option("#layer", index=1)  # a value would match a label too
    page.wait_for_timeout(1000)
    found = server.post("/api/inspect", {"model": "book", "text": "The cat sat", "layer": 1}).json()
    assert page.locator("#lens tr").count() == 1 + len(found["lens"])
    last = page.locator("#lens tr").last.locator("td").all_inner_texts()
    assert [each.replace("␣", " ") for each in last] == [best[0][0] for best in found["lens"][-1]]
    titles = [each.get_attribute("title") for each in page.locator("#rows .token").all()]
    right = found["attention"][0][-1]
    assert [float(str(title).split()[0]) for title in titles] == pytest.approx(
        [100 * each for each in right], abs=0.06
    )


def test_two_models_are_compared(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.fill("#set-max_tokens", "20")
    page.click("#tab-compare")
    page.select_option("#right", "book")
    page.click("#compare-go")
    page.locator("#compare-stop").wait_for(state="hidden")
    page.wait_for_timeout(500)
    assert len(page.inner_text("#left-text")) > 10
    assert page.inner_text("#left-text") == page.inner_text("#right-text")


def test_a_training_is_drawn_with_its_plan(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#tab-training")
    page.locator("#loss canvas").wait_for()
    assert "finished" in page.inner_text("#state")
    assert "counting n-grams" in page.inner_text("#loss")
    assert page.locator("#plan dt").count() > 5
    assert page.locator("#samples li").count() >= 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_axe_finds_nothing_serious(open_page: Callable[..., Any], width: int, dark: bool) -> None:
    page = open_page(width, dark)
    write(page, 15)
    for view in ("write", "chat", "inspect", "compare", "training"):
        page.click(f"#tab-{view}")
        if view == "inspect":
            page.click("#look")
            page.locator("#lens td").first.wait_for()
        page.wait_for_timeout(300)
        assert serious_findings(page) == [], view
        wide = page.locator("body").bounding_box()["width"]
        assert wide <= width, "nothing sticks out to the right"


def test_a_training_is_asked_to_finish_and_to_stop(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.click("#tab-training")
    page.locator("#loss canvas").wait_for()
    assert not page.locator("#training-buttons").is_visible()  # the run is finished
    answers = {"running": True, "finished": False, "reasons": {}, "events": [], "next": 0}
    asked: list[tuple[str, Any]] = []

    def answer(route: Any) -> None:
        name = route.request.url.rpartition("/")[2]
        if route.request.method == "POST":
            asked.append((name, route.request.post_data_json))
        route.fulfill(json=answers)

    page.route("**/api/training**", answer)
    page.route("**/api/training/*", answer)
    page.click("#tab-write")
    page.click("#tab-training")
    page.fill("#finish-minutes", "2")
    page.click("#finish-training")
    page.wait_for_timeout(300)
    assert "2 minutes left" in page.inner_text("#state")
    page.click("#stop-training")
    page.wait_for_timeout(300)
    assert asked == [
        ("finish", {"model": "book", "seconds": 120}), ("stop", {"model": "book"}),
    ]  # fmt: skip
