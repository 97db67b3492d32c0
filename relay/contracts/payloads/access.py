"""What institutions sign off-ledger: a query for records, and the fetch of a granted one.

These never become packets, but both ends must agree on the signed bytes as with those that do. The
signed name of the ledger keeps a query to one source from being shown to another; the nonce keeps
it from being shown twice (the source remembers it until `time` is too old).
"""

from __future__ import annotations

from relay.canonical import encode

FETCH_TAG = b"lianqiao/fetch/v1\n"
FIND_TAG = b"lianqiao/find/v1\n"
MAX_AGE = 300
"""Seconds by which the time in a query or fetch may differ from the source's own."""


def fetch_bytes(
    *, ledger: str, commitment: bytes, grant: bytes, institution: str, nonce: bytes, time: int
) -> bytes:
    """What the grantee institution signs to fetch a record, under a key that its grant names."""
    return FETCH_TAG + encode(
        {
            "commitment": commitment.hex(),
            "grant": grant.hex(),
            "institution": institution,
            "ledger": ledger,
            "nonce": nonce.hex(),
            "time": time,
        }
    )


def find_bytes(
    *, ledger: str, institution: str, query: bytes, consent: bytes, nonce: bytes, time: int
) -> bytes:
    """What the asking institution signs over a query; `query` is the SHA-256 of what it asks and
    `consent` that of the consent's canonical bytes."""
    return FIND_TAG + encode(
        {
            "consent": consent.hex(),
            "institution": institution,
            "ledger": ledger,
            "nonce": nonce.hex(),
            "query": query.hex(),
            "time": time,
        }
    )
