"""Which of several processes on one database runs a lane (DESIGN §6).

Two processes that run the same lane do no harm: receipts decide what was delivered. They do the
work twice. So a process takes the lane for LEASE_SECONDS at a time and renews that while it runs;
another takes it over when it has run out. Nothing but work depends on it, so a clock that is wrong,
or a turn that outlasts its lease, costs a delivery that answers "done before".

Rows are taken by `FOR UPDATE SKIP LOCKED`: who finds one locked does not wait for it. An SQLite
file is one process's, and has every lease without asking.
"""

from __future__ import annotations

import threading

from sqlalchemy import insert, select, update

from relay.errors import Conflict
from relay.store import Store, Transaction, tables

LEASE_SECONDS = 10
RENEW_SECONDS = 3
"""After so long the lease is renewed; also how soon a lane that another runs is asked for again."""
_LEASE = tables.table(tables.Lease)


class Leases:
    """The leases of one process. Thread-safe."""

    def __init__(self, store: Store, holder: str) -> None:
        """`holder` is the same after a restart, so that a process has its lanes back at once, and
        another for each process: where it listens."""
        self._store = store
        self._holder = holder
        self._alone = store.engine.dialect.name == "sqlite"
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, bool]] = {}
        """When a lane was asked for last, and whether it was had."""

    def has(self, client_id: str, now: int) -> bool:
        """Whether this process runs the lane now; takes or renews the lease where that is due."""
        if self._alone:
            return True
        with self._lock:
            asked, had = self._known.get(client_id, (-RENEW_SECONDS, False))
            if not 0 <= now - asked < RENEW_SECONDS:
                try:
                    had = self._store.run(lambda tx: self._take(tx, client_id, now))
                except Conflict:  # others are quicker, again and again
                    had = False
                self._known[client_id] = now, had
            return had

    def give_back(self) -> None:
        """Lets others run this process's lanes at once."""
        if not self._alone:
            given = update(_LEASE).where(_LEASE.c.holder == self._holder).values(until=0)
            self._store.run(lambda tx: tx.connection.execute(given))

    def _take(self, tx: Transaction, client_id: str, now: int) -> bool:
        here = _LEASE.c.client_id == client_id
        row = tx.connection.execute(select(_LEASE).where(here).with_for_update(skip_locked=True))
        found = row.one_or_none()
        until = now + LEASE_SECONDS
        if found is None:
            if tx.connection.execute(select(_LEASE.c.holder).where(here)).one_or_none():
                return False  # locked: somebody renews it
            new = {"client_id": client_id, "holder": self._holder, "until": until}
            tx.connection.execute(insert(_LEASE), [new])
            return True
        if found.holder != self._holder and now < found.until <= until:
            return False
        mine = update(_LEASE).where(here).values(holder=self._holder, until=until)
        tx.connection.execute(mine)
        return True
