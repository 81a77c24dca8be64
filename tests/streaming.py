"""Views that stream, or work, for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from django_redislock import clock, lock_instance
from tests.testapp.models import Account

LINE = b"x" * 4096 + b"\n"


@lock_instance(Account, alias="real", ttl=120, streaming="hold")
def lines(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    def endless() -> Iterator[bytes]:
        while True:
            yield LINE
            clock.sleep(0.01)

    return StreamingHttpResponse(endless())


@lock_instance(Account, alias="real", ttl=120, streaming="hold")
async def lines_async(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield LINE
            await asyncio.sleep(0.01)

    return StreamingHttpResponse(endless())


@lock_instance(Account, alias="real", ttl=120)
async def waiting(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    await asyncio.sleep(60)
    raise AssertionError("The client went away long ago.")


urlpatterns = [
    path("lines/<int:pk>/", lines),
    path("lines-async/<int:pk>/", lines_async),
    path("waiting/<int:pk>/", waiting),
]
