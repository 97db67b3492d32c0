"""Actions have one encoding, and what is decoded does the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relay.action_bytes import decode_action, encode_action
from relay.actions import (
    Action,
    AnnounceSet,
    Call,
    CallEach,
    CancelRecovery,
    CompleteDue,
    CompleteRecovery,
    CreateBound,
    CreateClient,
    Deliver,
    ProposeRecovery,
    RegisterCounterparty,
    RunDue,
    SkipSequences,
    SubmitMisbehaviour,
    Tick,
)
from relay.chain import Delivery, Item, Step
from relay.deciding import ChangeOperators
from relay.errors import Malformed, Reason, Refused
from relay.light.types import Claim, ClientState
from relay.packet import Packet, Payload
from relay.powers import ChangePowers, Power
from tests.echo import Echo
from tests.refusals import refusing
from tests.world import World, keys_of, set_of

PACKET = Packet(7, "a-0", "b-0", 1_800_000_000, (Payload("p", "q", "v1", "json", b"{}"),))
STATE = ClientState("checkpoint", "zj/0")
ITEMS = (
    Item(Step.RECEIVE, PACKET),
    Item(Step.RECEIVE, PACKET, (), (Claim(b"\0path", b"value"), Claim(b"\0other", b""))),
    Item(Step.ACKNOWLEDGE, PACKET, (b"yes", b"no")),
    Item(Step.TIMEOUT, PACKET),
    Item(Step.EXPIRE, PACKET),
)
EVERY: list[Action] = [
    Deliver(
        (
            Delivery("a-0", (b"h1", b"h2"), 9, b"proof", ITEMS),
            Delivery("b-0", sent=(Claim(b"\0x", b"y"),)),
        )
    ),
    Call("port", "method", b"body", "id"),
    CallEach("port", "method", (b"one", b"", b"two")),
    CreateClient(STATE, b"header", "id"),
    CreateBound(STATE, b"header", "a-0", "id"),
    RegisterCounterparty("a-0", "b-0"),
    SubmitMisbehaviour("a-0", b"evidence"),
    ProposeRecovery("a-0", STATE, b"header", 3600),
    CancelRecovery("a-0"),
    CompleteRecovery("a-0"),
    CompleteDue(),
    RunDue(),
    SkipSequences("a-0", 12),
    AnnounceSet(set_of(keys_of("zj"), "zj")),
    Tick(),
    ChangeOperators(set_of(keys_of("zj"), "zj"), 3),
    ChangePowers((Power("ed25519", b"k" * 32, 3), Power("secp256k1", b"k" * 33, 0))),
]


@pytest.mark.parametrize("action", EVERY, ids=lambda a: type(a).__name__)
def test_an_action_comes_back_from_its_bytes(action: Action) -> None:
    raw = encode_action(action)
    assert decode_action(raw) == action
    for cut in range(len(raw)):
        with refusing(Reason.MALFORMED):
            decode_action(raw[:cut])
    with refusing(Reason.MALFORMED):
        decode_action(raw + b"\0")


def test_any_bytes_are_the_one_encoding_or_malformed() -> None:
    draw = random.Random(5)
    whole = [encode_action(action) for action in EVERY]
    taken = 0
    for _ in range(4000):
        raw = bytearray(draw.choice(whole))
        for _ in range(draw.randint(1, 3)):
            raw[draw.randrange(len(raw))] = draw.choice((0, 1, 255, draw.randrange(256)))
        try:
            action = decode_action(bytes(raw))
        except Malformed:
            continue
        taken += 1
        assert encode_action(action) == bytes(raw)
    assert taken > 100


def test_what_is_delivered_by_bytes_is_what_was_delivered(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("zj", "hub"):
        world.node(name, contracts=[Echo()])
    on_zj, on_hub = world.connect("zj", "hub")
    zj, hub = world.nodes["zj"], world.nodes["hub"]
    zj.call("echo", "send", f"{on_zj}\n{world.clock.now + 600}\nhello".encode())
    (step,) = world.chain("zj").packets(on_zj, -1, 10)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, step.packet)])
    action = decode_action(encode_action(Deliver((delivery,))))
    (done,) = hub.run(action)
    assert [str(item.outcome) for item in done.items] == ["done"]
    (again,) = hub.run(action)
    assert [str(item.outcome) for item in again.items] == ["noop"]
    with pytest.raises(Refused) as refused:
        hub.run(RegisterCounterparty(on_hub, "another-0"))
    assert refused.value.reason is Reason.COUNTERPARTY_EXISTS
    world.close()
