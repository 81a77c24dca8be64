"""The pages of held locks under other admin themes, in a browser and on a server that has the theme installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from django_redislock import lock
from tests.browser import picture, running_browser
from tests.flows import Peer, peer

LIST = "/admin/django_redislock/heldlock/"
THEMES = ["unfold", "jazzmin"]

SERVER = """
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.test import Client
from django.test.testcases import LiveServerThread
from django_redislock import lock
from testproject.bank.models import Account
call_command("migrate", verbosity=0)
Account.objects.create(number="NO-1", owner="Kari")
client = Client()
client.force_login(User.objects.create_superuser("root"))
server = LiveServerThread("127.0.0.1", StaticFilesHandler)
server.daemon = True
server.start()
server.is_ready.wait()
if server.error:
    raise server.error
print(server.port, client.cookies["sessionid"].value, flush=True)
for name in sys.stdin:
    guard = lock(name.strip())
    guard.acquire()
    guards = [*globals().get("guards", ()), guard]
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def browser(a_browser: None) -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


class Site:
    """A page in the browser, and the process that serves it and holds locks."""

    def __init__(self, server: Peer, browser: Browser) -> None:
        self._server = server
        port, session = server.hear().split()
        self.url = f"http://127.0.0.1:{port}"
        context = browser.new_context(viewport={"width": 1600, "height": 900})
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": self.url}])
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def hold(self, name: str) -> None:
        self._server.tell(name)
        assert self._server.hear() == "done"

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture(params=THEMES)
def site(request: pytest.FixtureRequest, browser: Browser, real_redis: str, tmp_path: Path, monkeypatch: Any) -> Any:
    monkeypatch.setenv("THEME_DATABASE", str(tmp_path / "theme.sqlite3"))
    choose = f"import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.theme_{request.param}'"
    with peer(SERVER, first=choose) as server:
        site = Site(server, browser)
        yield site
        site.page.context.close()
    assert site.errors == []


@pytest.mark.long
def test_the_pages_work_under_a_theme(site, tmp_path, request):
    site.page.clock.install()
    site.hold("bank.Account:1")
    site.hold("nightly")
    page = site.go(LIST)
    keys = page.locator("[data-redislock-lock]")
    expect(keys).to_have_text(["bank.Account:1", "nightly"])
    expect(page.get_by_role("link", name="NO-1 Kari")).to_be_visible()

    page.locator("tr", has_text="nightly").locator("input.action-select").check()
    site.hold("prices")
    page.clock.run_for(6000)
    expect(keys).to_have_text(["bank.Account:1", "nightly", "prices"])
    expect(page.get_by_text("3 held locks")).to_be_visible()
    assert page.locator("tr", has_text="nightly").locator("input.action-select").is_checked()
    theme = request.node.callspec.params["site"]
    assert picture(page, Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"held-locks-{theme}.png")

    page.get_by_role("link", name="nightly", exact=True).click()
    page.wait_for_url("**/change/")
    page.get_by_role("link", name="Release by force").click()
    expect(page.get_by_role("heading", name="Release by force")).to_be_visible()
    expect(page.get_by_text("Delete multiple objects")).to_have_count(0)
    page.get_by_label("Reason").fill("It hangs.")
    page.get_by_role("button", name="Release by force").click()
    expect(page.get_by_text("Released nightly, which").first).to_be_visible()
    assert lock("nightly").info() is None

    page = site.go("/admin/bank/account/1/change/")
    expect(page.locator(".redislock-badge")).to_contain_text("locked by")
    expect(page.get_by_role("link", name="Release lock by force")).to_be_visible()
