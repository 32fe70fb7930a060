"""The page of an evaluation: whatever a model writes stays text."""

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.page import WITHHELD, samples_json, write_page
from mifo_ext.eval.shown import Shown
from mifo_ext.eval.table_text import visible_block
from mifo_ext.report_tables import Report

PNG = b"\x89PNG\r\n\x1a\nnot a whole picture"


EVIL = (
    "</script><img src=x onerror=alert(1)><!-- <script>alert(2)</script> ]]> {{ 7*7 }} {% raw %} "
    "\u202egnp.exe\u2028\u2029 \ud800 \x00 \x1b[31m & ' \" ` </pre></style></title> é 模"
)


class Page(HTMLParser):
    """Every element, its attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last = self.elements[-1] if self.elements else ("", {})
        name = f"{last[0]}#{last[1].get('type', '')}" if last[0] == "script" else last[0]
        self.texts.append((name, data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def text_of(self, name: str) -> str:
        return "".join(text for element, text in self.texts if element == name)


def shown(text: str = "an answer", **changes: Any) -> Shown:
    whole = Shown(
        run=text,
        benchmark=text,
        problem=text,
        sample=0,
        question=text,
        gold=text,
        response=text,
        verdict="wrong",
        reason=text,
        extracted=text,
        tokens=7,
        finish="stop",
    )
    return whole._replace(**changes)


def written(folder: Path, text: str, **changes: Any) -> str:
    picture = folder / "accuracy-picture.png"
    picture.write_bytes(PNG)
    page = folder / "page.html"
    inputs: dict[str, Any] = {
        "title": text,
        "tables": [Report(text, (text, f">{text}"), [[text, text]], remark=text)],
        "pictures": [picture],
        "samples": [shown(text)],
        "samples_remark": text,
        "notes": [text],
        "provenance": {text: {text: [text]}, "version": text},
    }
    write_page(page, **{**inputs, **changes})
    return page.read_text(encoding="utf-8")


def data_of(page: Page) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = json.loads(page.text_of("script#application/json"))["samples"]
    return samples


def test_hostile_text_makes_no_element_and_no_attribute(tmp_path: Path) -> None:
    harmless, hostile = Page(written(tmp_path, "harmless")), Page(written(tmp_path, EVIL))

    def shape(page: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in page.elements]

    assert shape(hostile) == shape(harmless)
    assert hostile.comments == []
    values = [value for _, attributes in hostile.elements for value in attributes.values() if value]
    assert not any("onerror" in value for value in values)


def test_the_samples_come_back_from_the_page(tmp_path: Path) -> None:
    page = Page(written(tmp_path, EVIL))

    (sample,) = data_of(page)

    assert sample["response"] == visible_block(EVIL)
    assert "⟨U+D800⟩ ␀ ␛[31m" in sample["response"]
    assert "⟨U+202E⟩gnp.exe" in sample["response"]
    assert sample["tokens"] == 7


@given(st.text(st.characters(), max_size=40))
def test_any_text_survives_the_json_block_and_cannot_end_it(text: str) -> None:
    block = samples_json([shown(text)])

    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block)["samples"][0]["question"] == visible_block(text)
    assert block.encode().decode() == block


def test_the_policy_allows_this_script_and_this_style_only(tmp_path: Path) -> None:
    text = written(tmp_path, EVIL)
    (policy,) = [
        attributes["content"]
        for tag, attributes in Page(text).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]

    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)

    def digest(part: str) -> str:
        return base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()

    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    assert "<!--" not in script


def test_the_page_asks_nothing_of_any_network(tmp_path: Path) -> None:
    page = Page(written(tmp_path, "harmless"))

    for _, attributes in page.elements:
        assert "style" not in attributes
        for name in ("src", "href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("data:image/", "#"))
    assert "url(" not in page.text_of("style")
    assert "@import" not in page.text_of("style")
    script = page.text_of("script#")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_every_cell_note_and_version_is_on_the_page(tmp_path: Path) -> None:
    table = Report("Title", ("name", ">n"), [["a<b", "1"], ["c", "2"]], remark="A remark.")

    text = written(tmp_path, "x", tables=[table], notes=["A note."], provenance={"torch": "2.8"})

    page = Page(text)
    assert page.text_of("td").split() == ["1", "2"]
    assert [t for tag, t in page.texts if tag == "th" and t.strip()] == ["name", "n", "a<b", "c"]
    assert "Title" in page.text_of("h2")
    assert "A remark." in page.text_of("p")
    assert "A note." in page.text_of("li")
    assert "torch" in page.text_of("dt")
    assert "2.8" in page.text_of("pre")


def test_the_tables_are_tables_and_the_filters_have_labels(tmp_path: Path) -> None:
    page = Page(written(tmp_path, "x"))

    scopes = Counter(attributes["scope"] for tag, attributes in page.elements if tag == "th")
    images = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    labels = sum(tag == "label" for tag, _ in page.elements)
    filters = sum(tag in ("select", "input") for tag, _ in page.elements)

    assert scopes == {"col": 2, "row": 1}
    assert images == ["accuracy picture: its figures are in the tables"]
    assert labels == filters == 5


def test_a_private_benchmark_shows_verdicts_and_lengths_only(tmp_path: Path) -> None:
    secret = shown("SECRET", run="r", benchmark="gpqa", problem="1")
    public = shown("open", benchmark="math500")

    text = written(tmp_path, "x", samples=[secret, public], private=frozenset({"gpqa", "other"}))

    assert "SECRET" not in text
    withheld, whole = data_of(Page(text))
    assert withheld == {
        **{"run": "r", "benchmark": "gpqa", "problem": "1", "sample": 0, "verdict": "wrong"},
        **{"tokens": 7, "finish": "stop"},
        **dict.fromkeys(("question", "gold", "response", "reason", "extracted"), WITHHELD),
    }
    assert whole["response"] == "open"
    assert "gpqa: this benchmark asks not to publish its questions" in text
    assert "other: this benchmark" not in text


def test_a_page_without_samples_has_no_script(tmp_path: Path) -> None:
    page = Page(written(tmp_path, "x", samples=[], tables=[]))

    assert not any(tag == "script" for tag, _ in page.elements)
    assert sum(tag == "img" for tag, _ in page.elements) == 1


def test_the_old_page_stays_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    written(tmp_path, "old")

    with pytest.raises(ValueError, match=r"`pictures` must be \.png or \.svg files"):
        written(tmp_path, "new", pictures=[tmp_path / "picture.gif"])

    assert "old" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["accuracy-picture.png", "page.html"]
