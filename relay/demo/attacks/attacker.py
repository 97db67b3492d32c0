"""What a hostile relayer or hospital has in hand: the public calls of every node, and stolen keys.

The demonstration holds the validators' key files, so it can show what their holders could do, few
or all of them together.
"""

from __future__ import annotations

import json
import os
import time
from functools import cache, cached_property

from relay.chain import Chain, Delivery, Item, Outcome, Submission
from relay.client import NodeClient
from relay.contracts.catalogue import shipped
from relay.demo.delivery import deliver_all
from relay.demo.generator import generate
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.demo.story import (
    Case,
    cases_of_generated,
    known_codes,
    request_all,
    wait_announced,
)
from relay.errors import Reason, Refused, Unavailable
from relay.keys import SigningKey
from relay.ledger_views import Deposit, SentPacket
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ClientType, Header
from relay.packet import Packet
from relay.record.attest import Attested, attest
from relay.registry import client_types, connect_chain
from relay.views import ClientView, Direction

SEED = 20_260_101
QUIET_SECONDS, QUIET_TRIES, GROW_TRIES = 0.05, 400, 8
ORIGIN = f"{SOURCE}/0"
NOWHERE = "127.0.0.1:9"
"""An address at which no node answers."""


def silent(step: str, done: int, of: int) -> None:
    """Progress of preparations, which nobody watches."""


def answer_of(done: Submission) -> tuple[str, str]:
    """(reason, or DONE or NOOP; detail) of what was handed over."""
    word = done.reason if done.outcome is Outcome.REFUSED else done.outcome.value.upper()
    return word, done.detail


def deposit_of(attested: Attested) -> Deposit:
    """What a hospital hands over of an attested record."""
    kept = attested.kept
    return Deposit(attested.attestation, kept.parts, kept.patient, kept.identifiers)


class Attacker:
    """One attacker on a running stage, with records of its own to attack."""

    def __init__(self, stage: Stage, delivered: Case | None = None) -> None:
        self.stage = stage
        self._delivered = delivered
        self._made = 0
        self._packet: SentPacket | None = None

    @property
    def source(self) -> NodeClient:
        """The ledger where records are attested."""
        return self.stage.node(SOURCE)

    @property
    def relay(self) -> NodeClient:
        """The relay."""
        return self.stage.node(RELAY)

    @property
    def asking(self) -> NodeClient:
        """The ledger that asks for recognition."""
        return self.stage.node(ASKING)

    # --- records

    def fresh(self) -> Case:
        """A new record that is eligible for every item, not attested yet."""
        self._made += 1
        now, catalogue = int(time.time()), json.loads(shipped())
        made = generate(catalogue, seed=SEED + self._made, now=now, count=1, share=0)
        return cases_of_generated(made)[0]

    def sign(self, case: Case, institution: str, signer: SigningKey, ledger: str) -> Attested:
        """A record salted, committed to and signed by anyone, for any ledger."""
        return attest(
            case.record,
            ledger=ledger,
            institution=institution,
            signer=signer,
            issued=int(time.time()),
            salts=lambda: os.urandom(32),
            known=known_codes(),
        )

    @cached_property
    def record(self) -> Case:
        """A good record of the attacker's own choice, attested and known to the relay."""
        case = self.fresh()
        case.attested = self.sign(case, case.hospital, self.stage.key(case.hospital), SOURCE)
        (view,) = self.source.attest([deposit_of(case.attested)], [RELAY])
        self._packet = view.packets[0]
        wait_announced(self.stage, [case], silent)
        return case

    def announcement(self) -> Packet:
        """The packet that told the relay of `record`."""
        assert self.record.attested is not None
        sent = self._packet
        assert sent is not None, "attesting `record` sent it"
        return self.source.packet(sent.client_id, sent.sequence, Direction.OUT).packet

    @cached_property
    def delivered(self) -> Case:
        """A record of the story, or `record`, fetched by the hospital that was granted it."""
        if self._delivered is not None:
            return self._delivered
        case = self.record
        request_all(self.stage, [case], int(time.time()), silent)
        deliver_all(self.stage, [case], silent)
        if case.fetched is None:
            raise Unavailable(Reason.NO_GRANT, f"the record was not delivered: {case.refusal}")
        return case

    # --- heads

    @cached_property
    def client_id(self) -> str:
        """The relay's own client of the source."""
        return next(
            view.client_id
            for view in self.relay.clients()
            if view.state.chain_id == ORIGIN and view.counterparty_client_id
        )

    def trusted(self) -> ClientView:
        """That client: what the relay knows of the source."""
        return self.relay.client(self.client_id)

    def grow(self) -> None:
        """Makes the source's journal longer: a record of its own that no relay is told of."""
        case = self.fresh()
        signed = self.sign(case, case.hospital, self.stage.key(case.hospital), SOURCE)
        self.source.attest([deposit_of(signed)])

    def next_header(self) -> Header:
        """A genuine header of the source, two heights or more above what the relay trusts."""
        for _ in range(GROW_TRIES):
            trusted, size = self.trusted().latest.height, self.source.head().size
            if size > trusted + 1:
                return CHECKPOINT.decode_header(self.source.headers(trusted, size)[-1])
            self.grow()
        raise Unavailable(Reason.CONFLICT, "the relay takes every head at once")

    def stolen_keys(self) -> list[tuple[str, SigningKey]]:
        """The validators' keys of the source."""
        return self.stage.validators(SOURCE)

    # --- a source of another kind

    @cache  # noqa: B019 - an attacker lives as long as the stage
    def foreign_chain(self) -> Chain:
        """The source's chain, through its adapter. Raises Refused on a stage that has none."""
        settings = self.stage.foreign
        if settings is None:
            raise Refused(Reason.NOT_PERMITTED, "the source is a lianqiao node here")
        return connect_chain(self.trusted().state.client_type, settings)

    def foreign_type(self) -> ClientType:
        """How its headers are read and written."""
        return client_types().named(self.trusted().state.client_type)

    # --- calls

    def give_header(self, header: Header) -> tuple[str, str]:
        """Hands a header to the relay's client of the source; what it answers."""
        raw = CHECKPOINT.encode_header(header)
        (result,) = self.relay.deliver([Delivery(self.client_id, (raw,))])
        return answer_of(result.headers)

    def give_item(self, item: Item, height: int, proof: bytes) -> tuple[str, str]:
        """Hands one item to the relay, under a head that it trusts already; what it answers."""
        delivery = Delivery(self.client_id, height=height, proof=proof, items=(item,))
        (result,) = self.relay.deliver([delivery])
        return answer_of(result.items[0])

    def sizes(self) -> tuple[int, ...]:
        """How long each journal is."""
        return tuple(node.head().size for node in (self.source, self.relay, self.asking))

    def wait_unreachable(self) -> None:
        """Until the relay's lane to the source, which leads nowhere, has found that out."""
        for _ in range(QUIET_TRIES):
            lanes = [lane for lane in self.relay.lanes() if lane.client_id == self.client_id]
            if [lane.reason for lane in lanes] == [Reason.CHAIN_UNREACHABLE]:
                return
            time.sleep(QUIET_SECONDS)
        raise Unavailable(Reason.CONFLICT, "the lane goes on")

    def wait_quiet(self) -> None:
        """Until no packet is on its way and no journal grows."""
        before: tuple[int, ...] = ()
        for _ in range(QUIET_TRIES):
            nodes = (self.source, self.relay, self.asking)
            sizes = self.sizes()
            if sizes == before and not any(node.status().packets_open for node in nodes):
                return
            before = sizes
            time.sleep(QUIET_SECONDS)
        raise Unavailable(Reason.CHAIN_UNREACHABLE, "packets are still on their way")
