"""Headers of the chain as its light client takes them, from the local CometBFT; proofs from the
local database."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.cometbft.answers import signed_header_of, validator_of
from adapters.cometbft.engine.local_rpc import LocalRpc
from adapters.cometbft.light.bisection import plan
from adapters.cometbft.light.client import COMETBFT, make_header
from adapters.cometbft.light.proofs import JOURNAL
from adapters.cometbft.light.validators import make_set
from adapters.cometbft.light.zip215 import ED25519
from relay.errors import Malformed, NotFound, Reason
from relay.evidence import Evidence
from relay.light.types import ClientState, ClientType, Header, Threshold, ValidatorSet, Witness
from relay.store import CheckpointRow, Store
from relay.store.heads import Heads
from relay.tiles import TileCache

ALGORITHM = ED25519
TRUST_LEVEL = Threshold(1, 3)
ASSURANCE = "signed by more than 2/3 of the validators of a CometBFT chain"


class BlockEvidence(Evidence):
    """relay.evidence of a replica."""

    def __init__(self, store: Store, tiles: TileCache, shown: Heads, rpc: LocalRpc) -> None:
        super().__init__(store, tiles, shown)
        self._rpc = rpc

    @property
    def client_type(self) -> ClientType:
        """See Evidence."""
        return COMETBFT

    def client_state(self, origin: str) -> ClientState:
        """See Evidence."""
        return ClientState(
            COMETBFT.name, origin, algorithm=ALGORITHM, proof_kind=JOURNAL, assurance=ASSURANCE
        )

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = ALGORITHM,
        witnesses: Sequence[Witness] = (),
    ) -> list[bytes]:
        """See relay.chain.Chain.headers: as few as the trust level allows."""
        wanted = self._block_header(height)
        if not 0 < trusted_height < height:
            return [COMETBFT.encode_header(wanted)]
        found = plan(
            COMETBFT,
            self._block_header(trusted_height),
            height,
            lambda at: wanted if at == height else self._block_header(at),
            self._set,
            ALGORITHM,
            TRUST_LEVEL,
        )
        return [COMETBFT.encode_header(header) for header in found]

    def _block_header(self, height: int) -> Header:
        with self._store.read() as connection:
            if not 0 < height <= self._shown.newest(connection):
                raise NotFound(
                    Reason.HEIGHT_NOT_FOUND,
                    f"this replica has committed no block of height {height}",
                    hint="ask for the latest head, or for a height that a packet step names",
                    height=height,
                )
        block, commit = signed_header_of(self._rpc.commit(height)["signed_header"])
        return make_header(block, commit, self._set(height))

    def _set(self, height: int) -> ValidatorSet:
        return make_set(validator_of(one) for one in self._rpc.validators(height))

    # --- what belongs to checkpoints

    def first_height(self, origin: str) -> int:
        """The first block; a chain of this engine has one epoch."""
        return 1

    def announcements(self, low: int, high: int) -> list[int]:
        """None: the light client skips."""
        return []

    def signed(self, size: int) -> tuple[CheckpointRow, bytes]:
        """Raises NotFound(HEIGHT_NOT_FOUND): there are no checkpoints."""
        raise NotFound(Reason.HEIGHT_NOT_FOUND, "a replicated chain has headers, no checkpoints")

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Raises Malformed: heights of this chain are no sizes."""
        raise Malformed("a replicated chain is followed by its headers")
