"""An EVM ledger passes the suite of every adapter, in each variant of seals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.evm.light import rlp
from adapters.evm.light.client import present
from adapters.evm.light.header import IBFT1, IBFT2, QBFT, decode_body, split_header
from adapters.evm.light.validators import name_of
from adapters.evm.practice.seals import Sealer, extra, ring
from relay.chain import Chain, Delivery, Item, Step
from relay.light.types import Header, Signature
from relay.registry import connect_chain
from relay.steps import proven_paths
from tests.adapters.conformance import Conformance
from tests.adapters.evm.ledger import EvmLedger, install
from tests.echo import ECHO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ENOUGH = 3
"""Of four validators: as many seals as are needed, and no more."""
_EXTRA, _ROOT, _NUMBER, _TIME = 12, 3, 8, 11


class EvmSubject:
    """An EVM ledger with four validators, three of whom have sealed each header."""

    client_id = "checkpoint-0"

    def __init__(self, path: Path, variant: str) -> None:
        self.ledger = EvmLedger(path, [ECHO], variant, signers=ENOUGH)
        self.chain, self.state, self.variant = self.ledger.chain, self.ledger.state, variant

    def now(self) -> int:
        """See Subject."""
        return self.ledger.world.clock.now

    def advance(self, seconds: int) -> None:
        """See Subject."""
        self.ledger.world.clock.advance(seconds)

    def send(self, values: Sequence[bytes]) -> None:
        """See Subject."""
        until = self.now() + 600
        self.ledger.transact("Registry", "post", list(values), "recognition-1", until, False)

    def delivery(self, count: int) -> Delivery:
        """See Subject."""
        hub, on_hub = self.ledger.world.nodes["hub"], self.ledger.on_hub
        head = f"{on_hub}\n{self.now() + 600}\n".encode()
        sent = {int(hub.call("echo", "send", head + b"%d" % i)) for i in range(count)}
        local = self.ledger.world.chain("hub")
        items = tuple(
            Item(Step.RECEIVE, step.packet)
            for step in local.packets(on_hub, 0, 1000)
            if step.step is Step.SEND and step.packet.sequence in sent
        )
        status, height = self.chain.client(self.client_id), local.latest_height()
        headers = tuple(local.headers(status.latest_height, height, "secp256k1"))
        proof = local.prove(proven_paths(items), height)
        return Delivery(self.client_id, headers, height, proof, items)

    def forge(self, header: Header, *, signers: int = 0, **fields: object) -> bytes:
        """See Subject."""
        body = self._body(header.body, fields)
        sealers = self.ledger.anvil.sealers[: signers or len(header.signatures)]
        chain_id = str(fields.get("chain_id", header.chain_id))
        return self._present(body, sealers, chain_id, header)

    def usurp(self, header: Header) -> bytes:
        """See Subject."""
        usurpers = ring(4, "usurper")
        items = rlp.fields(rlp.decode(header.body), "header")
        seals = () if self.variant == QBFT else None
        items[_EXTRA] = extra(self.variant, [u.address for u in usurpers], None, seals)
        body = rlp.encode(items)
        return self._present(body, usurpers[:ENOUGH], header.chain_id, header)

    def stranger(self, header: Header) -> bytes:
        """See Subject."""
        (other,) = ring(1, "stranger")
        seal = other.seal(decode_body(self.variant, header.body).digest)
        more = Signature(name_of(other.address), self.variant, seal)
        signatures = (*header.signatures, more)
        return _encoded(replace(header, signatures=signatures))

    def nobody(self) -> Chain:
        """See Subject."""
        return connect_chain("evm", {**self.ledger.settings, "address": "127.0.0.1:9"})

    def _body(self, body: bytes, fields: dict[str, object]) -> bytes:
        items = rlp.fields(rlp.decode(body), "header")
        for name, at in (("height", _NUMBER), ("time", _TIME)):
            value = fields.get(name)
            if isinstance(value, int):
                items[at] = rlp.encode_integer(value)
        if isinstance(root := fields.get("root"), bytes):
            items[_ROOT] = root
        return rlp.encode(items)

    def _present(
        self, body: bytes, sealers: Sequence[Sealer], chain_id: str, header: Header
    ) -> bytes:
        """A body as the chain would show it, sealed anew, and as a light client is given it."""
        digest = decode_body(self.variant, body).digest
        items = rlp.fields(rlp.decode(body), "header")
        said = rlp.octets(items[_EXTRA], "extra data")
        vanity, tail = (said[:32], said[32:]) if self.variant == IBFT1 else (b"", said)
        parts = rlp.fields(rlp.decode(tail), "extra data")
        kept = parts if self.variant == IBFT2 else parts[:-1]
        items[_EXTRA] = vanity + rlp.encode([*kept, [s.seal(digest) for s in sealers]])
        raw = rlp.encode(items)
        assert split_header(self.variant, raw)[0] == body
        return present(self.variant, chain_id, header.validators.source, raw)


def _encoded(header: Header) -> bytes:
    from adapters.evm.light import CLIENT

    return CLIENT.encode_header(header)


@pytest.fixture(scope="module", params=[QBFT, IBFT2, IBFT1])
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EvmSubject]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = EvmSubject(tmp_path_factory.mktemp("evm"), request.param)
        yield made
        made.ledger.close()


class TestEvm(Conformance):
    """`evm`."""
