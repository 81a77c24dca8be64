"""A browser that looks at the pages of the live server, and processes that hold locks meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.flows import Peer, peer, until, waiters_of

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """The Chromium of this machine, if it has one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


PEOPLE = """
import queue, threading
from django_redislock import lock
from django_redislock.holder import Work, working_on
people = {}
def live(words):
    guards = {}
    for verb, name in iter(words.get, None):
        if verb == "hold":
            guards[name] = lock(name, wait=60)
            with working_on(lambda: Work("POST /transfers/", "7")):
                guards[name].acquire()
        else:
            guards.pop(name).release()
        print("done", flush=True)
for line in sys.stdin:
    who, verb, name = line.rstrip("\\n").split(" ", 2)
    if who not in people:
        people[who] = queue.SimpleQueue()
        threading.Thread(target=live, args=(people[who],), name=who, daemon=True).start()
    people[who].put((verb, name))
"""


class People:
    """Threads of another process, which hold locks or wait for them."""

    def __init__(self, process: Peer) -> None:
        self._process = process

    def hold(self, *names: str, who: str = "Ann") -> None:
        """Somebody holds these."""
        for name in names:
            self._process.tell(f"{who} hold {name}")
            assert self._process.hear() == "done"

    def wait(self, name: str, who: str) -> None:
        """Somebody waits for what another holds."""
        before = waiters_of(name)
        self._process.tell(f"{who} hold {name}")
        until(lambda: waiters_of(name) > before)

    def drop(self, name: str, who: str = "Ann") -> None:
        """Somebody gives one back that nobody waits for."""
        self._process.tell(f"{who} drop {name}")
        assert self._process.hear() == "done"


@contextmanager
def people() -> Iterator[People]:
    """A process that is gone at the end."""
    with peer(PEOPLE) as process:
        yield People(process)


def user_with(*codenames: str) -> User:
    """A member of the staff with these permissions; a superuser for none."""
    name = "-".join(codenames) or "root"
    user, _ = User.objects.get_or_create(username=name, is_staff=True, is_superuser=not codenames)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


class Visit:
    """What somebody who is logged in sees, and what the browser complains of meanwhile."""

    def __init__(self, context: BrowserContext, url: str, user: User | None) -> None:
        self.url = url
        self.complaints: list[str] = []
        if user is not None:
            context.add_cookies([cookie_of(user, url)])
        self.page: Page = context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.location["url"].endswith("/favicon.ico"):
            self.complaints.append(message.text)

    def go(self, path: str) -> Page:
        """Open a page of the live server."""
        self.page.goto(self.url + path)
        return self.page

    def shown(self) -> list[str]:
        """The keys that the list shows, in order."""
        return self.page.locator("[data-redislock-lock]").all_inner_texts()

    def faults(self) -> list[str]:
        """What axe finds on the whole page, but for the faults of Django's own templates."""
        return [f"{rule} at {place}" for rule, place in self.violations() if not is_djangos(rule, place)]

    def violations(self) -> list[tuple[str, str]]:
        """The rule of axe that each fault breaks, and the selector of the element."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [(each["id"], node["target"][-1]) for each in found for node in each["nodes"]]


def is_djangos(rule: str, place: str) -> bool:
    """Whether it is the one fault of Django's: until 6.0, only their colour tells the links of the breadcrumbs."""
    return django.VERSION < (6, 0) and rule == "link-in-text-block" and place.startswith(".breadcrumbs > a")


def cookie_of(user: User, url: str) -> Any:
    """The session of somebody who has logged in."""
    client = Client()
    client.force_login(user)
    return {
        "name": settings.SESSION_COOKIE_NAME,
        "value": client.cookies[settings.SESSION_COOKIE_NAME].value,
        "url": url,
    }


def picture(page: Page, path: Path) -> bytes:
    """A screenshot, also kept in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return page.screenshot(path=path, full_page=True)
