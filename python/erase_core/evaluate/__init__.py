"""Measures ERASE beside other ways to adapt a language model and to unlearn: accuracy, cost, and how well they forget.

Needs ``pip install 'erase-core[llm,evaluate]'``. Nothing else in the package imports it. `erase evaluate` runs it.
The folders are described in ARCHITECTURE.md.
"""
