"""Headers and proofs of a CometBFT chain, put together from what its nodes answer.

There is no call for a light block: it is made of /commit and /validators. What two nodes show for
one height is compared (`compare`), so that a node which shows a second history is noticed where it
is asked, and the proof of it kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256

from adapters.cometbft.answers import Json, base64_bytes, elements, member, number
from adapters.cometbft.light import ics23, proofs, txproof
from adapters.cometbft.light.bisection import plan
from adapters.cometbft.light.client import COMETBFT, CometHeader, make_header
from adapters.cometbft.light.txproof import Result, TxPlace
from adapters.cometbft.rpc import Endpoint, Endpoints
from relay.errors import Invalid, LianqiaoError, Malformed, NotFound, Reason
from relay.light import merkle
from relay.light.misbehaviour import Evidence, encode_evidence, verify_misbehaviour
from relay.light.states import MAX_TRUSTING_PERIOD
from relay.light.types import Claim, ClientState, Header, Threshold, ValidatorSet

MAX_EVIDENCE = 16
"""Proofs of two histories that are kept in memory, at most."""
MAX_PATHS = 4096
MAX_VALUE_BYTES = 64 * 1024


class Source:
    """What is read of one chain. Thread-safe."""

    def __init__(self, endpoints: Endpoints, trust_level: Threshold) -> None:
        self.endpoints = endpoints
        self._trust_level = trust_level
        self.evidence: list[bytes] = []
        """Encoded evidence (`relay.light.misbehaviour`) against the chain, newest last."""

    def header(self, height: int, algorithm: str, node: Endpoint | None = None) -> CometHeader:
        """The header of a height with the votes of `algorithm` alone.

        Raises NotFound(HEIGHT_NOT_FOUND), Malformed, Unavailable.
        """
        if not 0 < height < 2**63:
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "heights begin with 1", height=height)
        read = _Reading(height)
        made = read(node) if node is not None else self.endpoints.ask(read)
        votes = tuple(s for s in made.signatures if s.algorithm == algorithm)
        return replace(made, signatures=votes)

    def validators(self, height: int) -> ValidatorSet:
        """The set that signs a height."""
        return self.endpoints.ask(lambda node: node.validators(height))

    def headers(self, trusted_height: int, height: int, algorithm: str) -> list[bytes]:
        """See relay.chain.Chain.headers: as few as skipping allows, compared with witnesses."""
        if trusted_height > height:
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "a client is led upwards", height=height)
        try:
            last = self.header(height, algorithm)
        except NotFound:
            self.endpoints.doubt()  # it may have told of heights that there are not
            raise
        self.compare(last, algorithm)
        if not 0 < trusted_height < height:
            return [COMETBFT.encode_header(last)]
        known = {height: last}

        def fetch(at: int) -> Header:
            return known[at] if at in known else self.header(at, algorithm)

        trusted = self.header(trusted_height, algorithm)
        level = self._trust_level
        try:
            found = plan(COMETBFT, trusted, height, fetch, self.validators, algorithm, level)
        except Invalid:
            self.endpoints.doubt()
            raise
        return [COMETBFT.encode_header(header) for header in found]

    def compare(self, header: CometHeader, algorithm: str) -> None:
        """Asks every other node for that height.

        Raises Invalid(HEAD_CONFLICT) where one shows another header that validators really signed;
        the evidence is kept. One that cannot be reached, or shows what nobody signed, accuses
        nobody.
        """
        for node in self.endpoints.others:
            try:
                other = self.header(header.height, algorithm, node)
            except LianqiaoError:
                continue
            if other.hash == header.hash:
                continue
            evidence = Evidence(COMETBFT.encode_header(header), COMETBFT.encode_header(other))
            if not _is_proof(header, evidence, algorithm):
                continue
            self.evidence = [*self.evidence, encode_evidence(evidence)][-MAX_EVIDENCE:]
            raise Invalid(
                Reason.HEAD_CONFLICT,
                f"{node.address} shows another header of height {header.height}, validly signed",
                hint="the chain signed two histories: lianqiao clients accuse, and its operators",
                height=header.height,
            )

    # --- proofs

    def prove_keys(self, paths: Sequence[bytes], height: int) -> bytes:
        """An ics23 proof for keys of the store `ibc` under the header of `height`.

        Raises NotFound(HEIGHT_NOT_FOUND), Malformed.
        """
        if not 0 < len(paths) <= MAX_PATHS:
            raise Malformed(f"a proof is for 1 to {MAX_PATHS} paths", reason=Reason.LIMIT_EXCEEDED)
        stores: Collection[bytes] = set()
        shown: list[bytes] = []
        for path in paths:
            store, one = self.endpoints.ask(_Query(path, height - 1))
            stores = {*stores, store}
            shown.append(one)
        if len(stores) != 1:
            raise Malformed("the nodes prove keys of one height under two roots")
        return proofs.encode_store_proof(next(iter(stores)), shown)

    def read_key(self, path: bytes, height: int) -> Claim:
        """What a node says stands at a key of the store `ibc` under the header of `height`; not
        proven by this. Raises NotFound(HEIGHT_NOT_FOUND), Malformed."""
        return self.endpoints.ask(lambda node: _Query(path, height - 1).claim(node))

    def prove_txs(self, hashes: Sequence[bytes], height: int) -> tuple[bytes, list[bytes]]:
        """(a tx proof under the header of `height`, the results as claims hold them).

        `hashes` are of transactions of the block before. Raises NotFound(PATH_NOT_FOUND) where one
        is not in it.
        """
        below = height - 1
        txs = self.endpoints.ask(lambda node: node.block_txs(below))
        results = [
            _result_of(one) for one in self.endpoints.ask(lambda node: node.block_results(below))
        ]
        if len(txs) != len(results):
            raise Malformed("a block has one result for each transaction")
        known = {sha256(tx).digest(): index for index, tx in enumerate(txs)}
        missing = [path for path in hashes if path not in known]
        if missing or not hashes:
            raise NotFound(Reason.PATH_NOT_FOUND, f"no such transaction in block {below}")
        encoded = [txproof.encode_result(result) for result in results]
        tx_tree = [merkle.leaf_hash(tx_hash) for tx_hash in known]
        result_tree = [merkle.leaf_hash(one) for one in encoded]
        if len(tx_tree) != len(txs):
            raise Malformed("a transaction stands twice in a block")
        places = [
            TxPlace(at, len(txs), _aunts(tx_tree, at), _aunts(result_tree, at))
            for at in (known[path] for path in hashes)
        ]
        upper, _ = self.endpoints.ask(lambda node: node.signed_header(height))
        lower, _ = self.endpoints.ask(lambda node: node.signed_header(below))
        proof = txproof.encode_tx_proof(upper, lower, places)
        return proof, [encoded[known[path]] for path in hashes]


class _Reading:
    """Reads one header of one node, set and all."""

    def __init__(self, height: int) -> None:
        self._height = height

    def __call__(self, node: Endpoint) -> CometHeader:
        block, commit = node.signed_header(self._height)
        made = make_header(block, commit, node.validators(self._height))
        # A node that contradicts itself is passed over for the next, rather than carried on.
        COMETBFT.decode_header(COMETBFT.encode_header(made))
        if COMETBFT.hash_validators(made.validators) != made.set_hash:
            raise Malformed(f"{node.address} shows a set that its header does not name")
        return made


class _Query:
    """Asks one node for the proof of one key: (proof of the store, proof in it)."""

    def __init__(self, path: bytes, height: int) -> None:
        self._path = path
        self._height = height

    def claim(self, node: Endpoint) -> Claim:
        """The value, or that there is none, as the node says."""
        value = self._response(node).get("value")
        return Claim(self._path, base64_bytes(value, "value", MAX_VALUE_BYTES) if value else None)

    def _response(self, node: Endpoint) -> Json:
        response = node.query(f"/store/{proofs.STORE.decode()}/key", self._path, self._height)
        if number(response.get("code", 0), "code"):
            raise NotFound(
                Reason.HEIGHT_NOT_FOUND,
                f"{node.address} does not prove that: {str(response.get('log'))[:200]}",
            )
        if number(response.get("height", 0), "height") != self._height:
            raise Malformed(f"{node.address} proves at another height than was asked for")
        return response

    def __call__(self, node: Endpoint) -> tuple[bytes, bytes]:
        response = self._response(node)
        operations = response.get("proofOps") or response.get("proof_ops")
        ops = elements(member(operations, "ops") if operations else None, "ops", 8)
        kinds = [member(op, "type") for op in ops]
        if kinds != ["ics23:iavl", "ics23:simple"]:
            raise Malformed(f"{node.address} gives no ics23 proof: its application has none")
        lower, upper = (
            base64_bytes(member(op, "data"), "data", ics23.MAX_PROOF_BYTES) for op in ops
        )
        return upper, lower


def _result_of(value: Json) -> Result:
    return Result(
        number(value.get("code", 0), "code"),
        base64_bytes(value.get("data"), "data", 16 * 1024 * 1024),
        number(value.get("gas_wanted", 0), "gas_wanted"),
        number(value.get("gas_used", 0), "gas_used"),
    )


def _aunts(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    rows = [list(leaves)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        pairs = [merkle.node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        rows.append(pairs + ([row[-1]] if len(row) & 1 else []))
    aunts = []
    for row in rows[:-1]:
        if index ^ 1 < len(row):
            aunts.append(row[index ^ 1])
        index >>= 1
    return tuple(aunts)


def _is_proof(header: Header, evidence: Evidence, algorithm: str) -> bool:
    """Whether both headers are really signed; the first is of the set that signs now."""
    state = ClientState(
        COMETBFT.name, header.chain_id, algorithm, trusting_period=MAX_TRUSTING_PERIOD
    )
    known = {header.set_hash, header.next_set_hash}
    try:
        verify_misbehaviour(COMETBFT, state, known, encode_evidence(evidence), header.time)
    except LianqiaoError:
        return False
    return True
