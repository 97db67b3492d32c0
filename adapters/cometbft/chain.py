"""A CometBFT chain by its nodes' RPC, as a chain: entry point `lianqiao.chains: cometbft`.

Headers come from several endpoints that are compared; proofs from them, or from the lianqiao API of
a node whose journal that chain replicates (setting `node`), which then also lists packets and takes
deliveries. Without such a node a chain can be followed and its state proven, but there is nobody to
deliver packets to. Everything is untrusted and verified by whoever receives it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

from adapters.cometbft.light.client import COMETBFT
from adapters.cometbft.light.proofs import ICS23, JOURNAL, TX
from adapters.cometbft.light.sent import next_sequence_path
from adapters.cometbft.light.zip215 import ED25519
from adapters.cometbft.push import Blocks
from adapters.cometbft.rpc import Endpoint, Endpoints
from adapters.cometbft.source import Source
from adapters.lianqiao.chain import LianqiaoChain
from adapters.lianqiao.chain import connect as connect_node
from relay.chain import Chain, ClientStatus, Delivery, DeliveryResult, PacketStep
from relay.errors import LianqiaoError, NotFound, Reason, Refused
from relay.light.types import Claim, Threshold, Witness
from relay.watch import VerifiedHead

MAX_ENDPOINTS = 16
MAX_BEHIND = 50
"""Blocks by which another endpoint may be ahead of the one that is asked first."""
_SETTINGS = ("address", "rpc", "node", "proof", "trust_level", "tls")


class CometChain:
    """relay.chain.Chain over RPC endpoints and, where there is one, a node. Thread-safe."""

    def __init__(
        self, source: Source, proof_kind: str, node: LianqiaoChain | None, *, tls: bool = False
    ) -> None:
        self.source = source
        self._proof_kind = proof_kind
        self._node = node
        self._tls = tls
        self._blocks: Blocks | None = None
        self._waiting = threading.Lock()
        self._chain_id = ""

    @property
    def chain_id(self) -> str:
        """What the first node that answers says; asked once."""
        if not self._chain_id:
            self._chain_id = self.source.endpoints.ask(lambda node: node.status())[0]
        return self._chain_id

    def latest_height(self) -> int:
        """See relay.chain.Chain. Of a chain whose node is asked for proofs, what both have."""
        newest = self.source.endpoints.ask(lambda node: node.status())[1]
        return newest if self._node is None else min(newest, self._node.latest_height())

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = ED25519,
        witnesses: Sequence[Witness] = (),
    ) -> Sequence[bytes]:
        """See relay.chain.Chain. Raises Invalid(HEAD_CONFLICT) where the endpoints show two."""
        return self.source.headers(trusted_height, height, algorithm)

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        return self._require_node(Reason.CLIENT_NOT_FOUND).client(client_id)

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain."""
        return self._require_node(Reason.CLIENT_NOT_FOUND).packets(client_id, after, limit)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain: by the kind of proof of the settings."""
        if self._proof_kind == ICS23:
            return self.source.prove_keys(paths, height)
        if self._proof_kind == TX:
            return self.source.prove_txs(paths, height)[0]
        return self._require_node(Reason.PATH_NOT_FOUND).prove(paths, height)

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain."""
        return self._require_node(Reason.CLIENT_NOT_FOUND).submit(deliveries)

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain."""
        if self._node is not None:
            return self._node.sent(client_id, height, before)
        if self._proof_kind != ICS23 or not client_id:
            return ()
        claim = self.source.read_key(next_sequence_path(client_id), height)
        # A packet that is on its way is not here yet: a later header is asked again.
        known = claim.value is not None and int.from_bytes(claim.value, "big") <= before
        return (claim,) if known else ()

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """See relay.watch.KnowingChain: what this chain's node has verified of others, and what
        each further endpoint shows of this chain itself, so that two histories are noticed, and a
        first one that has fallen behind, or keeps heights back."""
        found = [] if self._node is None else list(self._node.verified_heads(chain_ids))
        if self.chain_id not in chain_ids:
            return found
        behind, newest = False, self.source.endpoints.ask(lambda node: node.status())[1]
        for node in self.source.endpoints.others:
            try:
                header = self.source.header(node.status()[1], ED25519, node)
                found.append(VerifiedHead("", COMETBFT.encode_header(header)))
                behind = behind or header.height > newest + MAX_BEHIND
            except LianqiaoError:
                continue  # a witness that does not answer accuses nobody
        if behind:
            self.doubt()
        return found

    def doubt(self) -> None:
        """See relay.chain.DoubtedChain."""
        self.source.endpoints.doubt()

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """See relay.watch.KnowingChain."""
        if self._node is not None and client_id:
            self._node.accuse(client_id, evidence)

    def wait(self, client_id: str, after: int, seconds: float) -> bool:
        """See relay.pace.WaitingChain: for a step where there is a node, else for a block."""
        if self._node is not None:
            return self._node.wait(client_id, after, seconds)
        return self.wait_block(self.latest_height(), seconds)

    def wait_block(self, after: int, seconds: float) -> bool:
        """Waits, `seconds` at most, for a height above `after`: pushed, and polled for besides."""
        with self._waiting:
            if self._blocks is None:
                self._blocks = Blocks(
                    self.source.endpoints.first.address, self.latest_height, tls=self._tls
                )
            return self._blocks.wait(after, seconds)

    def close(self) -> None:
        """Ends every connection."""
        if self._blocks is not None:
            self._blocks.close()
        if self._node is not None:
            self._node.close()

    def _require_node(self, reason: Reason) -> LianqiaoChain:
        if self._node is not None:
            return self._node
        # Whether anybody answers at all comes first, as on every chain.
        self.source.endpoints.ask(lambda node: node.status())
        raise NotFound(
            reason,
            f"{self.chain_id} is only followed: no lianqiao node of it is configured",
            hint="give the setting `node`, or follow the chain without a lane (lane = false)",
        )


def connect(settings: Mapping[str, str]) -> Chain:
    """The chain whose nodes' RPC is at `address` and at the addresses of `rpc`, by commas.

    `node`: HOST:PORT of the lianqiao API of a node of that chain, or of several, by commas.
    `proof`: `journal` (default), `ics23` or `tx`. `trust_level`: `1/3`, or what the client pins.
    `tls`: `yes` for HTTPS. Whether anything answers shows at the first call. Raises
    Refused(CONFIG_INVALID).
    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise _invalid(f"the adapter cometbft knows no setting {unknown[0][:64]!r}")
    tls = settings.get("tls", "no")
    proof_kind = settings.get("proof", JOURNAL)
    if tls not in ("yes", "no") or proof_kind not in (JOURNAL, ICS23, TX):
        raise _invalid("tls is yes or no, proof is journal, ics23 or tx")
    addresses = [settings.get("address", ""), *filter(None, settings.get("rpc", "").split(","))]
    addresses = list(dict.fromkeys(address.strip() for address in addresses))
    if len(addresses) > MAX_ENDPOINTS:
        raise _invalid(f"at most {MAX_ENDPOINTS} endpoints")
    for address in addresses:
        _check_address(address)
    endpoints = Endpoints([Endpoint(address, tls=tls == "yes") for address in addresses])
    node = None
    if settings.get("node"):
        first, _, others = settings["node"].partition(",")
        made = connect_node({"address": first, "replicas": others})
        assert isinstance(made, LianqiaoChain), "that is what the adapter lianqiao makes"
        node = made
    level = _trust_level(settings.get("trust_level", "1/3"))
    return CometChain(Source(endpoints, level), proof_kind, node, tls=tls == "yes")


def _trust_level(text: str) -> Threshold:
    numerator, slash, denominator = text.partition("/")
    if slash and all(t.isascii() and t.isdigit() and len(t) < 7 for t in (numerator, denominator)):
        level = Threshold(int(numerator), int(denominator))
        if 0 < level.denominator <= 3 * level.numerator and level.numerator < level.denominator:
            return level
    raise _invalid("a trust level is a fraction from 1/3 to below 1, such as 1/3")


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    valid = bool(colon and host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not valid or len(address) > 256 or not all("!" <= c <= "~" for c in address):
        raise _invalid(f"the address of an RPC is HOST:PORT, and not {address[:64]!r}")


def _invalid(detail: str) -> Refused:
    return Refused(
        Reason.CONFIG_INVALID, detail, hint="adapters/cometbft/README.md shows every setting"
    )
