"""Dependencies point down only: what each module of the package imports is read from its source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import django_redislock

PACKAGE = "django_redislock"
ROOT = Path(django_redislock.__file__).parent
LONGEST = 300

LAYERS = {
    "values": {"clock", "exceptions", "holder", "keys", "lease", "seconds"},
    "stores": {
        "stores",
        "stores.base",
        "stores.discretion",
        "stores.redis",
        "stores.scripts",
        "stores.many",
        "stores.verbs",
        "stores.wakeups",
    },
    "semantics": {"keylock", "holds", "manylock", "renewing", "waiting", "watchdog"},
    "facade": {
        "checkedmodel",
        "checkedsaves",
        "conf",
        "conflicts",
