"""The erasure report: a page for a privacy officer on what was forgotten, with what to check and what lies outside.

`contents.py` collects the facts, from what `trace.py` reads in the store. `picture.py` draws the clustering, and
`page.py` with `page.html.jinja` makes the page. Nothing here removes anything.
"""
