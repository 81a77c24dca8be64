from __future__ import annotations

import uuid
from typing import Any

from django import forms

from .models import KEY_LENGTH, PENNY, Account


class TransferForm(forms.Form):
    """An order from one account. The hidden key makes sure that a form sent twice is booked once."""

    target = forms.ModelChoiceField(label="To", queryset=Account.objects.none(), empty_label="Choose an account")
    amount = forms.DecimalField(min_value=PENNY, max_digits=12, decimal_places=2)
    key = forms.CharField(max_length=KEY_LENGTH, widget=forms.HiddenInput, initial=uuid.uuid4)

    def __init__(self, *args: Any, source: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        targets = self.fields["target"]
        assert isinstance(targets, forms.ModelChoiceField)
        targets.queryset = Account.objects.exclude(pk=source)
        self.fields["amount"].widget.attrs.update({"inputmode": "decimal", "autocomplete": "off"})
