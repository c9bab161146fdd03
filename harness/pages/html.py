"""Writer of all pages as one self-contained HTML file, without network, fonts or scripts from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from harness.charts.figure import Figure
from harness.pages.formats import shown
from harness.pages.model import TABS, Linked, Page, Role, Table
from harness.seed_statistics import Estimate

# look of a verdict's chip; all others are open, with a dashed edge
TONES = {
    "reproduced": "good", "consistent": "good", "holds": "good", "below": "bad", "reversed": "bad", "above": "note",
}  # fmt: skip
GROUPS = ("published", "measured", "difference")
DENSE = 14  # columns: an interval then stands below its mean
NUMBER = re.compile(r"([+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)\s*[%†‡]*", re.IGNORECASE)
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


HEADING = "Weakly supervised temporal action localization: leaderboards"


def html_report(pages: Sequence[Page], title: str = "", heading: str = HEADING) -> str:
    """Write all pages as one HTML file: the same pages give the same bytes.

    A link to another page (`../audit.md`, `table_I.md#notes`) leads to its section. A link to any other file becomes
    plain text, since the report is read without the files beside it. HTML in text is shown, not interpreted.

    Args:
        pages: in the order of their sections; pages of synthetic data are marked and listed apart.
        title: of a file without a key to numbers, in place of `heading`.
        heading: of a file with such a key.

    Raises:
        ValueError: two pages have the same path, or a figure is no SVG.
    """
    paths = [page.path for page in pages]
    if len(set(paths)) < len(paths):
        raise ValueError(f"two pages have the same path: {', '.join(sorted({p for p in paths if paths.count(p) > 1}))}")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["source"] = _source
    template = resources.files("harness").joinpath("shipped", "templates/report.html").read_text(encoding="utf-8")
    written = [_page(page, paths) for page in pages]
    tabs = {tab: [page for page in written if page["tab"] == tab] for tab in TABS}
    return (
        environment.from_string(template).render(title=title, heading=heading, pages=written, tabs=tabs).lstrip() + "\n"
    )


def _source(text: str) -> str:
    """Return the name of an inline style or script in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _page(page: Page, paths: Sequence[str]) -> dict[str, Any]:
    text = _Text(page.path, paths)
    blocks: list[dict[str, Any]] = []
    for number, (before, block) in enumerate(zip(("", *page.blocks), page.blocks, strict=False)):
        if isinstance(block, Table):
            # not shown again below a heading with the same words
            titled = isinstance(before, str) and before.rpartition("\n")[2].lstrip("# ") == block.caption
            key = f"table:{block.name or f'{page.path}:{number}'}"
            blocks.append(_table(block, text) | {"id": key, "titled": titled})
        elif isinstance(block, Figure):
            silent = page.synthetic and "synthetic" not in block.caption.lower()
            label = f"Synthetic data: {block.caption}" if silent else block.caption
            key, svg = f"figure:{block.name}", _svg(block, label)
            caption = text.inline(block.caption)
            blocks.append({"kind": "figure", "id": key, "caption": caption, "label": label, "svg": svg})
        else:
            blocks.append({"kind": "text", "html": text.whole(block)})
    banner = text.whole(page.banner) if page.synthetic else ""
    facts = {"id": page.path, "title": page.title, "tab": page.tab, "synthetic": page.synthetic}
    return facts | {"banner": banner, "blocks": blocks}


class _Text:
    """Converter of one page's Markdown to HTML."""

    def __init__(self, path: str, paths: Sequence[str]) -> None:
        self.path, self.paths = path, set(paths)
        self.headings: Counter[str] = Counter()
        self.markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    def whole(self, text: str) -> Markup:
        """Convert paragraphs, lists and headings (one level below the page's own)."""
        return self._render(self.markdown.parse(text))

    def inline(self, text: str) -> Markup:
        """Convert a cell or a caption."""
        return self._render(self.markdown.parseInline(text))

    def _render(self, tokens: list[Token]) -> Markup:
        for token, content in zip(tokens, [*tokens[1:], None], strict=True):
            self._inline(token.children or [])
            if token.type in ("heading_open", "heading_close"):
                token.tag = f"h{min(max(int(token.tag[1]), 2) + 1, 6)}"
            if token.type == "heading_open" and content:
                token.attrSet("id", f"{self.path}:{self._slug(content.content)}")
            # the policy allows no style attributes
            if token.attrs.pop("style", "") == "text-align:right":
                token.attrSet("class", "number")
        html: str = self.markdown.renderer.render(tokens, self.markdown.options, {})
        return Markup(html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>"))

    def _inline(self, tokens: Iterable[Token]) -> None:
        kept = False
        for token in tokens:
            if token.type == "link_open":
                target = self._target(str(token.attrs["href"]))
                kept = target is not None
                token.attrs = {"href": target} if target is not None else {}
                if target is not None and not target.startswith("#"):
                    token.attrSet("rel", "noreferrer")
            if token.type in ("link_open", "link_close"):
                token.tag = "a" if kept else "span"
            if token.type == "image":
                token.type, token.tag, token.attrs, token.children = "text", "", {}, None

    def _target(self, link: str) -> str | None:
        """Return the target of a link: an address, a section of the report, or None."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return link if parts.scheme in ("http", "https", "mailto") else None
        if parts.path.endswith("page.html"):  # of a run, relative to the entry page, whose folder the report's is above
            return link.removeprefix("../")
        path = self.path
        if parts.path:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), unquote(parts.path)))
            path = path.removesuffix(".md")
        if path not in self.paths:
            return None
        return f"#{path}" + (f":{parts.fragment}" if parts.fragment else "")

    def _slug(self, heading: str) -> str:
        """Return the anchor that GitHub would give a heading."""
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        self.headings[slug] += 1
        return slug if self.headings[slug] == 1 else f"{slug}-{self.headings[slug] - 1}"


def _table(table: Table, text: _Text) -> dict[str, Any]:
    columns: list[dict[str, Any]] = []
    cells, groups = [], []
    roles = {name: table.role(name) for name in table.columns}
    head = next((name for name in roles if roles[name] == "fact" and _names_rows(table.column(name))), None)
    frozen = head or next(iter(roles), None)
    before: Role | None = None
    # the head stays visible while the others scroll, so it belongs to no group
    for (role, _), members in itertools.groupby(roles, key=lambda name: (roles[name], name == frozen)):
        names = list(members)
        kinds = ["published"] * (role == "published") + ["head"] * (names == [frozen])
        starts = ["starts"] * (before not in (role, None))
        label = role if role in GROUPS and names != [role] else ""
        groups.append({"label": label, "span": len(names), "classes": " ".join(kinds + starts)})
        for name in names:
            values = table.column(name)
            numbers = _numeric(values, role)
            wide = ["wide"] * bool(table.narrow and name not in table.narrow)
            classes = " ".join(kinds + starts * (name == names[0]) + ["number"] * numbers + wide)
            # the heading above the group already says it
            prefix = f"{role} " if name.startswith(f"{role} ") else ""
            heading, tag = text.inline(name.removeprefix(prefix)), "th" if name == head else "td"
            columns.append({"heading": heading, "prefix": prefix, "tag": tag, "classes": classes, "numbers": numbers})
            cells.append(_cells(values, role, numbers, text))
        before = role
    return {
        "kind": "table",
        "caption": text.inline(table.caption),
        "groups": groups if any(group["label"] for group in groups) else [],
        "columns": columns,
        "rows": list(zip(*cells, strict=True)),
        "shaded": table.shaded,
        "narrow": bool(table.narrow),
        "dense": len(columns) >= DENSE,
    }


def _names_rows(values: Sequence[Any]) -> bool:
    """Test whether a column names its rows: no cell is empty and no two are equal."""
    words = [shown(value) for value in values]
    return all(words) and len(set(words)) == len(words)


def _cells(values: Sequence[Any], role: Role, numbers: bool, text: _Text) -> list[dict[str, Any]]:
    spreads = [value.spread if isinstance(value, Estimate) else "" for value in values]
    widest = max(spreads, key=len, default="")
    cells = []
    for value, spread in zip(values, spreads, strict=True):
        number = _number(value) if numbers else None
        # means are aligned, whatever follows them
        pad = widest[len(spread) :] if number is not None else ""
        html = _html(value, spread, role, number, numbers, text)
        cells.append({"html": html, "number": number, "pad": pad})
    return cells


def _html(value: Any, spread: str, role: Role, number: float | None, numbers: bool, text: _Text) -> Markup:
    if isinstance(value, Linked):
        return text.inline(value.markdown)
    label = shown(value)
    if not label:
        return Markup("")
    if role == "verdict":
        return _chip(label, text)
    if isinstance(value, Estimate):
        mean = escape(_minus(label.removesuffix(spread)))
        return mean + Markup('<span class="spread">{}</span>').format(spread) if spread else mean
    if number is not None:
        return escape(_minus(label))
    if numbers or role in GROUPS:
        return Markup('<span class="absent">{}</span>').format(text.inline(label))
    return text.inline(label)


def _chip(label: str, text: _Text) -> Markup:
    """Show a verdict as a chip, with its reason (after a colon or in brackets) beside it."""
    verdict, reason = re.fullmatch(r"([^:(]*)(.*)", label, re.DOTALL).groups()  # type: ignore[union-attr]
    chip = Markup('<span class="chip {}">{}</span>').format(TONES.get(verdict.strip(), "open"), verdict.strip())
    return chip + Markup(' <span class="why">{}</span>').format(text.inline(reason.lstrip(": "))) if reason else chip


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _number(value: Any) -> float | None:
    """Return the number that a cell is sorted by (the mean of an estimate), or None if it is no finite number."""
    if isinstance(value, Estimate):
        value = value.mean
    if isinstance(value, str):
        match = NUMBER.fullmatch(value.strip().strip("*"))
        value = float(match[1].replace(",", "").replace("−", "-")) if match else None
    if value is None or isinstance(value, bool | Linked):
        return None
    return float(value) if math.isfinite(value) else None


def _numeric(values: Sequence[Any], role: Role) -> bool:
    """Test whether a column is sorted as numbers: cells such as `not run` may be among them, lists of numbers not."""
    if role == "verdict":
        return False
    filled = [value for value in values if shown(value)]
    numbers = [_number(value) is not None for value in filled]
    words = all(number or not shown(value)[0].isdigit() for number, value in zip(numbers, filled, strict=True))
    return words and any(numbers) and (role in GROUPS or 2 * sum(numbers) >= len(numbers))


def _svg(figure: Figure, label: str) -> Markup:
    """Make the drawing an element of the page, whose styles and identifiers do not collide with another's."""
    try:
        root = ElementTree.fromstring(figure.svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"figure {figure.name!r} is no SVG: {error}") from error
    for parent in root.iter():
        parent.tag = parent.tag.rpartition("}")[2]
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style", "script", "title", "foreignObject"):
                parent.remove(child)
        parent.attrib.update(_declarations(parent.attrib.pop("style", "")))
        if XLINK_HREF in parent.attrib:
            parent.set("href", parent.attrib.pop(XLINK_HREF))
        for name, value in list(parent.attrib.items()):
            # a drawing has no links and no scripts and loads no files
            if name.lower().startswith("on") or (name == "href" and not value.startswith(("#", "data:image/png;"))):
                del parent.attrib[name]
            else:
                parent.set(name, _renamed(name, value, figure.name))
    if root.tag != "svg":
        raise ValueError(f"figure {figure.name!r} is no SVG: its root is <{root.tag}>")
    root.set("role", "img")
    root.set("aria-label", label)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _declarations(style: str) -> Mapping[str, str]:
    """Return a style attribute's declarations as presentation attributes, which the policy allows."""
    pairs = (part.partition(":") for part in style.split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _renamed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}:{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}:{value[1:]}"
    return re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}:\1)", value)
