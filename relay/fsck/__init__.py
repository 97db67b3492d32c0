"""Checks a whole node, offline: the tree, the signatures, the tables, every stored proof.

`fsck` uses the verifiers that the node itself uses, and trusts nothing that it can recompute:

1. every entry is in the tree, and the root of every body is the root of its size;
2. every body is signed by the set in force, times never decrease, sets follow announcements,
   and co-signatures are over the bodies of their sizes;
3. the tables of clients and packets equal the fold over the entries;
4. every stored header is signed, and every stored proof proves its claims under that header;
5. every stored packet and acknowledgement is what its commitment on the journal says;
6. the books of each contract that can be asked add up (relay.audit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection

from relay.audit import audit, audited
from relay.contract import Contract
from relay.fold import Fold
from relay.fsck.findings import Checked, Counts, Finding, Progress, quiet
from relay.fsck.journal import Journal
from relay.fsck.proofs import Proofs
from relay.light.types import ClientType
from relay.store import Store, Transaction
from relay.store.damage import faults

__all__ = ["Checked", "Finding", "Progress", "check", "database", "fsck"]

_NO_CONTRACTS: Mapping[str, Contract] = {}


def database(store: Store) -> list[Finding]:
    """What is wrong with the database itself; while anything is, `fsck` could not read it."""
    with store.read() as connection:
        return [Finding("database", detail) for detail in faults(connection)]


def fsck(
    store: Store,
    client_types: Mapping[str, ClientType],
    origin: str,
    progress: Progress = quiet,
    contracts: Mapping[str, Contract] = _NO_CONTRACTS,
) -> tuple[Checked, list[Finding]]:
    """Checks everything; (how much, findings). An empty list means that all is as it should be.

    `contracts` say which entries had to be proven beside a packet.
    """
    with store.read() as connection:
        return check(connection, client_types, origin, progress, contracts)


def check(
    connection: Connection,
    client_types: Mapping[str, ClientType],
    origin: str,
    progress: Progress = quiet,
    contracts: Mapping[str, Contract] = _NO_CONTRACTS,
) -> tuple[Checked, list[Finding]]:
    """`fsck` on a connection, so that what is not committed yet can be checked too."""
    fold, counts = Fold(), Counts()
    journal = Journal(connection, origin, fold, counts, progress)
    proofs = Proofs(connection, client_types, contracts, fold, counts)
    findings = [*journal.check(), *journal.epochs(), *journal.cosignatures(), *proofs.check()]
    chain_id = origin.rpartition("/")[0]

    def reading() -> Transaction:
        return Transaction(connection, 0)

    for port, detail in audit(reading, contracts, chain_id):
        findings.append(Finding(f"contract {port}", detail))
    return Checked(**asdict(counts), books=tuple(audited(reading, contracts))), findings
