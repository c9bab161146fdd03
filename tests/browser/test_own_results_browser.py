"""One's own results in a real browser: from the report to the page of a run, read from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli.main import main
from harness.data.tiny import write_tiny
from harness.pages.site import publish
from harness.records.run_folder import FinishedRun
from tests.browser.test_report_browser import CONTRASTS
from tests.helpers.runs import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run of one's own data; the results are in the store of the runs."""
    folder = tmp_path_factory.mktemp("own")
    store = folder / "store"
    done = run(write_tiny(folder / "data"), store)
    assert main(["show", str(done)]) == 0
    publish([FinishedRun.open(done).record], store / "results")
    return store / "results" / "report.html"


@pytest.fixture(params=[(width, scheme) for width in (500, 1400) for scheme in ("light", "dark")], ids=str)
def tab(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """Open the report, and fail the test if a page writes to the console or needs anything but files."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda one: None if one.url.startswith("file:") else complaints.append(one.url))
    opened.goto(report.as_uri())
    yield opened
    assert complaints == []
    context.close()


def check(tab: Tab) -> None:
    """Nothing but tables and figures is wider than the screen, all text can be read."""
    width = tab.evaluate("document.documentElement.clientWidth")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    wide = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).map(box => box.closest('figure').id)"
    if width == 1400:
        assert [name for name in tab.locator(".scroll:visible").evaluate_all(wide) if "table" in name] == []
    tab.evaluate("document.querySelectorAll('.drawing[id$=\"-classes\"] svg').forEach(svg => svg.remove())")
    assert [(text, ratio) for text, ratio in tab.evaluate(CONTRASTS) if ratio < 4.5] == []


def test_ones_own_runs_come_first_and_lead_to_their_pages(tab: Tab) -> None:
    assert tab.locator("h1").inner_text() == "Your results"
    # the page has the file's heading, so it does not repeat it
    assert tab.locator("section:visible figure").first.get_attribute("id") == "table:overview"
    check(tab)
    link = tab.locator("[id='table:runs'] tbody a")
    name = link.inner_text()
    link.click()
    tab.wait_for_load_state()
    assert tab.url.endswith(f"/runs/{name}/page.html")
    assert "ACM-Net, seed 0" in tab.locator("h1").inner_text()
    for part in ("Typical videos", "Classes", "Videos", "Kinds of errors", "Training"):
        assert tab.get_by_role("heading", name=part, exact=True).is_visible()
    assert tab.locator("svg").count() >= 8
    assert tab.locator(".tabs").count() == 0
    check(tab)
    # every column of every table can be sorted, and the filter finds a video
    for button in tab.locator("thead button:visible").all():
        button.click()
    tab.get_by_label("Show only table rows that contain").fill("test_000")
    assert tab.locator("tbody tr:visible").count() >= 1
    tab.get_by_label("Show only table rows that contain").fill("")
    tab.go_back()
    assert tab.locator("h1").inner_text() == "Your results"
