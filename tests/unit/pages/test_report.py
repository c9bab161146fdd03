"""The HTML report, read back: what it holds, that it needs nothing from elsewhere, and that text stays text."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.charts.comparisons import ablation_bars
from harness.charts.figure import Figure
from harness.pages.html import TONES, html_report
from harness.pages.model import Link, Linked, Page, Role, Tab, Table
from harness.seed_statistics import Estimate
from tests.helpers.html import Element, Reader

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">{}</svg>'


def read(*pages: Page) -> Element:
    reader = Reader()
    reader.feed(html_report(pages))
    assert reader.at is reader.root
    return reader.root


def page(*blocks: str | Table | Figure, path: str = "leaderboards/page", synthetic: bool = False) -> Page:
    return Page(path, "A page", blocks, synthetic)


def column(values: list[Any], role: Role = "fact") -> tuple[Element, list[Element]]:
    """Return the heading and the cells of a column that follows one of names."""
    rows = [{"method": f"m{number}", "cell": value} for number, value in enumerate(values)]
    body = read(page(Table("t", "caption", rows, {"cell": role})))
    return body.all("th", scope="col")[1], [row.all()[1] for row in body.one("tbody").all("tr")]


def cell(value: Any, role: Role = "fact") -> Element:
    return column([value], role)[1][0]


def sample() -> list[Page]:
    rows: list[dict[str, object]] = [
        {"method": "[A](../audit.md)", "published avg": "42.6†", "avg": Estimate(31.0, 2.5, 3), "verdict": "below"},
        {"method": "B", "published avg": "-", "avg": "not run", "verdict": "not run: no features"},
    ]
    roles: dict[str, Role] = {"published avg": "published", "avg": "measured", "verdict": "verdict"}
    bars = ablation_bars([("x", Estimate(1.0))], "base", name="bars", caption="Bars", synthetic=True)
    return [
        page("See [the audit](../audit.md#two-words) and [code](../x.py).", Table("real", "`anet`, real", rows, roles)),
        page(Table(None, "No file", rows), Table(None, "No file either", rows), path="nameless"),
        Page("audit", "Audit", ["## Two words\n\n- item", "## Two words"]),
        Page("leaderboards/synthetic", "Made up", [Table("made", "made up", [{"a": 1}]), bars], synthetic=True),
    ]


def test_the_same_pages_give_the_same_bytes() -> None:
    assert html_report(sample()) == html_report(sample())


def test_it_needs_nothing_from_elsewhere_and_its_policy_allows_only_its_own_style_and_script() -> None:
    body = read(*sample())
    assert not body.all("link") + body.all("img") + body.all("iframe")
    assert not [element for element in body.all() if {"src", "style"} & element.attributes.keys()]
    assert all(element.attributes.get("href", "#").startswith("#") for element in body.all())
    style, script = body.one("style").text, body.one("script").text
    assert not re.search(r"@import|url\(|https?:", style + script)
    policy = body.all("meta")[1].attributes["content"]
    own = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{own[0]}'; script-src 'sha256-{own[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_every_reference_leads_somewhere_and_no_name_is_used_twice() -> None:
    elements = read(*sample()).all()
    names = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(set(names)) == len(names)
    links = {element.attributes["href"][1:] for element in elements if "href" in element.attributes}
    labels = {element.attributes["aria-labelledby"] for element in elements if "aria-labelledby" in element.attributes}
    clips = set(re.findall(r"url\(#([^)]*)\)", " ".join(str(element.attributes) for element in elements)))
    assert clips
    assert links | labels | clips <= set(names)


def test_navigation_lists_real_and_synthetic_pages_apart() -> None:
    navigation = read(*sample()).one("nav")
    assert [heading.text for heading in navigation.all("h2")] == ["Real data", "Synthetic data"]
    real, synthetic = ([link.attributes["href"] for link in part.all("a")] for part in navigation.all("ul"))
    assert real == ["#leaderboards/page", "#nameless", "#audit"]
    assert synthetic == ["#leaderboards/synthetic"]
    # one page needs none
    assert not read(page()).all("nav")


def test_parts_are_tabs_of_those_pages_that_say_so() -> None:
    parts: list[tuple[str, Tab]] = [("b", "Methods"), ("a", "Results"), ("c", "Methods")]
    pages = [Page(name, name, ["text"], tab=tab) for name, tab in parts]
    body = read(*pages)
    tabs = body.one("ul", **{"class": "tabs"}).all("a")
    assert [tab.text for tab in tabs] == ["Results", "Methods"]
    panels = body.all("div", **{"class": "panel"})
    assert [tab.attributes["href"][1:] for tab in tabs] == [panel.attributes["id"] for panel in panels]
    assert [[section.attributes["id"] for section in panel.all("section")] for panel in panels] == [["a"], ["b", "c"]]


def test_shaded_rows_and_columns_that_a_narrow_screen_leaves_out_are_marked() -> None:
    rows: list[dict[str, Any]] = [{"rank": 1, "method": "A", "0.5": 2.0}, {"rank": None, "method": "B", "0.5": 1.0}]
    body = read(page(Table("t", "caption", rows, shaded=frozenset({1}), narrow=("rank", "method"))))
    assert [row.attributes.get("class", "") for row in body.one("tbody").all("tr")] == ["", "shaded"]
    wide = [heading.text for heading in body.all("th", scope="col") if "wide" in heading.attributes["class"].split()]
    assert wide == ["0.5"]


def test_a_cell_with_links_shows_them_and_its_words_may_have_brackets() -> None:
    linked = Linked((Link("[A] of B", "https://a.org"), " ", Link("run", "../../runs/x/page.html")))
    part = cell(linked)
    assert part.text == "[A] of B run"
    assert [link.attributes["href"] for link in part.all("a")] == ["https://a.org", "../runs/x/page.html"]
    assert str(linked) == "[A] of B run"


def test_synthetic_pages_have_the_banner_and_a_mark_at_every_table_and_figure() -> None:
    real, _, _, synthetic = read(*sample()).all("section")
    assert "generated features" in synthetic.one("div", role="note").text
    assert len(synthetic.all("figure")) == 2
    assert all(figure.one("span", **{"class": "mark"}).text == "synthetic" for figure in synthetic.all("figure"))
    assert synthetic.one("svg").attributes["aria-label"] == "Synthetic data: Bars"
    assert not real.all("span", **{"class": "mark"})
    assert not real.all("div", role="note")


def test_an_estimate_sorts_by_its_mean_and_shows_its_interval_apart() -> None:
    _, (whole, alone, negative) = column(
        [Estimate(31.04, 12.5, 3), Estimate(9.26), Estimate(-2.2, 1.2, 6, signed=True)], "measured"
    )
    assert whole.text == "31.0 ± 12.5"
    assert whole.one("span", **{"class": "spread"}).text == " ± 12.5"
    assert float(whole.attributes["data-value"]) == 31.04
    assert alone.text == "9.3"
    assert not alone.all("span")
    assert negative.text == "−2.2 ± 1.2"
    assert float(negative.attributes["data-value"]) == -2.2
    # what is added to each makes the means end at one place
    assert {len(part.text) - len(part.text.split(" ")[0]) + len(part.attributes.get("data-pad", ""))
            for part in (whole, alone, negative)} == {len(" ± 12.5")}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "role", "numbers"),
    [
        ([1, 2.5, None], "fact", [1, 2.5, None]),
        (["68.9", "42.6†", "-", "", "+1.5", "-0.3", "−0.4"], "published", [68.9, 42.6, None, None, 1.5, -0.3, -0.4]),
        (["1,234", "**2.5**", "1e-4", "3 %"], "fact", [1234, 2.5, 1e-4, 3]),
        ([Estimate(1.0), "not run"], "measured", [1, None]),
        (["0.031", "needs 6 seeds"], "fact", [0.031, None]),
        (["not run", "not run"], "measured", None),
        (["0, 1, 2", "0"], "fact", None),
        (["0.1", "two", "three"], "fact", None),
        (["I3D", "UNT"], "fact", None),
        ([True, False], "fact", None),
        (["1", "2"], "verdict", None),
        ([math.nan, 1.0], "fact", [None, 1]),
    ],
)
def test_which_columns_sort_as_numbers(values: list[Any], role: Role, numbers: list[float | None] | None) -> None:
    heading, cells = column(values, role)
    assert ("data-numbers" in heading.attributes) == (numbers is not None)
    found = [float(part.attributes["data-value"]) if "data-value" in part.attributes else None for part in cells]
    assert found == (numbers or [None] * len(values))


def test_the_first_column_that_names_every_row_heads_them() -> None:
    names = {"A": "Weak", "B": "Weak", "C": "Full"}
    rows = [{"supervision": kind, "method": name, "published avg": "1.0"} for name, kind in names.items()]
    body = read(page(Table("t", "caption", rows, {"published avg": "published"})))
    assert [part.text for part in body.all("th", scope="row")] == ["A", "B", "C"]
    assert [part.text for part in body.all("th", **{"class": "head"})] == ["method", "A", "B", "C"]
    assert [part.attributes["colspan"] for part in body.one("tr", **{"class": "groups"}).all()] == ["1", "1", "1"]
    # blanks name nothing
    assert not read(page(Table("t", "caption", [{"GKS": "x"}, {"GKS": ""}]))).all("th", scope="row")


def test_roles_head_their_columns() -> None:
    rows = [{"method": "A", "feature": "I3D", "published 0.1": "1.0", "published avg": "2.0", "avg": Estimate(3.0)}]
    roles: dict[str, Role] = {"published 0.1": "published", "published avg": "published", "avg": "measured"}
    body = read(page(Table("t", "caption", rows, roles)))
    groups = [(part.text, part.attributes["colspan"]) for part in body.one("tr", **{"class": "groups"}).all()]
    assert groups == [("", "1"), ("", "1"), ("published", "2"), ("measured", "1")]
    headings = body.all("th", scope="col")
    assert [part.text for part in headings] == ["method", "feature", "published 0.1", "published avg", "avg"]
    assert headings[2].one("span", **{"class": "unseen"}).text == "published "
    assert [part.tag for part in body.one("tbody").one("tr").all()] == ["th", "td", "td", "td", "td"]
    assert not read(page(Table("t", "caption", [{"a": 1}]))).all("tr", **{"class": "groups"})


@pytest.mark.parametrize(
    ("label", "verdict", "reason", "tone"),
    [
        ("reproduced", "reproduced", "", "good"),
        ("reversed", "reversed", "", "bad"),
        ("not comparable: other features", "not comparable", "other features", "open"),
        ("too few seeds (3)", "too few seeds", "(3)", "open"),
        ("<b>new</b>", "<b>new</b>", "", "open"),
    ],
)
def test_a_verdict_is_a_word_in_a_chip_with_its_reason_beside(label: str, verdict: str, reason: str, tone: str) -> None:
    part = cell(label, "verdict")
    chip = part.one("span", **{"class": "chip"})
    assert chip.text == verdict
    assert chip.attributes["class"] == f"chip {tone}"
    assert [why.text for why in part.all("span", **{"class": "why"})] == ([reason] if reason else [])


def test_every_tone_is_styled() -> None:
    style = read(page()).one("style").text
    assert all(f".chip.{tone} " in style for tone in {*TONES.values(), "open"})


@pytest.mark.parametrize(
    ("text", "href"),
    [
        ("[x](../audit.md)", "#audit"),
        ("[x](../audit.md#two-words)", "#audit:two-words"),
        ("[x](page.md)", "#leaderboards/page"),
        ("[x](#two-words)", "#leaderboards/page:two-words"),
        ("[x](https://example.org/a)", "https://example.org/a"),
        ("[x](../robustness.md)", None),
        ("[x](../../etc/passwd)", None),
        ("[x](ftp://example.org)", None),
        ("[x](//example.org/a.js)", None),
    ],
)
def test_links_lead_to_sections_or_out_or_are_text(text: str, href: str | None) -> None:
    paragraph = read(page(text), Page("audit", "Audit", [])).all("section")[0].one("p")
    assert paragraph.text == "x"
    assert [link.attributes["href"] for link in paragraph.all("a")] == ([href] if href else [])


def test_markdown_headings_stand_below_the_pages_own_with_githubs_anchors() -> None:
    section = read(page("# One, *two*!", "## Table IV: x", "### Deep", "###### Deepest", "## Table IV: x")).one(
        "section"
    )
    found = [(part.tag, part.attributes["id"].partition(":")[2]) for part in section.all() if part.tag[1:].isdigit()]
    assert found[1:] == [
        ("h3", "one-two"), ("h3", "table-iv-x"), ("h4", "deep"), ("h6", "deepest"), ("h3", "table-iv-x-1"),
    ]  # fmt: skip


def test_html_in_text_is_shown_and_pictures_are_their_words() -> None:
    wild = "<script>alert(1)</script> <img src=x onerror=y> ![words](http://example.org/a.png) [a](javascript:b)"
    body = read(
        Page(
            "p",
            wild,
            [wild, Table("t", wild, [{wild: wild, "v": wild}], {"v": "verdict"}), Figure("f", wild, SVG.format(""))],
        )
    )
    assert len(body.all("script")) == 1
    assert not body.all("img")
    assert not body.all("a", rel="noreferrer")
    assert "words [a](javascript:b)" in body.one("section").one("p").text
    assert body.one("section").text.count("<script>alert(1)</script>") == 6
    assert not [element for element in body.all() if "onerror" in element.attributes]


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4), role=st.sampled_from(["fact", "verdict"])
)
def test_any_text_keeps_to_its_cell(rows: list[tuple[str, str]], role: Role) -> None:
    body = read(page(Table("t", "caption", [{"a": a, "b": b} for a, b in rows], {"b": role})))
    found = body.one("tbody").all("tr")
    assert [len([part for part in row.content if isinstance(part, Element)]) for row in found] == [2] * len(rows)


def test_a_markdown_table_scrolls_and_keeps_its_alignment_without_a_style() -> None:
    section = read(page("| a | b |\n|---|--:|\n| 1 | 2 |")).one("section")
    assert section.one("div", **{"class": "scroll"}).one("table")
    assert [part.attributes.get("class") for part in section.all("td")] == [None, "number"]


def test_a_caption_that_repeats_the_heading_above_is_not_seen_twice() -> None:
    rows = [{"a": 1}]
    section = read(
        page("## Same", Table("t", "Same", rows), Table("u", "Same", rows), "text", Table("v", "text?", rows))
    )
    spans = [part.all("span")[0].attributes for part in section.all("figcaption")]
    assert spans == [{"class": "unseen"}, {}, {}]


def test_figures_with_equal_identifiers_do_not_meet_and_styles_become_attributes() -> None:
    svg = SVG.format(
        '<metadata>m</metadata><style>text{fill:red}</style><defs><path id="a"/></defs>'
        '<use xlink:href="#a" style="fill: #123456; stroke:none" clip-path="url(#a)"/><text>words</text>'
    )
    section = read(page(Figure("one", "First", svg), Figure("two", "Second", svg))).one("section")
    for name, drawing in zip(("one", "two"), section.all("svg"), strict=True):
        assert drawing.one("path").attributes["id"] == f"{name}:a"
        expected = {"href": f"#{name}:a", "fill": "#123456", "stroke": "none", "clip-path": f"url(#{name}:a)"}
        assert drawing.one("use").attributes == expected
        assert drawing.text == "words"
        assert drawing.attributes["role"] == "img"
    assert [drawing.attributes["aria-label"] for drawing in section.all("svg")] == ["First", "Second"]


def test_a_table_without_rows_says_so() -> None:
    figure = read(page(Table("t", "Nothing yet", []))).one("figure")
    assert not figure.all("table")
    assert figure.one("p").text == "No rows."


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([page(), page()], "the same path: leaderboards/page"),
        ([page(Figure("broken", "c", "<svg"))], "figure 'broken' is no SVG"),
        ([page(Figure("html", "c", "<html/>"))], "figure 'html' is no SVG: its root is <html>"),
    ],
)
def test_bad_pages_are_refused_by_name(pages: list[Page], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        html_report(pages)
