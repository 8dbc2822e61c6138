"""What a person at the page does, in a real browser, with the trained network behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from deploy.local.stack import Stack
from passerby import Client
from tests.support.stack import People

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium"
)


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(base_url=stack.page)
        browser.close()


def test_a_person_is_described_found_and_opened(
    page: Page, people: People, people_gallery: str, client: Client
) -> None:
    caption = people.records[0]["captions"][0]
    expected = [hit.filename for hit in client.search(caption, gallery=people_gallery)]
    page.goto(f"/?gallery={people_gallery}")
    page.get_by_role("searchbox").fill(caption)
    page.keyboard.press("Enter")
    people_shown = page.get_by_role("list", name="Results").get_by_role("listitem")
    expect(people_shown).to_have_count(len(expected))
    for shown, filename in zip(people_shown.all(), expected, strict=True):
        expect(shown).to_contain_text(filename)
    thumbnail = people_shown.first.get_by_role("img")
    expect(thumbnail).to_have_js_property("complete", True)
    assert thumbnail.evaluate("image => image.naturalWidth") > 0
    thumbnail.click()
    opened = page.get_by_role("dialog").get_by_role("img")
    expect(opened).to_be_visible()
    assert opened.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
