"""What people see on the board and do with it, in a real browser: each act after a look at what speaks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from adapterkit.board.pages import FILES
from adapterkit.registry import Registry
from tests.board.conftest import Board, Steered


@contextmanager
def looking(browser: Any, board: Board, scope: str | None, **settings: Any) -> Iterator[Any]:
    """A page of the board, opened with the key of a scope. It may speak to nobody else, and must not fail."""
    address, keys = board
    context = browser.new_context(**settings)
    page = context.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{address}/board")
    page.wait_for_selector("#login:not([hidden])")
    if scope is not None:
        page.fill("#key", keys[scope])
        page.click("#login button")
        page.wait_for_selector("article[data-task=intent]")
    yield page
    context.close()
    assert failed == []
    assert [url for url in asked if not url.startswith((address, "data:", "about:"))] == []


def channel(registry: Registry, name: str = "stable") -> int:
    return registry.channels("intent")[name].number


def test_nothing_is_shown_without_a_key(browser: Any, shown: Steered) -> None:
    with looking(browser, shown.board, None) as page:
        assert page.is_hidden("#main")
        page.fill("#key", "ak_wrong")
        page.click("#login button")
        page.wait_for_selector("text=This key is not known.")
        assert page.is_hidden("#main")


def test_whoever_may_only_ask_sees_and_cannot_steer(browser: Any, shown: Steered) -> None:
    with looking(browser, shown.board, "predict") as page:
        found = page.inner_text("article[data-task=intent]")
        assert "stable" in found
        assert "candidate" in found
        assert page.locator("text=Promote…").count() == 0
        assert page.is_hidden("#audit")


def test_one_text_is_answered_by_all_tasks_with_receipts(browser: Any, shown: Steered) -> None:
    with looking(browser, shown.board, "predict") as page:
        page.fill("#text", "<b>my card</b> was lost")
        page.click("#ask button")
        page.wait_for_selector("#answers article[data-task=tags]")
        receipt = page.inner_text("#answers article[data-task=tags] .receipt")
        assert shown.registry.channels("tags")["stable"].short in receipt
        assert page.locator("#answers article[data-task=intent] meter").count() >= 2
        assert page.locator("#answers b b").count() == 0


def test_a_promotion_shows_its_evidence_and_a_roll_back_undoes_it(browser: Any, steered: Steered) -> None:
    with looking(browser, steered.board, "admin") as page:
        page.click("article[data-task=intent] >> text=Promote…")
        page.wait_for_selector("#evidence >> text=golden rows")
        assert page.locator("#evidence .good").count() == 3
        page.click("#cancel")
        assert channel(steered.registry) == 1
        page.click("article[data-task=intent] >> text=Promote…")
        page.wait_for_selector("#evidence")
        page.click("#confirm")
        page.wait_for_selector("#dialog:not([open])", state="hidden")
        page.wait_for_selector("#entries >> text=grace")
        assert channel(steered.registry) == 2
        page.click("article[data-task=intent] >> text=Roll back…")
        page.click("#confirm")
        page.wait_for_selector("#entries >> text=roll-back")
        assert channel(steered.registry) == 1
        assert [entry.actor for entry in steered.registry.entries("intent")[-2:]] == ["grace", "grace"]


def test_a_gate_that_says_no_wants_a_reason(browser: Any, steered: Steered) -> None:
    steered.registry.set_gate({"require": ["compare"]})
    with looking(browser, steered.board, "admin") as page:
        page.click("article[data-task=intent] >> text=Promote…")
        page.wait_for_selector("text=compare: no evidence")
        assert page.is_disabled("#confirm")
        page.fill("[aria-label='reason for going past the gate']", "late")
        page.click("#confirm")
        page.wait_for_selector("#entries >> text=forced: late")
    assert steered.registry.history("intent")[-1].forced == "late"


def test_a_slider_divides_the_traffic_once_it_is_confirmed(browser: Any, steered: Steered) -> None:
    with looking(browser, steered.board, "admin") as page:
        page.fill("[aria-label='share of candidate']", "25")
        page.fill("[aria-label='share of stable']", "75")
        page.click("article[data-task=intent] >> text=Split…")
        assert steered.registry.shares("intent") is None
        page.click("#confirm")
        page.wait_for_selector("#entries >> text=stable 75.0 %")
    assert steered.registry.shares("intent") == {"stable": 0.75, "candidate": 0.25}


def test_a_version_shows_its_card(browser: Any, shown: Steered) -> None:
    with looking(browser, shown.board, "admin") as page:
        page.click("article[data-task=tags] tr[data-arm=stable] button")
        page.wait_for_selector("#dialog pre")
        assert shown.registry.channels("tags")["stable"].digest in page.inner_text("#dialog")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_out_of_a_phone_or_a_desk(browser: Any, shown: Steered, width: int, scheme: str) -> None:
    size = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with looking(browser, shown.board, "admin", **size) as page:
        page.click("article[data-task=intent] >> text=Promote…")
        page.wait_for_selector("#evidence >> text=golden rows")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        wide = "[...document.querySelectorAll('.wide')].map((each) => each.scrollWidth - each.clientWidth)"
        assert max(page.evaluate(wide)) <= 0
        ink, paper = page.evaluate("['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])")
        light = [sum(map(int, colour.strip("rgb()").split(",")[:3])) for colour in (ink, paper)]
        assert (light[0] < light[1]) == (scheme == "light")


def test_the_files_close_their_doors_and_nothing_else_is_given(shown: Steered) -> None:
    address, _ = shown.board
    for path in FILES:
        reply = httpx2.get(address + path)
        assert reply.status_code == 200
        assert "script-src 'self';" in reply.headers["content-security-policy"]
        assert reply.headers["x-frame-options"] == "DENY"
        assert "://" not in reply.text.replace("http://www.w3.org/2000/svg", "")  # a namespace, not a place
    assert httpx2.get(f"{address}/board/pages.py").status_code == 404
    assert httpx2.get(f"{address}/board/../../keys.json").status_code == 404
    assert httpx2.post(f"{address}/board/").status_code == 405
