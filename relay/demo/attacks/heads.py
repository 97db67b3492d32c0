"""Attacks on heads: what the relay must not take for the newest head of a ledger.

Each starts from a genuine header that the relay has not seen, so that nothing is wrong with it but
what the attack changes; the first check that refuses is therefore the one that is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relay.chain import Delivery
from relay.demo.attacks.attacker import ORIGIN, Attacker, answer_of
from relay.errors import LianqiaoError
from relay.keys import SigningKey
from relay.light.checkpoint import encode_body, parse_body, sign_body
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.types import ClientState, Header, Signature, Validator, ValidatorSet
from relay.light.validators import set_hash, validator_set

ALGORITHM = "ed25519"
Keys = Sequence[tuple[str, SigningKey]]


def forged_signature(attacker: Attacker) -> tuple[str, str]:
    """Lines of enough validators, one of them made with a key that is not the validator's."""
    header = attacker.next_header()
    first, *others = header.signatures
    wrong = SigningKey.generate().sign(header.body)
    return attacker.give_header(replace(header, signatures=(replace(first, value=wrong), *others)))


def too_few_signers(attacker: Attacker) -> tuple[str, str]:
    """Lines of two validators of four, both genuine."""
    header = attacker.next_header()
    return attacker.give_header(replace(header, signatures=header.signatures[:2]))


def signer_twice(attacker: Attacker) -> tuple[str, str]:
    """Three genuine lines of two validators."""
    header = attacker.next_header()
    first, second, *_ = header.signatures
    return attacker.give_header(replace(header, signatures=(first, first, second)))


def old_head(attacker: Attacker) -> tuple[str, str]:
    """A genuine head that is older than what the relay knows, to hide what came after it."""
    old = attacker.next_header()
    attacker.grow()
    answer = attacker.give_header(attacker.next_header())
    if answer[0] != "DONE":
        return answer
    return attacker.give_header(replace(old, link=(), link_height=0))


def set_announced_by_few(attacker: Attacker) -> tuple[str, str]:
    """Two stolen keys announce the attacker's own set as the next one."""
    header, mine = attacker.next_header(), _own_set(_own_keys())
    body = replace(parse_body(header.body), next_set_hash=set_hash(mine))
    return attacker.give_header(_signed(header, encode_body(body), attacker.stolen_keys()[:2]))


def set_never_announced(attacker: Attacker) -> tuple[str, str]:
    """A head signed by the attacker's whole set, which no verified head announced."""
    header, keys = attacker.next_header(), _own_keys()
    mine = _own_set(keys)
    body = replace(parse_body(header.body), set_hash=set_hash(mine), next_set_hash=set_hash(mine))
    return attacker.give_header(_signed(replace(header, validators=mine), encode_body(body), keys))


def set_exchanged(attacker: Attacker) -> tuple[str, str]:
    """A genuine body, with the attacker's set shown in place of the one that it names."""
    header, keys = attacker.next_header(), _own_keys()
    forged = _signed(replace(header, validators=_own_set(keys)), header.body, keys)
    return attacker.give_header(forged)


def two_heads(attacker: Attacker) -> tuple[str, str]:
    """All four validators sign a second head of one size: a throw-away client of theirs freezes."""
    size = attacker.source.head().size
    (anchor,) = attacker.source.headers(0, size)
    client_id = attacker.asking.create_client(ClientState("checkpoint", ORIGIN), anchor)
    genuine = CHECKPOINT.decode_header(anchor)
    forked = encode_body(replace(parse_body(genuine.body), root=bytes(32)))
    second = CHECKPOINT.encode_header(_signed(genuine, forked, attacker.stolen_keys()))
    shown, _ = _give(attacker, client_id, second)
    attacker.asking.submit_misbehaviour(client_id, encode_evidence(Evidence(anchor, second)))
    frozen = attacker.asking.client(client_id).frozen
    attacker.grow()
    honest = attacker.source.headers(size, attacker.source.head().size)[-1]
    answered, detail = _give(attacker, client_id, honest)
    if shown != "HEAD_CONFLICT" or not frozen:
        return f"{shown}, {'frozen' if frozen else 'not frozen'}", detail
    return answered, f"shown the second head: {shown}; given both: frozen; since then: {detail}"


def false_accusation(attacker: Attacker) -> tuple[str, str]:
    """One genuine head and one that nobody signed: a client must not be stopped by strangers."""
    (raw,) = attacker.source.headers(0, attacker.source.head().size)
    header = CHECKPOINT.decode_header(raw)
    forked = encode_body(replace(parse_body(header.body), root=bytes(32)))
    stranger = SigningKey.generate()
    signatures = tuple(replace(s, value=stranger.sign(forked)) for s in header.signatures)
    second = CHECKPOINT.encode_header(_over(header, forked, signatures))
    evidence = encode_evidence(Evidence(raw, second))
    try:
        attacker.relay.submit_misbehaviour(attacker.client_id, evidence)
    except LianqiaoError as error:
        return str(error.reason), error.detail
    return "FROZEN", "a stranger stopped the relay's client"


def _give(attacker: Attacker, client_id: str, raw: bytes) -> tuple[str, str]:
    (result,) = attacker.asking.deliver([Delivery(client_id, (raw,))])
    return answer_of(result.headers)


def _own_keys() -> Keys:
    return [(f"attacker-{number}", SigningKey.generate()) for number in range(1, 5)]


def _own_set(keys: Keys) -> ValidatorSet:
    return validator_set([Validator(n, 1, ((k.algorithm, k.public),)) for n, k in keys])


def _signed(header: Header, body: bytes, keys: Keys) -> Header:
    """`header` with another body, signed by `keys`."""
    lines = [sign_body(name, key, body) for name, key in keys]
    signatures = tuple(Signature(n.name, ALGORITHM, n.value, 0, n.key_id) for n in lines)
    return _over(header, body, signatures)


def _over(header: Header, body: bytes, signatures: tuple[Signature, ...]) -> Header:
    # Only what is encoded counts: body, set, lines and link. The rest is recomputed by its reader.
    return replace(header, body=body, signatures=signatures)
