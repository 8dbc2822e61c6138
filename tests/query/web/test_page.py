"""The page in a real browser: each state says what to do; keyboard and phone are enough."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog, Locator, Page, expect, sync_playwright
from redis import Redis

from passerby.contract import DEAD_LETTER_COUNTS
from tests.support.query import QueryService, people

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: QueryService) -> Iterator[Page]:
    page = browser.new_page(base_url=service.http)
    page.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 96), "teal").save(file, "JPEG")
    return file.getvalue()


def filled(service: QueryService, gallery: str, count: int = 5) -> list[str]:
    rows = people(count)
    service.fill(gallery, rows, images=dict.fromkeys(rows, jpeg()), camera="gate")
    return list(rows)


def results(page: Page) -> Locator:
    return page.get_by_role("list", name="Results").get_by_role("listitem")


def message(page: Page) -> Locator:
    return page.locator("#message")


def search(page: Page, caption: str = "a man in a red jacket") -> None:
    page.get_by_role("searchbox").fill(caption)
    page.keyboard.press("Enter")


def test_the_keyboard_suffices_to_search_move_open_and_close(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}")
    # The box has the focus already.
    page.keyboard.type("a man")
    page.keyboard.press("Enter")
    expect(results(page)).to_have_count(5)
    expect(page.get_by_role("status")).to_contain_text("5 best matches")
    results(page).first.get_by_role("button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    second = results(page).nth(1).get_by_role("button").first
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 of 5")
    expect(dialog).to_contain_text("gate")
    assert dialog.get_by_role("img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 40
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("3 of 5")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(results(page).nth(2).get_by_role("button").first).to_be_focused()


def test_more_like_this_and_the_way_back(page: Page, service: QueryService, gallery: str) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}&q=a+man")
    expect(results(page)).to_have_count(5)
    chosen = results(page).filter(has_text="2.jpg")
    chosen.get_by_role("button", name="More like this").click()
    expect(results(page)).to_have_count(4)
    expect(page.locator("#notice")).to_contain_text("2.jpg")
    expect(chosen).to_have_count(0)
    page.go_back()
    expect(results(page)).to_have_count(5)
    expect(page.get_by_role("searchbox")).to_have_value("a man")


def test_more_pages_add_each_match_once(page: Page, service: QueryService, gallery: str) -> None:
    names = filled(service, gallery, 30)
    page.goto(f"/?gallery={gallery}&q=a+man")
    more = page.get_by_role("button", name="Show more")
    for count in (12, 24, 30):
        expect(results(page)).to_have_count(count)
        if count < 30:
            more.click()
    expect(more).to_be_hidden()
    shown = results(page).locator(".name").all_text_contents()
    assert sorted(shown) == sorted(names)
    page.get_by_label("Show").select_option("24")
    expect(results(page)).to_have_count(24)


def test_a_photo_is_searched(page: Page, service: QueryService, gallery: str) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}")
    page.locator("#file").set_input_files(
        {"name": "her.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
    )
    expect(results(page)).to_have_count(5)
    expect(page.locator("#notice")).to_contain_text("your photo")


def test_switching_the_gallery_repeats_the_search_in_it(
    page: Page, service: QueryService, gallery: str
) -> None:
    other = f"{gallery[:60]}-o"
    filled(service, gallery)
    filled(service, other, 2)
    page.goto(f"/?gallery={gallery}&q=a+man")
    expect(results(page)).to_have_count(5)
    page.get_by_label("Gallery").select_option(other)
    expect(results(page)).to_have_count(2)
    expect(page).to_have_url(re.compile(f"gallery={other}"))


def test_an_example_is_searched_by_a_click(page: Page, service: QueryService, gallery: str) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}")
    examples = page.get_by_role("group", name="Examples").get_by_role("button")
    assert examples.count() >= 3
    examples.nth(1).click()
    expect(results(page)).to_have_count(5)
    expect(page.locator("#notice")).to_contain_text("does not know: jeans")


def test_a_hostile_filename_is_shown_as_text(
    page: Page, service: QueryService, gallery: str
) -> None:
    names = ["<img src=x onerror=alert(1)>", "../../etc/passwd", "a\nb'\"&amp;#?.jpg"]
    rows = dict(zip(names, people(3).values(), strict=True))
    service.fill(gallery, rows, images=dict.fromkeys(names, jpeg()))
    alerts: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto(f"/?gallery={gallery}&q=a+man")
    expect(results(page)).to_have_count(3)
    assert sorted(results(page).locator(".name").all_text_contents()) == sorted(names)
    for image in results(page).get_by_role("img").all():
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") == 40
    results(page).filter(has_text="<img").get_by_role("img").click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(names[0])
    assert alerts == []


def test_an_image_that_is_not_kept_has_a_placeholder(
    page: Page, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(1))
    page.goto(f"/?gallery={gallery}&q=a+man")
    expect(results(page).locator(".missing")).to_have_count(1)


def test_an_empty_gallery_says_how_to_fill_it_and_fills(
    page: Page, service: QueryService, gallery: str
) -> None:
    page.goto(f"/?gallery={gallery}")
    expect(message(page)).to_contain_text(f"passerby push FOLDER --gallery {gallery}")
    search(page)
    expect(message(page)).to_contain_text("passerby push FOLDER")
    page.goto(f"/?gallery={gallery}")
    expect(message(page)).to_be_visible()
    filled(service, gallery)
    expect(message(page)).to_be_hidden()
    search(page)
    expect(results(page)).to_have_count(5)


def test_a_gallery_of_rejected_images_says_where_to_look(
    page: Page, service: QueryService, gallery: str
) -> None:
    with Redis.from_url(service.environment["REDIS_URL"]) as redis:
        redis.hset(DEAD_LETTER_COUNTS, gallery, 3)
    page.goto(f"/?gallery={gallery}")
    expect(message(page)).to_contain_text(f"passerby dead-letters --gallery {gallery}")


def test_no_results_offers_to_widen_the_filter(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}&q=a+man&camera=nowhere")
    expect(message(page)).to_contain_text("No match at this camera and time")
    page.get_by_role("button", name="Clear camera and time").click()
    expect(results(page)).to_have_count(5)


def test_values_of_the_address_that_no_field_takes_are_ignored(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}&q=a+man&n=1000000000&from=yesterday&camera=nowhere,")
    expect(message(page)).to_contain_text("No match at this camera and time")
    page.goto(f"/?gallery={gallery}&q=a+man&n=1000000000&from=yesterday&camera=,gate,")
    expect(results(page)).to_have_count(5)


def test_a_caption_without_a_known_word_is_explained(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}&q=zzyzx")
    expect(message(page)).to_contain_text("known")


def test_an_unreachable_service_says_what_to_do_and_can_be_retried(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery)
    page.goto(f"/?gallery={gallery}")
    page.route("**/v1/search", lambda route: route.abort())
    search(page)
    expect(message(page)).to_contain_text("cannot be reached")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    expect(results(page)).to_have_count(5)
    expect(message(page)).to_be_hidden()


def test_a_next_page_that_failed_can_be_retried(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery, 15)
    page.goto(f"/?gallery={gallery}&q=a+man")
    expect(results(page)).to_have_count(12)
    page.route("**/v1/search", lambda route: route.abort())
    page.get_by_role("button", name="Show more").click()
    expect(message(page)).to_contain_text("cannot be reached")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    expect(results(page)).to_have_count(15)
    expect(message(page)).to_be_hidden()


def test_the_page_fits_a_phone_without_scrolling_sideways(
    page: Page, service: QueryService, gallery: str
) -> None:
    filled(service, gallery)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/?gallery={gallery}&q=a+man")
    expect(results(page)).to_have_count(5)

    def fits() -> bool:
        width: int = page.evaluate("document.documentElement.scrollWidth")
        return width <= 360

    assert fits()
    results(page).first.get_by_role("img").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("button", name="Close")).to_be_in_viewport()
    assert fits()
