"""Tests of the HTML report in a real browser: sorting, themes, filter, widths, contrast, no requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.charts.comparisons import Compared, ablation_bars, curves, dumbbell, intervals
from harness.pages.html import html_report
from harness.pages.model import TABS, Page, Role, Table
from harness.seed_statistics import Estimate

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2] / "results" / "report.html"
LONG = "Zhang & Zhao with everything on, pseudo labels weighted by exp(-D), no gradient through it, at T = 750"
WIDE = {f"0.{tenth}": Estimate(60.0 - 7 * tenth, 2.5, 3) for tenth in range(1, 8)}
MEANS = {f"{kind} {key}": value for kind in ("average", "median", "highest", "lowest") for key, value in WIDE.items()}
ROWS: list[dict[str, Any]] = [
    {"method": "method 10", "published avg": "42.6", "avg": Estimate(9.5, 1.0, 3), "verdict": "below"},
    {"method": "method 9", "published avg": "-", "avg": "not run", "verdict": "not run: no features"},
    {"method": "B", "published avg": "35.0†", "avg": Estimate(31.0, 12.5, 3), "verdict": "reproduced"},
    {"method": "A", "published avg": "42.6", "avg": Estimate(9.5), "verdict": "not comparable"},
    {"method": "C", "published avg": "7.1", "avg": Estimate(-2.2, 1.2, 6, signed=True), "verdict": "above"},
]
ROLES: dict[str, Role] = {"published avg": "published", "avg": "measured", "verdict": "verdict"}
METHODS = [row["method"] for row in ROWS]
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
# WCAG 2.2 contrast of each piece of text with what is painted below it
CONTRASTS = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !parent.getClientRects().length) continue;
    const style = getComputedStyle(parent);
    const [low, high] = [rgba(parent.closest("svg") ? style.fill : style.color), ground(parent)]
      .map(luminance).sort((a, b) => a - b);
    found.push([walker.currentNode.data.trim(), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""


def pages() -> list[Page]:
    words: dict[str, Any] = {"caption": "What it shows"}
    line = {0.1: Estimate(50.0, 3.0, 3), 0.5: Estimate(20.0, 2.0, 3)}
    figures = [
        dumbbell(
            [Compared(LONG, 42.0, Estimate(40.0, 1.0, 3), True), Compared("B", 3.0, "not run", False)],
            name="d",
            **words,
        ),
        intervals({LONG: [21.0, 24.0]}, name="i", **words),
        curves({LONG: line, "w" * 70: {0.1: Estimate(5.0), 0.5: None}}, name="c", **words),
        ablation_bars([(LONG, Estimate(-2.0, 1.0, 6, signed=True))], LONG, name="a", **words),
    ]
    made = intervals({"A": [1.0]}, name="m", synthetic=True, **words)
    wide = Table("wide", "`wide`", [{"method": LONG} | WIDE | MEANS])
    ranked = Table(
        "ranked",
        "Ranked",
        [
            {"rank": 1, "method": "first", "avg": Estimate(30.0, 1.0, 3), "0.5": 20.0, "schedule": "60 epochs"},
            {"rank": None, "method": "chance", "avg": Estimate(3.0, 1.0, 3), "0.5": 1.0, "schedule": "60 epochs"},
        ],
        shaded=frozenset({1}),
        narrow=("rank", "method", "avg"),
    )
    return [
        Page(
            "real",
            "Real",
            ["Text with `code` and [a link](made.md).", Table("t", "Sorted", ROWS, ROLES), wide, *figures],
        ),
        Page(
            "made", "Made up", [Table("one", "One", [{"a": 1}]), "## Two", Table("two", "Two", [{"a": 2}]), made], True
        ),
        Page("other", "Other", ["Words.", ranked, "[back](real.md)"], tab="Methods"),
    ]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html_report(pages()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1600, "height": 900}, color_scheme="light")
    yield opened
    opened.close()


@pytest.fixture
def tab(context: BrowserContext, address: str) -> Iterator[Tab]:
    """Open the report, and fail the test if it writes to the console or requests anything besides itself."""
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: complaints.append(request.url) if request.url != address else None)
    opened.goto(address)
    yield opened
    assert complaints == []


def heading(tab: Tab, name: str) -> Locator:
    return tab.locator("[id='table:t'] thead button", has_text=name).last


def methods(tab: Tab) -> list[str]:
    return tab.locator("[id='table:t'] tbody th").all_inner_texts()


def direction(tab: Tab, name: str) -> str | None:
    return heading(tab, name).locator("xpath=..").get_attribute("aria-sort")


def test_numbers_sort_by_value_best_first_then_worst_then_as_they_were(tab: Tab) -> None:
    assert methods(tab) == METHODS
    heading(tab, "avg").click()
    # by text, 9.5 would come before 31.0; equal ones keep their order; what was not run stays last
    assert methods(tab) == ["B", "method 10", "A", "C", "method 9"]
    assert direction(tab, "avg") == "descending"
    heading(tab, "avg").click()
    assert methods(tab) == ["C", "method 10", "A", "B", "method 9"]
    assert direction(tab, "avg") == "ascending"
    heading(tab, "avg").click()
    assert methods(tab) == METHODS
    assert direction(tab, "avg") is None


def test_text_sorts_as_people_count_and_one_column_at_a_time(tab: Tab) -> None:
    heading(tab, "avg").click()
    heading(tab, "method").click()
    assert methods(tab) == ["A", "B", "C", "method 9", "method 10"]
    assert (direction(tab, "method"), direction(tab, "avg")) == ("ascending", None)
    heading(tab, "method").click()
    assert methods(tab) == ["method 10", "method 9", "C", "B", "A"]
    heading(tab, "method").click()
    assert methods(tab) == METHODS


def test_published_values_with_a_dagger_sort_as_numbers(tab: Tab) -> None:
    tab.locator("[id='table:t'] thead th.published button").click()
    assert methods(tab) == ["method 10", "A", "B", "C", "method 9"]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_sorts(tab: Tab, key: str) -> None:
    heading(tab, "method").focus()
    tab.keyboard.press(key)
    assert methods(tab)[0] == "A"
    assert heading(tab, "method").evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    tab.keyboard.press("Tab")
    tab.keyboard.press(key)
    assert methods(tab)[0] == "method 10"
    assert tab.locator("[id='table:t'] th.published[aria-sort]").count() == 1


def test_the_first_tab_stop_leads_past_the_navigation(tab: Tab) -> None:
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "content"


def test_the_readers_scheme_is_followed_until_one_is_chosen_which_is_remembered(tab: Tab) -> None:
    light = tab.evaluate(BACKGROUND)
    tab.emulate_media(color_scheme="dark")
    dark = tab.evaluate(BACKGROUND)
    assert dark != light
    tab.get_by_label("Light").check(force=True)
    assert tab.evaluate(BACKGROUND) == light
    tab.reload()
    assert tab.evaluate(BACKGROUND) == light
    assert tab.get_by_label("Light").is_checked()
    tab.get_by_label("System").check(force=True)
    tab.reload()
    assert tab.evaluate(BACKGROUND) == dark
    tab.emulate_media(media="print")
    assert tab.evaluate(BACKGROUND) == light


def test_the_theme_changes_where_storage_is_denied(context: BrowserContext, tab: Tab) -> None:
    denied = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied'); } })"
    context.add_init_script(denied)
    tab.reload()
    light = tab.evaluate(BACKGROUND)
    tab.get_by_label("Dark").check(force=True)
    assert tab.evaluate(BACKGROUND) != light


def test_the_filter_leaves_rows_that_hold_the_words_and_hides_what_it_empties(tab: Tab) -> None:
    box = tab.get_by_label("Show only table rows that contain")
    box.fill("REPRODUCED")
    assert tab.locator("tbody tr:visible").count() == 1
    assert tab.locator("output").inner_text() == "1 row"
    assert not tab.locator("[id='table:wide']").is_visible()
    assert tab.locator("section:visible, figure:visible, h3:visible, p:visible").count() == 2
    assert parts(tab).evaluate_all("tabs => tabs.map(tab => tab.dataset.found)") == ["1", "0"]
    box.fill("chance")
    assert tab.locator(".nothing:visible").count() == 1
    assert tab.locator("section:visible").count() == 0
    parts(tab).last.click()
    assert tab.locator("tbody tr:visible").count() == 1
    parts(tab).first.click()
    box.fill("REPRODUCED")
    heading(tab, "avg").click()
    assert tab.locator("tbody tr:visible").count() == 1
    box.fill("")
    assert tab.locator("tbody tr:visible").count() == len(ROWS) + 3
    assert tab.locator("output").inner_text() == ""


def parts(tab: Tab) -> Locator:
    return tab.locator(".tabs a")


def test_a_tab_shows_its_pages_alone_and_links_open_the_tab_they_lead_to(tab: Tab) -> None:
    assert parts(tab).all_inner_texts() == ["Results", "Methods"]
    assert [section.get_attribute("id") for section in tab.locator("section:visible").all()] == ["real", "made"]
    parts(tab).last.click()
    assert [section.get_attribute("id") for section in tab.locator("section:visible").all()] == ["other"]
    assert parts(tab).evaluate_all("tabs => tabs.map(tab => tab.getAttribute('aria-current'))") == [None, "page"]
    tab.get_by_role("link", name="back").click()
    assert tab.locator("section[id='real']").is_visible()
    assert tab.evaluate("document.querySelector(':target').id") == "real"
    tab.go_back()
    assert tab.locator("section[id='other']").is_visible()
    tab.reload()
    assert tab.locator("section[id='other']").is_visible()
    tab.emulate_media(media="print")
    assert tab.locator("section:visible").count() == 3


def test_a_narrow_screen_keeps_rank_method_and_average(tab: Tab) -> None:
    parts(tab).last.click()
    shown = tab.locator("[id='table:ranked'] thead tr:last-child th:visible")
    assert shown.all_inner_texts() == ["rank", "method", "avg", "0.5", "schedule"]
    ground = "cell => getComputedStyle(cell).backgroundColor"
    first, chance = (tab.locator(f"[id='table:ranked'] tbody tr:nth-child({place}) th") for place in (1, 2))
    assert first.evaluate(ground) != chance.evaluate(ground)
    tab.set_viewport_size({"width": 500, "height": 900})
    assert shown.all_inner_texts() == ["rank", "method", "avg"]
    assert tab.evaluate("document.documentElement.scrollWidth") == 500
    assert tab.locator("[id='table:ranked'] .scroll").evaluate("box => box.scrollWidth <= box.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_projects_report_fits_a_screen_of_1400_pixels(context: BrowserContext, scheme: str) -> None:
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.set_viewport_size({"width": 1400, "height": 900})
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    tab.goto(PROJECT.as_uri())
    assert parts(tab).all_inner_texts() == list(TABS)
    for part in parts(tab).all():
        part.click()
        wide = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).map(box => box.closest('figure').id)"
        assert tab.locator(".scroll:visible").evaluate_all(wide) == []
        assert tab.evaluate("document.documentElement.scrollWidth") == 1400
        # what is written on the colours of a heat map has its contrast from the chart
        tab.evaluate("document.querySelectorAll('.drawing[id$=\"-classes\"] svg').forEach(svg => svg.remove())")
        assert [(text, ratio) for text, ratio in tab.evaluate(CONTRASTS) if ratio < 4.5] == []
    assert complaints == []
    tab.close()


@pytest.mark.parametrize("width", [320, 360, 800, 1600])
def test_only_tables_and_figures_scroll_sideways(tab: Tab, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    # not even by the part that the page would hide
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    inside = "box => box.getBoundingClientRect().right <= document.documentElement.clientWidth"
    assert all(box.evaluate(inside) for box in tab.locator(".scroll").all())
    wide = tab.locator("[id='table:wide'] .scroll")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
    wide.evaluate("box => { box.scrollLeft = 200; }")
    first = wide.locator("tbody th").bounding_box()
    box = wide.bounding_box()
    assert first
    assert box
    assert first["x"] == pytest.approx(box["x"], abs=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(tab: Tab, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    found = tab.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []


def test_no_word_of_a_figure_is_cut(tab: Tab) -> None:
    cut = """svg => {
      const whole = svg.getBoundingClientRect();
      return [...svg.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < whole.left || box.right > whole.right || box.top < whole.top || box.bottom > whole.bottom;
      }).map(text => text.textContent);
    }"""
    drawings = tab.locator("figure svg")
    assert drawings.count() == 5
    assert [drawing.evaluate(cut) for drawing in drawings.all()] == [[]] * 5


def test_synthetic_tables_and_figures_are_marked_where_the_reader_sees_it(tab: Tab) -> None:
    made = tab.locator("section[id='made']")
    assert made.locator("figure").count() == 3
    for figure in made.locator("figure").all():
        assert figure.locator(".mark").is_visible()
        assert figure.locator(".mark").inner_text() == "synthetic"
    assert made.get_by_role("note").is_visible()
    assert tab.locator("section[id='real'] .mark").count() == 0


def test_a_link_to_another_page_goes_to_its_section(tab: Tab) -> None:
    tab.get_by_role("link", name="a link").click()
    assert tab.evaluate("document.querySelector(':target').id") == "made"


def test_it_reads_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("[id='table:t'] tbody th").all_inner_texts() == METHODS
    assert not page.locator(".controls").is_visible()
    context.close()
