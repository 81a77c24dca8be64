"""The admin pages of held locks as people use them: in a browser, with locks that other processes hold."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from django_redislock import lock
from testproject.bank.models import Account
from tests import csp
from tests.browser import People, Visit, people, picture, running_browser, user_with

LIST = "/admin/django_redislock/heldlock/"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("real_redis")]
Visitor = Callable[..., Visit]


@pytest.fixture(scope="module")
def browser(a_browser: None) -> Iterator[Browser]:
    with running_browser() as browser, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs a loop in this thread, and Django looks
        yield browser


@pytest.fixture
def visit(browser: Browser, live_server: Any, settings: Any) -> Iterator[Visitor]:
    """Visits of the live server, which has a strict policy of what may be on its pages. Nobody may complain."""
    settings.REDISLOCK = {"default": {"CACHE": "real"}}
    csp.strict(settings)
    contexts, visits = [], []

    def begin(user: User | None = None, **options: Any) -> Visit:
        contexts.append(browser.new_context(**options))
        visits.append(Visit(contexts[-1], live_server.url, user or user_with()))
        return visits[-1]

    yield begin
    for context in contexts:
        context.close()
    assert [complaint for visit in visits for complaint in visit.complaints] == []


@pytest.fixture
def others(real_redis: str) -> Iterator[People]:
    with people() as process:
        yield process


@pytest.fixture
def account() -> Account:
    return Account.objects.create(number="NO-1", owner="Kari", balance=100)


def choose(page: Page, *keys: str) -> None:
    """Mark rows of the list."""
    for key in keys:
        page.locator("tr", has_text=key).locator("input.action-select").check()


def release_chosen(page: Page, reason: str = "It hangs.") -> None:
    """From the list through the confirmation."""
    page.get_by_label("Action:").select_option("force_release_selected")
    page.locator("button[name=index]").click()
    confirm(page, reason)


def confirm(page: Page, reason: str = "It hangs.") -> None:
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Release by force").click()


def later(page: Page, seconds: int) -> None:
    """Let the page's own clock run."""
    page.clock.run_for(seconds * 1000)


# The list


@pytest.mark.long
def test_it_is_filtered_and_sorted_by_clicks(visit, others):
    others.hold("bank.Account:1", "nightly", "hourly")
    somebody = visit()
    page = somebody.go(LIST)
    assert somebody.shown() == ["bank.Account:1", "nightly", "hourly"]
    page.locator("th.column-key_column .text a").click()
    expect(page.locator("[data-redislock-lock]")).to_have_text(["bank.Account:1", "hourly", "nightly"])
    page.get_by_role("link", name="bank.Account (1)").click()
    expect(page.locator("[data-redislock-lock]")).to_have_text(["bank.Account:1"])


@pytest.mark.long
def test_it_counts_down_between_two_looks(visit, others):
    others.hold("nightly")
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    before = seconds_left(page)
    later(page, 3)
    assert before - 5 <= seconds_left(page) <= before - 2
    assert page.locator("meter").evaluate("meter => meter.value") < before


def seconds_left(page: Page) -> int:
    return int(page.locator(".redislock-left").inner_text().removesuffix(" s"))


@pytest.mark.long
def test_it_refreshes_itself_and_keeps_what_was_chosen(visit, others):
    others.hold("one", "two")
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    page.evaluate("window.isTheSamePage = true")
    choose(page, "one")
    others.hold("three", "four")
    others.drop("two")
    later(page, 6)
    expect(page.locator("[data-redislock-lock]")).to_have_text(["one", "three", "four"])
    assert page.evaluate("window.isTheSamePage")
    expect(page.get_by_role("link", name="plain names")).to_have_text("plain names (3)")
    assert page.locator("tr.selected").count() == 1
    expect(page.locator(".action-counter")).to_have_text("1 of 3 selected")
    expect(page.get_by_role("status")).to_have_text("3 locks are held.")
    page.locator("#action-toggle").check()
    expect(page.locator(".action-counter")).to_have_text("3 of 3 selected")


@pytest.mark.long
def test_the_first_lock_comes_and_the_last_one_goes(visit, others):
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    expect(page.get_by_text("No lock is held.")).to_be_visible()
    others.hold("one")
    later(page, 6)
    expect(page.locator("[data-redislock-lock]")).to_have_text(["one"])
    choose(page, "one")
    expect(page.locator(".action-counter")).to_have_text("1 of 1 selected")
    others.drop("one")
    later(page, 6)
    expect(page.get_by_text("No lock is held.")).to_be_visible()


@pytest.mark.long
def test_it_stands_still_while_it_is_paused(visit, others):
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    page.get_by_role("button", name="Pause").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    later(page, 60)
    assert asked == []
    with page.expect_response(re.compile(LIST)):
        page.get_by_role("button", name="Resume").click()


@pytest.mark.long
def test_a_click_is_not_lost_to_a_refresh(visit, others):
    others.hold("nightly")
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    row = page.locator("[data-redislock-lock]").element_handle()
    row.hover()
    page.mouse.down()
    with page.expect_response(f"**{LIST}") as answer:
        later(page, 6)
    answer.value.finished()
    page.wait_for_function("1 + 1")  # what is done with the answer has been done
    assert row.evaluate("row => row.isConnected")
    page.mouse.up()
    page.wait_for_url("**/change/")


@pytest.mark.long
def test_it_asks_nothing_while_nobody_looks(visit, others):
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden', writable: true})")
    later(page, 60)
    assert asked == []
    with page.expect_response(re.compile(LIST)):
        page.evaluate("document.visibilityState = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.long
def test_a_server_that_comes_back_is_found(visit, others, settings):
    others.hold("one")
    settings.CACHES = settings.CACHES | {"away": settings.CACHES["real"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    settings.REDISLOCK = {"default": {"CACHE": "away"}}
    somebody = visit()
    settings.REDISLOCK = {"default": {"CACHE": "away"}}
    somebody.page.clock.install()
    page = somebody.go(LIST)
    expect(page.get_by_text("could not be read")).to_be_visible()
    settings.REDISLOCK = {"default": {"CACHE": "real"}}
    later(page, 6)
    expect(page.locator("[data-redislock-lock]")).to_have_text(["one"])
    expect(page.get_by_text("could not be read")).to_have_count(0)


# One lock


@pytest.mark.long
def test_its_page_follows_who_waits(visit, others):
    others.hold("one")
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    page.get_by_role("link", name="one", exact=True).click()
    page.wait_for_url("**/change/")
    expect(page.get_by_text("Who waits for whom")).to_have_count(0)
    others.wait("one", who="Bob")
    later(page, 6)
    expect(page.get_by_role("img", name="Who waits for whom")).to_be_visible()
    expect(page.locator("#redislock-picture-text li")).to_have_count(2)


@pytest.mark.long
def test_one_that_ends_is_said(visit, others):
    others.hold("one")
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(f"{LIST}default_3Aone/change/")
    others.drop("one")
    later(page, 6)
    expect(page.get_by_role("status")).to_have_text("This lock is not held any more, or Redis cannot be asked.")


# Force release


def test_who_may_frees_a_lock_and_the_next_one_gets_it(visit, others):
    others.hold("one")
    others.wait("one", who="Bob")
    page = visit(user_with("force_release")).go(LIST)
    choose(page, "one")
    release_chosen(page)
    expect(page.locator(".messagelist")).to_contain_text("Released one, which")
    assert lock("one").info().holder.thread == "Bob"
    page.get_by_role("link", name="one", exact=True).click()
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history")).to_contain_text("It hangs.")


@pytest.mark.long
def test_who_may_not_is_refused(visit, others):
    others.hold("one")
    somebody = visit(user_with("view_heldlock"))
    page = somebody.go(LIST)
    expect(page.locator("input.action-select")).to_have_count(0)
    assert page.request.get(f"{somebody.url}{LIST}release/?lock=default:one").status == 403
    page.get_by_role("link", name="one", exact=True).click()
    expect(page.get_by_role("link", name="Release by force")).to_have_count(0)


@pytest.mark.long
def test_two_who_free_the_same_lock(visit, others):
    others.hold("one")
    pages = [visit().go(f"{LIST}default_3Aone/change/") for _ in range(2)]
    for page in pages:
        page.get_by_role("link", name="Release by force").click()
    confirm(pages[0])
    confirm(pages[1])
    expect(pages[0].locator(".messagelist")).to_contain_text("Released one, which")
    expect(pages[1].locator(".messagelist")).to_contain_text("Left one alone")


def test_a_row_shows_that_it_is_locked_and_is_freed_from_its_form(visit, others, account):
    others.hold(f"bank.Account:{account.pk}")
    page = visit().go("/admin/bank/account/")
    expect(page.locator(".redislock-badge")).to_contain_text("locked by")
    page.get_by_role("link", name="NO-1").click()
    expect(page.get_by_role("status")).to_contain_text("locked by")
    page.get_by_role("link", name="Release lock by force").click()
    confirm(page)
    assert page.url.endswith(f"/admin/bank/account/{account.pk}/change/")
    expect(page.locator(".redislock-badge")).to_have_count(0)


# For everybody


@pytest.fixture
def crowd(others: People, account: Account) -> None:
    """A row with one who waits, and who keeps another waiting."""
    row = f"bank.Account:{account.pk}"
    others.hold(row, "nightly-import")
    others.hold("prices", who="Bob")
    others.wait(row, who="Bob")
    others.wait("prices", who="Carl")


def pages_of(account: Account) -> list[str]:
    row = f"default_3Abank.Account_3A{account.pk}"
    confirmation = f"{LIST}release/?lock=default:prices&lock=default:nightly-import"
    return [
        LIST,
        f"{LIST}{row}/change/",
        confirmation,
        "/admin/bank/account/",
        f"/admin/bank/account/{account.pk}/change/",
    ]


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, account, scheme):
    somebody = visit(color_scheme=scheme)
    for path in pages_of(account):
        somebody.go(path)
        assert somebody.faults() == [], path


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="Django 6.0 has put it right")
def test_what_is_not_counted_is_there_on_a_page_with_nothing_of_ours(visit):
    somebody = visit()
    assert "redislock.css" not in somebody.go("/admin/bank/transfer/").content()
    assert somebody.faults() == []
    assert {rule for rule, _ in somebody.violations()} == {"link-in-text-block"}


@pytest.mark.usefixtures("crowd")
def test_all_of_it_works_without_javascript(visit, account):
    somebody = visit(java_script_enabled=False)
    for path in pages_of(account):
        somebody.go(path)
    page = somebody.go(LIST)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    choose(page, "nightly-import")
    release_chosen(page)
    expect(page.locator("[data-redislock-lock]")).to_have_count(2)


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("language", ["en", "ar"])
def test_narrow_screens_need_no_scrolling_aside(visit, account, settings, language):
    settings.LANGUAGE_CODE = language
    somebody = visit(viewport={"width": 375, "height": 800})
    for path in [pages_of(account)[1], pages_of(account)[2]]:
        page = somebody.go(path)
        assert page.locator("html").get_attribute("dir") == ("rtl" if language == "ar" else "ltr")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) <= 0, path


NASTY = "<script>document.title='gone'</script>\"'><img src=x onerror=\"document.title='gone'\">"


@pytest.mark.long
def test_markup_of_others_does_nothing(visit, others):
    others.hold(NASTY)
    somebody = visit()
    somebody.page.clock.install()
    page = somebody.go(LIST)
    later(page, 6)
    page.locator("[data-redislock-lock]").click()
    page.wait_for_url("**/change/")
    later(page, 6)
    page.get_by_role("link", name="Release by force").click()
    confirm(page, NASTY)
    assert page.title() != "gone"
    expect(page.locator(".messagelist")).to_contain_text(NASTY)


@pytest.mark.long
@pytest.mark.usefixtures("crowd")
def test_pictures_of_it(visit, account, tmp_path):
    """Kept in the directory that `SCREENSHOTS` names, where it is set."""
    directory = Path(os.environ.get("SCREENSHOTS", tmp_path))
    taken = set()
    for scheme in ("light", "dark"):
        somebody = visit(color_scheme=scheme, viewport={"width": 1440, "height": 720})
        for name, path in zip(("held-locks", "held-lock", "force-release"), pages_of(account), strict=False):
            page = somebody.go(path)
            taken.add(picture(page, directory / f"{name}-{scheme}.png"))
    assert len(taken) == 6
