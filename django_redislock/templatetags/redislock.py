"""Filters of our own templates."""

from __future__ import annotations

from django import template

from ..pages.words import spell

register = template.Library()
register.filter("spell", spell)


@register.filter
def exact(number: float) -> str:
    """A number as markup takes it, in every language: with a point."""
    return f"{number:.10g}"
