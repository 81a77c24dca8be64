"""The version in forms: hidden, signed, and compared when the form comes back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.signing import BadSignature, Signer
from django.db.models import Field, Model
from django.forms.boundfield import BoundField
from django.utils.translation import gettext as _

CONFLICT = "version_conflict"
"""The code of the errors that tell a conflict."""
UNTOLD = "version_missing"
"""The code of the error that tells that a form does not carry the version."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a form was opened with."""

    label: str
    pk: str
    version: int

    def __str__(self) -> str:
        return f"{self.label}:{self.pk}:{self.version}"

    def signed(self) -> str:
        """As it stands in a form."""
        return signer().sign(str(self))


def signer() -> Signer:
    """Made when it is needed: it reads the settings."""
    return Signer(salt="django_redislock.version")


def read_signed(value: Any) -> Opened | None:
    """What stood in a form; `None` when it is not there or not ours."""
    try:
        label, rest = signer().unsign(str(value)).split(":", 1)
        pk, version = rest.rsplit(":", 1)
        return Opened(label, pk, int(version))
    except (BadSignature, ValueError):
        return None


def opened_with(instance: Model, version: int) -> Opened:
    """What a form for this instance is opened with."""
    return Opened(instance._meta.label, str(instance.pk), version)


class VersionBoundField(BoundField):
    """The hidden input."""

    def value(self) -> Any:
        """The version that the form was opened with; once a conflict was shown, the version that was shown.

        So to save again is to write over it, knowingly.
        """
        if self.form.is_bound and not self.form.has_error(NON_FIELD_ERRORS, CONFLICT):
            return super().value()
        instance = getattr(self.form, "instance", None)
        if instance is None or self.initial is None:
            return ""
        shown = getattr(instance._state, "redislock_shown", None)
        return opened_with(instance, self.initial if shown is None else shown).signed()


class VersionFormField(forms.Field):
    """Carries the version of a row through a form."""

    widget = forms.HiddenInput

    def __init__(self) -> None:
        super().__init__(required=False)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> BoundField:
        """The input, which signs."""
        return VersionBoundField(form, self, field_name)

    def to_python(self, value: Any) -> Opened | None:
        """What the form was opened with; `None` when that is not there or not ours."""
        return read_signed(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Nobody fills it in."""
        return False


def compare_opened(instance: Model, opened: Opened | None) -> int:
    """The version that the form for this instance was opened with.

    Raises `ValidationError` when the form does not say it.
    """
    if opened is None or opened != opened_with(instance, opened.version):
        raise ValidationError(
            _("The form does not say which version it was opened with. Nothing was saved; open it again."),
            code=UNTOLD,
        )
    return opened.version


def conflict_errors(error: Any, hidden: Collection[str]) -> ValidationError:
    """A conflict in words for a person; `hidden` are the fields that are not theirs to see."""
    return ValidationError(list(_lines(error, hidden)))


def _lines(error: Any, hidden: Collection[str]) -> Iterator[ValidationError]:
    if error.current is None:
        yield ValidationError(_("It was deleted since this form was opened. Nothing was saved."), code=CONFLICT)
        return
    yield ValidationError(
        _(
            "Another has changed this since the form was opened: version %(expected)s then, %(current)s now. Nothing "
            "was saved. Open it again to see all, or save again to write this form over it."
        ),
        code=CONFLICT,
        params={"expected": error.expected, "current": error.current},
    )
    for name, difference in error.diff().items():
        if name not in hidden:
            field = error.instance._meta.get_field(name)
            yield ValidationError(
                _("%(field)s: it is “%(theirs)s” now, and “%(mine)s” in this form."),
                code=CONFLICT,
                params={
                    "field": str(field.verbose_name).capitalize(),
                    "theirs": _shown(field, difference.theirs),
                    "mine": _shown(field, difference.mine),
                },
            )


def _shown(field: Field[Any, Any], value: Any) -> str:
    """A value as a person knows it."""
    return str(dict(field.flatchoices).get(value, value))
