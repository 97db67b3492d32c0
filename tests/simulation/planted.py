"""Bugs planted into the product, one at a time: the simulation must find each.

A bug is an edit of the product's own source (tests.simulation.planting). Where the journal's
write-once paths or the database's keys would stop a bug before it did harm, a second form of it
goes around them: both must be found.

`invariants` are what must find it (one of several where the harm shows in several ways first). Each
invariant that the simulation knows has a bug that it alone finds (tests.simulation.test_planted).
`within` is the number of seeds, from 0 on, among which one finds it: as many as miss it once in a
thousand draws, by how often seeds found it on 2026-11-27 (tests.simulation.measure). A limit of 280
is that of a bug which one seed in forty found.
"""

from __future__ import annotations

import relay.actions
import relay.light.client
import relay.light.quorum
import relay.light.sent
import relay.recovery
import relay.sent
from relay.channel import Channel
from relay.clients import Client, Clients
from relay.cosigning import Cosigning
from relay.heads import Heads
from relay.lane import Side
from relay.node import Node
from relay.proven import Proven
from relay.signing import CheckpointSigner
from relay.store.cosignatures import Shown
from relay.witness import Witness
from tests.simulation import harm
from tests.simulation.planting import Bug, Edit

_REFUSE_TIMEOUT = """    if now >= packet.timeout_timestamp:
        raise Refused("""
_REFUSE_EARLY = """    if now < packet.timeout_timestamp:
        raise Refused("""

BUGS = (
    # --- what a receiver does
    Bug(
        "no receipt check: the journal's write-once path stops it",
        ("reasons", "no fault of ours"),
        5,
        (Edit(Channel, "receive", "if written is not None:", "if False:"),),
    ),
    Bug("no receipt check, and nothing else stops it", ("once",), 10, (harm.RECEIVES_AGAIN,)),
    Bug(
        "receipt written after the contract, in another transaction",
        ("once",),
        25,
        (harm.RECEIPT_LATER,),
    ),
    Bug(
        "received without a proof",
        ("forged", "fsck", "deceived"),
        5,
        (Edit(Channel, "receive", "_, delivery = proven.require()", "delivery = 0"),),
    ),
    Bug(
        "membership is never verified",
        ("forged", "verbs", "time", "deceived"),
        100,
        (harm.PROVES_ALL,),
    ),
    Bug("signatures are never verified", ("forged", "reasons", "deceived"), 20, (harm.SIGNS_ALL,)),
    Bug(
        "counterparty not compared",
        ("forged", "deceived"),
        30,
        (
            Edit(
                Channel,
                "_check_counterparty",
                "packet.destination_client != row.client_id or "
                "packet.source_client != row.counterparty",
                "packet.destination_client != row.client_id",
            ),
        ),
    ),
    Bug(
        "received after the timeout",
        ("time",),
        10,
        (Edit(Channel, "receive", _REFUSE_TIMEOUT, "    if False:\n        raise Refused("),),
    ),
    Bug(
        "a failed contract keeps what it wrote",
        ("once",),
        5,
        (Edit(Channel, "_run_contracts", "tx.rollback(mark)", "pass"),),
    ),
    Bug(
        "sentinel written without checking the receipt",
        ("reasons",),
        20,
        (Edit(Channel, "expire", "if written is not None:", "if False:"),),
    ),
    Bug(
        "sentinel written before the timeout",
        ("time",),
        20,
        (Edit(Channel, "expire", _REFUSE_EARLY, "    if False:\n        raise Refused("),),
    ),
    Bug(
        "sentinel written for a packet that was never sent",
        ("forged", "fsck", "deceived"),
        10,
        (Edit(Channel, "expire", "_, delivery = proven.require()", "delivery = 0"),),
    ),
    Bug(
        "what was shown first under a sequence is kept for what was received",
        ("forged", "reasons"),
        25,
        (harm.KEEPS_THE_FIRST,),
    ),
    Bug(
        "a delivery is kept without its proof",
        ("fsck",),
        10,
        (Edit(Proven, "_verify", "proof=delivery.proof,", 'proof=b"",'),),
    ),
    Bug(
        "a deferred packet is kept as answered, until it is",
        ("fsck",),
        20,
        (
            Edit(
                Channel,
                "receive",
                "delivery=delivery,",
                'delivery=delivery, acknowledgements=encode_acknowledgements([b"later"]),',
            ),
        ),
    ),
    # --- what a sender does
    Bug(
        "an acknowledgement from after the timeout is taken for a timeout",
        ("verbs",),
        20,
        (
            Edit(
                Channel,
                "acknowledge",
                "_, delivery = proven.require()\n",
                "consensus, delivery = proven.require()\n"
                "    if consensus.time >= packet.timeout_timestamp:\n"
                "        return self.timeout(tx, packet, proven, now)\n",
            ),
        ),
    ),
    Bug(
        "packets are sent to a chain that cannot be judged any more",
        ("expired",),
        35,
        (
            Edit(
                Channel,
                "send",
                "client.check_active(self.clients.latest(tx, client), now)",
                "client.check_active(self.clients.latest(tx, client), 0)",
            ),
        ),
    ),
    Bug(
        "no dedupe of acknowledgements: the journal's write-once path stops it",
        ("reasons",),
        10,
        (Edit(Channel, "_open", " or row.state is not PacketState.SENT", ""),),
    ),
    Bug(
        "no dedupe of acknowledgements, and nothing stops it",
        ("once", "reasons"),
        10,
        (harm.TOLD_AGAIN,),
    ),
    Bug(
        "acknowledged without a proof",
        ("verbs", "fsck", "deceived"),
        5,
        (Edit(Channel, "acknowledge", "_, delivery = proven.require()", "delivery = 0"),),
    ),
    Bug(
        "timeout without looking at the time of the proof",
        ("time",),
        280,
        (Edit(Channel, "timeout", "consensus.time < packet.timeout_timestamp", "False"),),
    ),
    Bug(
        "a failed callback keeps what it wrote",
        ("once",),
        15,
        (Edit(Channel, "_call_back", "tx.rollback(mark)", "pass"),),
    ),
    Bug(
        "a request id is not remembered",
        ("users",),
        20,
        (
            Edit(
                relay.actions,
                "_once",
                "tx.add(RequestRow(request_id, digest, answer, tx.size))",
                "",
            ),
        ),
    ),
    # --- clients
    Bug(
        "evidence is taken and the client not frozen",
        ("frozen", "liveness"),
        50,
        (Edit(Clients, "freeze", "tx.save(replace(client.row, frozen=index + 1))", "pass"),),
    ),
    Bug("evidence leaves no trace", ("frozen",), 50, (harm.FREEZES_NOTHING,)),
    Bug(
        "a frozen client is active",
        ("frozen",),
        280,
        (Edit(Client, "check_active", "self.row.frozen != 0", "False"),),
    ),
    Bug(
        "anything is evidence",
        ("liars",),
        35,
        (harm.ALL_IS_EVIDENCE,),
    ),
    Bug(
        "fold-breaking update of a client's row",
        ("fold",),
        10,
        (Edit(Clients, "update", "latest_time=verified.time", "latest_time=verified.time + 1"),),
    ),
    Bug(
        "fold-breaking update of a packet's row",
        ("fold",),
        10,
        (Edit(Channel, "_close", "closed_index=index", "closed_index=index - 1"),),
    ),
    Bug("consensus states are pruned too soon", ("heads",), 15, (harm.FORGETS_HEADS,)),
    Bug(
        "a head is kept with the hash of the one before",
        ("forged",),
        5,
        (
            Edit(
                Clients,
                "update",
                "encode_consensus_state(verified)",
                "encode_consensus_state(replace(verified, header_hash=trusted.header_hash))",
            ),
        ),
    ),
    Bug(
        "a header is from the future in the second that it is of",
        ("reasons", "deceived"),
        10,
        (
            Edit(
                relay.light.client,
                "verify_header",
                "_check_not_from_future(client_type, state, header, now)",
                "_check_not_from_future(client_type, state, header, now - 1 - state.clock_drift)",
            ),
        ),
    ),
    # --- what a forger alone shows
    Bug(
        "a head that too few have signed is believed",
        ("deceived",),
        10,
        (
            Edit(
                relay.light.quorum,
                "verify_commit",
                "if not is_reached(state.threshold, header.validators, names):",
                "if False:",
            ),
        ),
    ),
    Bug(
        "what was stated to somebody else is taken",
        ("deceived", "complete"),
        25,
        (
            Edit(
                relay.light.sent,
                "read_sent",
                "path[:-_NUMBER] != sent_prefix(client_id)",
                "False",
            ),
        ),
    ),
    Bug(
        "everything is said to be here, whatever is missing",
        ("complete",),
        85,
        (Edit(relay.sent, "take_sent", "here + closed < end - first", "False"),),
    ),
    # --- the node
    Bug(
        "signature before commit",
        ("one body",),
        10,
        (harm.SIGNS_EARLY,),
    ),
    Bug(
        "high-water mark skipped",
        ("high-water mark",),
        10,
        (Edit(CheckpointSigner, "sign", "self._mark.raise_to(size, body)", "pass"),),
    ),
    Bug(
        "an old copy starts",
        ("stale restore",),
        280,
        (Edit(Heads, "__init__", "signer.check_not_stale(last.size, last.body)", "pass"),),
    ),
    Bug(
        "time goes back with the clock",
        ("one body", "reasons"),
        60,
        (Edit(Node, "_commit", "max(self._clock(), last.time)", "self._clock()"),),
    ),
    Bug(
        "what a failed signature left is not signed",
        ("liveness", "reasons"),
        35,
        (
            Edit(Heads, "committed", "bool(self.last.note)", "True"),
            Edit(Node, "_run_group", "self._heads.sign()  #", "pass  #"),
        ),
    ),
    Bug(
        "a conflict is taken for an answer",
        ("reasons", "liveness", "no fault of ours", "users"),
        10,
        (Edit(Node, "_commit_once", "except Conflict:", "except KeyError:"),),
    ),
    Bug(
        "an announced set signs too early",
        ("reasons", "fsck", "no fault of ours", "liveness"),
        15,
        (
            Edit(
                Node,
                "_commit",
                "seal(tx, edge, self.origin, now, set_now, announced)",
                "seal(tx, edge, self.origin, now, announced, announced)",
            ),
        ),
    ),
    Bug(
        "changes of the set are not shown",
        ("reasons", "liveness"),
        40,
        (harm.HIDES_CHANGES,),
    ),
    # --- witnesses
    Bug(
        "a witness forgets what it has co-signed",
        ("witness memory",),
        25,
        (Edit(Witness, "add_checkpoint", "self._seen.save(origin, header)", "pass"),),
    ),
    Bug(
        "a witness remembers after it has co-signed",
        ("witness memory", "no fault of ours"),
        25,
        (harm.REMEMBERS_LATER,),
    ),
    Bug(
        "a witness co-signs whatever it is shown",
        ("one history",),
        125,
        (harm.COSIGNS_ALL,),
    ),
    Bug(
        "a head is believed without its witnesses",
        ("witnessed",),
        40,
        (Edit(relay.light.client, "verify_commit", "< state.witness_quorum", "< 0"),),
    ),
    Bug(
        "heads are shown before they are co-signed",
        ("reasons",),
        35,
        (Edit(Shown, "newest", "if not self.quorum:", "if True:"),),
    ),
    Bug(
        "nobody asks a witness again that failed once",
        ("liveness",),
        45,
        (
            Edit(
                Cosigning,
                "tick",
                "self._failures += 1",
                "self._failures, self._not_before = 1, 1 << 60",
            ),
        ),
    ),
    # --- recovery
    Bug(
        "an expired client judges on",
        ("expired", "reasons"),
        45,
        (
            Edit(
                relay.light.client, "_check_not_expired", "now >= expires(state, trusted)", "False"
            ),
        ),
    ),
    Bug(
        "a recovery is completed at once",
        ("recovery",),
        45,
        (
            Edit(relay.recovery, "complete", "if now < proposal.due:", "if False:"),
            Edit(relay.recovery, "any_due", "_proposal(tx, row).due <= now", "True"),
        ),
    ),
    Bug(
        "a recovery forgets what was sent",
        ("fold", "once", "no fault of ours", "verbs", "reasons", "fsck"),
        45,
        (
            Edit(
                relay.recovery,
                "complete",
                "recovered=client.row.recovery,",
                "recovered=client.row.recovery, next_sequence=1,",
            ),
        ),
    ),
    # --- the relayer
    Bug(
        "cursor moved before the delivery",
        ("liveness",),
        10,
        (
            Edit(
                Side,
                "_finish",
                "    answers = self._deliveries",
                "    self._outbox.save(self.lane, self.name, cursor=cursor)\n"
                "    answers = self._deliveries",
            ),
        ),
    ),
    Bug(
        "a refusal finishes a step",
        ("liveness",),
        10,
        (harm.GIVES_UP,),
    ),
    Bug(
        "nobody expires a packet that came too late",
        ("liveness",),
        10,
        (harm.NEVER_EXPIRES,),
    ),
    Bug(
        "what was decided meanwhile is tried for ever",
        ("liveness",),
        10,
        (harm.NEVER_SETTLES,),
    ),
    Bug(
        "updates are answered with updates",
        ("liveness",),
        10,
        (harm.ALWAYS_DUE,),
    ),
)
