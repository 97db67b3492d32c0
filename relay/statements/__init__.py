"""Statements for finance people: an account's day that ties, and ISO 20022 documents.

`statement` is pure and always there. The XML of `relay.statements.iso20022` needs the extra
`lianqiao[statements]` (pyiso20022 is 57 MB, and nobody else should have to load it).
"""

from relay.statements.model import Entry, Statement, statement

__all__ = ["Entry", "Statement", "statement"]
