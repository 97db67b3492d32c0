"""The adapter `cometbft` passes the suite of all adapters.

The chain is a lianqiao node whose journal is under the app hash of headers that this test signs,
as the engine puts it there, served by an RPC on loopback: validators' keys in the test's hands. A
block's height is the size of the journal, so that it need not be replicated to be proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.cometbft.light.block import NOBODY, Timestamp
from adapters.cometbft.light.client import CometHeader, encode_light_block
from relay.chain import Chain
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.membership import journal_app_hash
from relay.light.types import Header
from relay.local import LocalChain
from relay.registry import connect_chain
from relay.server import start
from tests.adapters.cometbft.maker import STATE, block_header, commit_for, decoded, set_of
from tests.adapters.cometbft.rpc_server import RpcServer, Served
from tests.adapters.conformance import Conformance
from tests.adapters.subjects import ZJ, CheckpointSubject

CHAIN_ID = "zj/0"
NAMES = "abcd"


class CometSubject(CheckpointSubject):
    """The ledger `zj` behind headers of CometBFT, four validators of whom three sign."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "memory")
        self.state = replace(STATE, chain_id=CHAIN_ID)
        self._local = LocalChain(self.world.nodes[ZJ])
        self._rpc = RpcServer(Served(CHAIN_ID, self._header_at, self._local.latest_height))
        server = start(self.world.nodes[ZJ], clock=self.world.clock)
        self._stop = lambda: server.stop(0)
        node = f"127.0.0.1:{server.port}"
        self.chain = connect_chain("cometbft", {"address": self._rpc.address, "node": node})
        self.nobody = self._unreachable

    def _unreachable(self) -> Chain:
        return connect_chain("cometbft", {"address": "127.0.0.1:1"})

    def _header_at(self, height: int) -> CometHeader:
        below = CHECKPOINT.decode_header(self._local.headers(0, height)[-1])
        # A journal's heads may have equal seconds; blocks of a chain differ by nanoseconds.
        header = block_header(
            height,
            NAMES,
            chain_id=CHAIN_ID,
            time=Timestamp(below.time, height),
            app_hash=journal_app_hash(below.height, below.root),
        )
        validators = set_of(NAMES)
        return decoded(
            encode_light_block(header, commit_for(header, validators, "abc"), validators)
        )

    def forge(self, header: Header, *, signers: int = 0, **fields: object) -> bytes:
        """See Subject."""
        assert isinstance(header, CometHeader)
        if "time" in fields:
            fields["time"] = Timestamp(fields["time"])  # type: ignore[arg-type]
        if "root" in fields:
            fields["app_hash"] = fields.pop("root")
        block = replace(header.block, **fields)  # type: ignore[arg-type]
        count = signers or len(header.signatures)
        validators = set_of(NAMES)
        return encode_light_block(block, commit_for(block, validators, NAMES[:count]), validators)

    def usurp(self, header: Header) -> bytes:
        """See Subject."""
        assert isinstance(header, CometHeader)
        usurpers = set_of("wxyz")
        named = block_header(1, "wxyz").validators_hash
        block = replace(header.block, validators_hash=named)
        return encode_light_block(block, commit_for(block, usurpers, "wxyz"), usurpers)

    def stranger(self, header: Header) -> bytes:
        """See Subject."""
        assert isinstance(header, CometHeader)
        validators = set_of(NAMES)
        commit = commit_for(header.block, validators, "abc")
        more = commit_for(header.block, set_of("z"), "z").signatures
        places = (*commit.signatures, *more)
        assert NOBODY not in more
        return encode_light_block(header.block, replace(commit, signatures=places), validators)

    def close(self) -> None:
        """Ends servers and connections."""
        super().close()
        self._rpc.close()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CometSubject]:
    """One chain for all tests: they add and take nothing."""
    made = CometSubject(tmp_path_factory.mktemp("cometbft"))
    yield made
    made.close()


class TestCometbft(Conformance):
    """`cometbft`."""
