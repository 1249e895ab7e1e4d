"""The pages in a browser, offline: what is clicked, typed and pointed at shows the numbers that were measured, and nothing goes wrong on the way."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retain.inspection import Reading, ask, compare, comparison_page, memory_page, read, state_in, text_page
from retain.inspection.reading import LayerReading
from retain.layers import NeuralMemory
from retain.memory import presets
from retain.storage import save_state
from retain.text import HashingEmbedder, MemoryConfig, TextMemory
from tests.unit.inspection.pages import arrays_in, bytes_of, data_in, model_of, text_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install playwright; its browsers are not wanted")
LENGTH, TRACED = 600, [100, 350, 599]
LEVELS = 40
HOSTILE = '</script><script>hacked=1</script><img src=x onerror="hacked=1"><!-- &amp; {{data}} \u2028 '

Show = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens a page without a network; in the end nothing was asked of one, and nothing was complained of."""
    told, asked, contexts = [], [], []

    def opened(page: str, width: int = 1280, height: int = 800, scheme: str = "light") -> Any:
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(page, encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("body[data-ready]")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert told == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)


@pytest.fixture(scope="module")
def read_page() -> str:
    found = read(model_of(["lmm", "mag"]), bytes_of(LENGTH), traced=TRACED)
    return text_page(found, list(text_of(LENGTH)), "pages.py", ["read by a model"])


def _value(tab: Any, name: str) -> float:
    return float(tab.text_content(f'[data-value="{name}"]').replace("−", "-"))


def _click(tab: Any, place: int) -> None:
    """With the mouse, on the middle of a token."""
    tab.evaluate("(place) => spans[place].scrollIntoView({block: 'center'})", place)
    box = tab.evaluate("(place) => { const b = spans[place].getClientRects()[0]; return [b.x + b.width / 2, b.y + b.height / 2]; }", place)
    tab.mouse.click(*box)


def test_a_click_shows_the_tokens_numbers(show: Show, read_page: str) -> None:
    tab, arrays = show(read_page), arrays_in(read_page)
    for place in (37, 301):
        _click(tab, place)
        for name in ("surprise", "lr", "momentum", "forgetting", "answer"):
            rows = arrays[f"0.{name}"].reshape(2, LENGTH)[:, place]
            for row, expected in enumerate((rows.mean(), *rows)):
                assert _value(tab, f"{name}.{row}") == pytest.approx(float(expected), rel=6e-3)
        assert _value(tab, "bits.0") == pytest.approx(float(arrays["bits"][place]), rel=1e-3)
        norms = arrays["0.norm"].reshape(2, -1)
        assert _value(tab, "norm.1") == pytest.approx(float(norms[0, math.ceil((place + 1) / 32)]), rel=1e-3)
        assert tab.text_content(".token span") == f"{place + 1} of {LENGTH}"
    tab.select_option("#layer", "1")
    assert _value(tab, "surprise.2") == pytest.approx(float(arrays["1.surprise"].reshape(2, LENGTH)[1, 301]), rel=6e-3)


def test_colours_follow_the_numbers(show: Show, read_page: str) -> None:
    tab = show(read_page)
    values = arrays_in(read_page)["0.surprise"].reshape(2, LENGTH)
    for head, row in (("0", values.mean(0)), ("2", values[1])):
        tab.select_option("#head", head)
        levels = np.array(tab.evaluate("spans.map((span) => Number(/ k(\\d+)/.exec(' ' + span.className)[1]))"))
        low, high = np.sort(row)[[int(LENGTH * 0.02), int(LENGTH * 0.995)]]
        assert np.abs(levels - np.clip((row - low) / (high - low), 0, 1) * (LEVELS - 1)).max() <= 0.51
    assert tab.evaluate("spans.map((span) => span.textContent).join('')") == text_of(LENGTH)


def test_keys_go_from_token_to_token_and_from_read_to_read(show: Show, read_page: str) -> None:
    tab, arrays = show(read_page), arrays_in(read_page)
    place = "state.place"
    for _ in range(4):
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "text"
    assert tab.evaluate(place) == TRACED[0]
    for key, expected in (("]", 350), ("]", 599), ("]", 599), ("[", 350), ("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1), ("End", 599)):
        tab.keyboard.press(key)
        assert tab.evaluate(place) == expected, key
    tab.keyboard.press("ArrowUp")
    above = tab.evaluate(place)
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate(place) > above
    assert "Surprise" in tab.text_content("#live")
    tab.keyboard.press("Home")
    tab.keyboard.press("]")
    places = arrays["0.places"].reshape(3, 3, -1)[0, 0]
    weights, totals = arrays["0.weights"].reshape(3, 3, -1)[0, 0], arrays["0.totals"].reshape(3, 3)
    assert sorted(tab.evaluate("marked.filter((s) => s.classList.contains('d')).map((s) => s.place)")) == sorted(places[places >= 0].tolist())
    first = tab.locator("#draws .jump").first
    assert float(first.locator(".amount").text_content()) == pytest.approx(float(weights[0]), rel=6e-3)
    assert f"{float(totals[0, 0]):.4g}" in tab.text_content("#draws")
    first.click()
    assert tab.evaluate(place) == places[0]


def test_what_is_pointed_at_is_told_in_text_and_charts(show: Show, read_page: str) -> None:
    tab, bits = show(read_page), arrays_in(read_page)["bits"]
    box = tab.evaluate("(() => { const b = spans[40].getClientRects()[0]; return [b.x + b.width / 2, b.y + b.height / 2]; })()")
    tab.select_option("#channel", "bits")
    tab.mouse.move(*box)
    assert f"{float(bits[40]):.4g}"[:5] in tab.text_content("#tip")
    chart = tab.locator("#charts figure").last
    assert float(chart.locator("output").text_content()) == pytest.approx(float(bits[40]), rel=1e-3)
    canvas = chart.locator("canvas")
    canvas.scroll_into_view_if_needed()
    size = canvas.bounding_box()
    tab.mouse.click(size["x"] + size["width"] * 0.25, size["y"] + 30)
    place = tab.evaluate("state.place")
    assert abs(place - 0.25 * (LENGTH - 1)) <= 2
    assert _value(tab, "bits.0") == pytest.approx(float(bits[place]), rel=1e-3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_sticks_out_and_all_can_be_read(scheme: str, show: Show, read_page: str) -> None:
    tab = show(read_page, 390, 844, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    lightness, contrast = tab.evaluate(
        """() => {
          const light = (text) => { const [r, g, b] = text.match(/\\d+/g).map((x) => { x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          const text = light(getComputedStyle(document.body).color), levels = [];
          for (let i = 0; i < 40; i++) { const one = document.createElement("i"); one.className = "k" + i; document.body.append(one);
            levels.push(light(getComputedStyle(one).backgroundColor)); one.remove(); }
          return [levels, Math.min(...levels.map((one) => ratio(one, text)))];
        }"""
    )
    assert contrast >= 4.5
    assert lightness == sorted(lightness, reverse=scheme == "light")
    assert len(set(lightness)) == LEVELS


def test_what_is_in_the_text_stays_text(show: Show) -> None:
    tokens = torch.tensor(list(HOSTILE.encode()))
    pieces = ["" for _ in tokens]
    pieces[: len(HOSTILE)] = list(HOSTILE)
    tab = show(text_page(read(model_of(), tokens), pieces, HOSTILE, [HOSTILE]))
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.evaluate("spans.map((span) => span.textContent).join('')") == HOSTILE
    assert tab.text_content("h1") == HOSTILE
    assert "No reads were traced" in tab.text_content("#draws")


def test_twenty_thousand_tokens_open_within_a_second(show: Show) -> None:
    time, heads = 20_000, 4
    noise = torch.rand(heads, time)
    channels = {name: noise * (i + 1) for i, name in enumerate(("surprise", "answer", "lr", "momentum", "forgetting"))}
    norms, none = torch.rand(heads, 1 + math.ceil(time / 96)), torch.zeros(0, 1 + heads, 24)
    layers = tuple(
        LayerReading(
            name=f"layers.{i}", rule="", per_token=channels, norms=norms, distances=norms, places=none.int(), weights=none, totals=none[:, :, 0]
        )
        for i in range(4)
    )
    words = (text_of(1400) * 15)[:time]
    found = Reading(tokens=torch.zeros(time), bits=noise[0], stretch=96, layers=layers, traced=(), since=())
    page = text_page(found, list(words), "long")
    assert min(int(show(page).evaluate("document.body.dataset.ready")) for _ in range(3)) < 1000
    assert data_in(page)["count"] == time


def test_lines_that_a_memory_was_asked_about(show: Show, tmp_path: Path) -> None:
    with TextMemory.open(tmp_path / "notes", MemoryConfig(dim=16), embedder=HashingEmbedder()) as memory:
        memory.observe("the sea is salt")
        found = ask(memory, ["the sea is salt", "bread & butter <b>"])
    tab = show(memory_page(found, "a text"))
    tab.get_by_text("bread & butter <b>").first.click()
    assert _value(tab, "surprise.0") == pytest.approx(float(found.surprise[1]), rel=1e-3)
    assert "the sea is salt" in tab.text_content("#draws")
    tab.keyboard.press("ArrowUp")
    assert _value(tab, "surprise.0") == pytest.approx(float(found.surprise[0]), rel=1e-3, abs=1e-4)


def test_two_states(show: Show, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2, rule=presets.titans(update_every=4))
    with torch.no_grad():
        _, first = layer(torch.randn(1, 12, 8))
        _, second = layer(torch.randn(1, 20, 8), first)
    for name, state in (("a", first), ("b", second)):
        save_state(state, tmp_path / name, layer.rule)
    found = compare(state_in(tmp_path / "a"), state_in(tmp_path / "b"))
    tab = show(comparison_page(found), 390, 844, "dark")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [tab.text_content(f"#states tbody tr:nth-child(3) td:nth-child({i})") for i in (2, 3)] == ["12", "32"]
    tab.locator("#heat button").nth(1).click()
    tab.keyboard.press("ArrowDown")
    (one,) = [one for one in found.changes if (one.tensor, one.head) == (found.changes[2].tensor, 2)]
    assert tab.text_content("#one b") == one.tensor
    for name, number in (("moved", one.moved), ("before", one.norms[0]), ("cosine", one.cosine), ("share", one.share)):
        assert _value(tab, name) == pytest.approx(number, rel=6e-3)
