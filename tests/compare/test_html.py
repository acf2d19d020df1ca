from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from clipvil.compare.html import Html, el, join, text


def test_text_is_escaped_and_markup_is_not() -> None:
    assert el("p", "<b>&\"'", el("i", "x")) == "<p>&lt;b&gt;&amp;&quot;&#x27;<i>x</i></p>"


def test_attributes_are_escaped_renamed_and_left_out() -> None:
    made = el("td", class_='a"b', data_label="<x>", title=None, hidden=False, colspan=2, checked=True, x1=1.0, y1=2.345)
    assert made == '<td class="a&quot;b" data-label="&lt;x&gt;" colspan="2" checked x1="1" y1="2.3"></td>'


def test_lists_are_flattened_and_none_is_nothing() -> None:
    assert join("a", None, ["<", ("b", None)], Html("<br>")) == "a&lt;b<br>"


def test_void_elements_are_not_closed() -> None:
    assert el("img", src="x") == '<img src="x">'


@given(st.text())
def test_any_text_comes_back_as_text(value: str) -> None:
    """What a browser reads back is the text itself, and no element but ours."""
    heard: list[str] = []
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            heard.append(data)

        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

    reader = Reader()
    reader.feed(el("p", value) + el("p", text(value)))
    reader.close()
    assert "".join(heard) == value * 2 and tags == ["p", "p"]
