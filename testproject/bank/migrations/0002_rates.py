from __future__ import annotations

from django.db import migrations, models

import django_redislock


class Migration(migrations.Migration):
    dependencies = [
        ("bank", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="RateTable",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40, unique=True)),
                ("rates", models.JSONField(default=dict)),
                ("version", django_redislock.VersionField()),
            ],
            options={
                "ordering": ["name"],
            },
        ),
    ]
