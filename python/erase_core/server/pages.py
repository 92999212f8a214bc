"""The page that describes all routes. It loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

__all__ = ["described"]

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ api.info.title }}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#222}
h2{font-size:1rem;margin:2rem 0 .3rem}code{background:#f2f2f2;padding:.1rem .3rem}pre{white-space:pre-wrap}
td{padding:.1rem 1rem .1rem 0;vertical-align:top}</style>
<h1>{{ api.info.title }}</h1><p>{{ api.info.description }}</p><p><a href="openapi.json">openapi.json</a></p>
{% for path, methods in api.paths.items() %}{% for method, about in methods.items() %}
<h2><code>{{ method|upper }} {{ path }}</code> {{ about.summary }}</h2>
<pre>{{ about.description }}</pre>
<table>{% for each in about.parameters or [] %}<tr><td><code>{{ each.name }}</code><td>{{ each.in }}
<td>{{ each.description or "" }} {{ (each.schema.enum or [])|join(", ") }}{% endfor %}</table>
{% endfor %}{% endfor %}
<h1>Bodies</h1>
{% for name, about in api.components.schemas.items() if about.properties and not "Error" in name %}
<h2>{{ name }}</h2><p>{{ about.description }}</p><table>
{% for field, of in about.properties.items() %}<tr><td><code>{{ field }}</code>
<td>{{ "needed" if field in (about.required or []) else "" }}
<td>{{ of.description or "" }} {{ (of.enum or [])|join(", ") }}
{% endfor %}</table>{% endfor %}</html>
"""


def described(api: Mapping[str, Any]) -> str:
    """Return the page for a description in OpenAPI's form."""
    return jinja2.Environment(autoescape=True).from_string(PAGE).render(api=api)
