"""Executes one block on the journal: the same on every replica, whatever came before it.

Order of effects of a transaction: it is decoded and verified; its nonce is written, so that it is
never executed again; the operator's approval, where one operator is not enough; the action. What
would be refused, or would change nothing, needs nobody's approval: it is answered at once. What is
refused leaves the nonce (and the approval) and nothing else. Deliveries and evidence prove
themselves and are idempotent, so they leave no nonce. Recoveries that are due are completed at the
end of a block.

Nothing is written here: the outcome holds what `Application.commit` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from adapters.cometbft.engine.asked import Asked, decode_asked, verify_asked
from relay import recovery
from relay.actions import (
    Action,
    AnnounceSet,
    Call,
    CallEach,
    CancelRecovery,
    CompleteRecovery,
    CreateBound,
    CreateClient,
    Deliver,
    ProposeRecovery,
    RegisterCounterparty,
    SkipSequences,
    SubmitMisbehaviour,
    agreed,
)
from relay.channel import Channel
from relay.contract import CONTRACT_FAILURES
from relay.deciding import ChangeOperators, announced, check_operators, operators_of, quorum_of
from relay.errors import (
    Conflict,
    Denied,
    LianqiaoError,
    Reason,
    Refused,
    Unavailable,
)
from relay.light.membership import entry_hash
from relay.light.types import ValidatorSet
from relay.packet import be64
from relay.paths import Kind, host_path, request_path, request_value
from relay.powers import ChangePowers, Power, current_powers
from relay.store import BlockRow, RequestRow, Store, Transaction
from relay.ticking import close_batch, run_due
from relay.tiles import Edge, extend, write_tiles

APPROVAL_SECONDS = 7 * 86_400
"""How long an operator's approval waits for those of others."""
MAX_APPROVALS = 10_000
TICK_SECONDS = 60
"""How often a client states what it has sent (relay.sent)."""
PROVE_THEMSELVES = (Deliver, SubmitMisbehaviour)
BY_ONE = (Call, CallEach)
BY_SEVERAL = (
    CreateBound,
    CreateClient,
    RegisterCounterparty,
    ProposeRecovery,
    CancelRecovery,
    CompleteRecovery,
    SkipSequences,
    AnnounceSet,
    ChangeOperators,
    ChangePowers,
)
"""What changes whom the chain trusts, or what it may do."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one transaction: an answer, or the error that it was refused with."""

    answer: Any = None
    error: LianqiaoError | None = None
    size: int = 0
    """Size of the journal after it: part of what all replicas must agree on."""


@dataclass(slots=True)
class Outcome:
    """One executed block, not yet written."""

    block: BlockRow
    base: int
    """Size of the journal that it was executed on."""
    edge: Edge
    staged: Transaction
    results: list[Result]
    powers: list[Power]
    operators: ValidatorSet
    """In force after the block."""


class Execution:
    """Runs blocks of one chain on a store."""

    def __init__(self, store: Store, channel: Channel, origin: str) -> None:
        """`origin`: `id/epoch`, as headers name the chain."""
        self._store = store
        self._channel = channel
        self._origin = origin

    def block(self, height: int, time: int, transactions: Sequence[bytes], edge: Edge) -> Outcome:
        """Executes a block on the journal of `edge`. Raises what the database raises."""
        with self._store.reading() as tx:
            assert tx.size == edge.size, "a block is executed on the journal it follows"
            operators = operators_of(tx, self._channel.chain_id)
            results: list[Result] = []
            powers: dict[tuple[str, bytes], Power] = {}
            for raw in transactions:
                result = self._one(tx, raw, operators, time)
                results.append(result)
                operators = operators_of(tx, self._channel.chain_id)
                if isinstance(result.answer, tuple):
                    powers |= {(p.algorithm, p.key): p for p in result.answer}
            if recovery.any_due(tx, time):
                recovery.complete_due(self._channel.clients, tx, time)
            run_due(self._channel, tx, time)
            close_batch(self._channel, tx, time, TICK_SECONDS)
            carried = self._carried(list(powers.values()))
            return self._sealed(tx, height, time, edge, results, carried, operators)

    def _carried(self, powers: list[Power]) -> list[Power]:
        """What CometBFT is told to change: it stops for good where it should remove a validator
        that it does not have, such as one that came and went in this very block."""
        if not powers:
            return []
        with self._store.reading() as before:
            known = {(p.algorithm, p.key) for p in current_powers(before, self._channel.chain_id)}
        return [p for p in powers if p.power or (p.algorithm, p.key) in known]

    def _sealed(
        self,
        tx: Transaction,
        height: int,
        time: int,
        edge: Edge,
        results: list[Result],
        powers: list[Power],
        operators: ValidatorSet,
    ) -> Outcome:
        base = edge.size
        leaves = [entry_hash(path, value) for path, value in tx.entries]
        if leaves:
            edge, touched = extend(edge, leaves)
            tx.at_commit(lambda connection: write_tiles(connection, touched))
        block = BlockRow(height, time, edge.size, edge.root())
        tx.add(block)
        return Outcome(block, base, edge, tx, results, powers, operators)

    def _one(self, tx: Transaction, raw: bytes, operators: ValidatorSet, now: int) -> Result:
        start = tx.mark()
        try:
            asked = decode_asked(raw)
            verify_asked(asked, self._origin, operators, now)
            quorum = quorum_of(tx, self._channel.chain_id)
            self._admit(tx, asked, quorum)
        except LianqiaoError as err:
            tx.rollback(start)
            return Result(error=err, size=tx.size)
        mark = tx.mark()
        result = self._applied(tx, asked, now)
        if result.error is not None or tx.mark() == mark:
            return result
        if quorum == 1 or not self._by_several(asked.action):
            return result
        tx.rollback(mark)
        try:
            self._approve(tx, asked, operators, quorum, now)
        except LianqiaoError as err:  # the approval stays
            return Result(error=err, size=tx.size)
        return self._applied(tx, asked, now)

    def _applied(self, tx: Transaction, asked: Asked, now: int) -> Result:
        """What the action does; what it refuses is undone."""
        mark = tx.mark()
        try:
            answer = asked.action.apply(self._channel, tx, now)
            self._keep_answer(tx, getattr(asked.action, "request_id", ""))
            return Result(answer=answer, size=tx.size)
        except (Conflict, Unavailable):  # of the database, whatever was asked
            raise
        except CONTRACT_FAILURES as err:
            tx.rollback(mark)
            if not isinstance(err, LianqiaoError):
                _log.error("action_failed", kind=type(err).__name__, exc_info=err)
                err = LianqiaoError(Reason.INTERNAL, "the chain failed to do this; see its log")
            return Result(error=err, size=tx.size)

    def _keep_answer(self, tx: Transaction, request_id: str) -> None:
        """What a call is answered that is asked again decides what it does, so it is an entry, too:
        a replica that joins late must not be told another answer, or none."""
        row = tx.load(RequestRow, request_id) if request_id else None
        if row is not None:
            path = request_path(self._channel.chain_id, request_id)
            if tx.get(path) is None:
                tx.append(path, request_value(row.body_hash, row.response))

    def _admit(self, tx: Transaction, asked: Asked, quorum: int) -> None:
        """Whether an operator may ask for this at all; writes the nonce.

        Raises Denied(NOT_PERMITTED), Refused(REQUEST_ID_REUSED).
        """
        action = asked.action
        if not isinstance(action, PROVE_THEMSELVES + BY_ONE + BY_SEVERAL):
            raise Denied(Reason.NOT_PERMITTED, "the chain does this by itself")
        if isinstance(action, PROVE_THEMSELVES):
            return
        if isinstance(action, AnnounceSet):
            check_operators(action.next_set, quorum)
        path = nonce_path(asked)
        if tx.get(path) is not None:
            raise Refused(Reason.REQUEST_ID_REUSED, "this was asked for before")
        tx.append(path, asked.digest)

    def _approve(
        self, tx: Transaction, asked: Asked, operators: ValidatorSet, quorum: int, now: int
    ) -> None:
        """Counts an approval. Raises Refused(APPROVAL_PENDING) while there are too few."""
        chain_id = self._channel.chain_id
        proposal = agreed(asked.action, asked.encoded, self._channel, now)
        number = 0
        while tx.get(_decided(chain_id, proposal, number)) is not None:
            number += 1
        key = proposal + be64(number)
        tx.append(host_path(Kind.APPROVAL, asked.operator, key + be64(tx.size)), be64(now))
        since = announced(tx, chain_id)
        names = [v.name for v in operators.validators]
        young = [name for name in names if _approved(tx, name, key, since, now)]
        if len(young) < quorum:
            raise Refused(
                Reason.APPROVAL_PENDING,
                f"{len(young)} of {quorum} operators have asked for this: {', '.join(young)}",
                hint="the others repeat the very same command at their own nodes",
                approved=len(young),
                needed=quorum,
                proposal=proposal.hex(),
            )
        tx.append(_decided(chain_id, proposal, number), be64(now))

    def _by_several(self, action: Action) -> bool:
        if isinstance(action, Call | CallEach):
            contract = self._channel.contracts.get(action.port)
            return action.method in getattr(contract, "operator_methods", ())
        return isinstance(action, BY_SEVERAL)


def nonce_path(asked: Asked) -> bytes:
    """Where it is written that this was asked for."""
    return host_path(Kind.OPERATION, asked.operator, asked.nonce)


def _decided(chain_id: str, digest: bytes, number: int) -> bytes:
    return host_path(Kind.DECIDED, chain_id, digest + be64(number))


def _approved(tx: Transaction, operator: str, key: bytes, since: int, now: int) -> bool:
    """Whether the operator of that name approves: lately, and since these operators are in force.
    What was approved before was by whoever had the name, and the key, then."""
    base = host_path(Kind.APPROVAL, operator, key)
    found = tx.scan(base, base + b"\xff" * 9, MAX_APPROVALS)
    if not found or int.from_bytes(found[-1][0][-8:], "big") < since:
        return False
    return now - int.from_bytes(found[-1][1], "big") < APPROVAL_SECONDS
