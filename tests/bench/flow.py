"""The whole flow 1-3 on real nodes, for measuring, counting and searching: no mock anywhere.

Two ledgers and a relay (tests.world), each with its SQLite file, the contracts, the catalogue and
the policy of the demonstration, its generated records through the door and into the vault, and the
relayer that a relay runs. Only the clock is ours, and randomness is seeded: the same arguments do
the same work, so a pass that counts stands for a pass that is timed.

    deposit   door, salts, commitment, institution's signature, vault      (source institution)
    attest    row 1 on the source ledger
    relay     row 1 to the relay and its acknowledgement back
    sign      consent and request signed                                   (requesting institution)
    request   row 2 on the requesting ledger
    decide    row 2 to the relay, decision, row 3 (the grant) to the source, acknowledgements back
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from relay.canonical import decode, encode
from relay.chain import Chain, Delivery, DeliveryResult
from relay.contract import Contract
from relay.contracts.payloads import (
    Attestation,
    Consent,
    Decision,
    Notice,
    Purpose,
    RecognitionRequest,
    Setting,
    Signer,
)
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.registry import find_grant, find_request
from relay.demo.generator import Generated, generate
from relay.demo.hospitals import HOSPITALS, RECEIVERS, SOURCES, policy_documents
from relay.host import HostState
from relay.keys import SigningKey
from relay.local import LocalChain
from relay.node import Node
from relay.record.attest import Attested, attest, retraction
from relay.record.audit import AuditStore
from relay.record.door import record
from relay.record.vault import Vault
from relay.relayer import Relayer
from tests.world import Clock, World, keys_of

CATALOGUE = Path(__file__).parents[2] / "relay/contracts/catalogue/cn-laboratory.json"
SOURCE, RELAY, ASKING = "zj-medical", "relay-1", "sh-medical"
NODES = (SOURCE, RELAY, ASKING)
RECEIVER = RECEIVERS[0]
VAULT_KEY = bytes(range(32))
MAX_TURNS = 1000
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One generated record on its way, and all that was signed about it."""

    made: Generated
    attested: Attested
    amended: Attested | None = None
    request: RecognitionRequest | None = None

    @property
    def commitment(self) -> bytes:
        """The record's id."""
        return self.attested.attestation.commitment


class Watched:
    """A chain as it is, that notes what is submitted to it."""

    def __init__(self, inner: Chain) -> None:
        self.inner = inner
        self.chain_id = inner.chain_id
        self.submitted: list[Delivery] = []
        self.on_submit = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        results = self.inner.submit(deliveries)
        self.submitted += deliveries
        self.on_submit()
        return results


class Flow:
    """Three connected nodes with institutions and policy; `close()` when done."""

    def __init__(self, folder: Path, *, seed: int = 1, remote: str = "local") -> None:
        """`remote`: how the relay reaches the ledgers, `local` (in process) or `grpc`."""
        self.folder = folder
        self.world = World(folder, clock=Clock())
        self._random = Random(seed)
        self._seed = seed
        self._servers: list[Any] = []
        self.catalogue: Object = json.loads(CATALOGUE.read_text())
        self.known = {code for item in self.catalogue["items"] for code in item["codes"]}
        names = [h.id for h in HOSPITALS] + [h.doctor for h in HOSPITALS]
        self.keys = {name: keys_of(name, 1)[0] for name in names}
        for name in NODES:
            role, contract = ("relay", RECOGNITION) if name == RELAY else ("ledger", REGISTRY)
            self.world.node(name, role, [contract])
        for ledger in (SOURCE, ASKING):
            self.world.connect(RELAY, ledger)
        self._load_policy()
        self._register()
        self.vaults = {name: self._vault(name) for name in (SOURCE, ASKING)}
        self.audits = {name: self._audit(name) for name in (SOURCE, ASKING)}
        self.addresses: dict[str, str] = {}
        """Where a node is served, with `grpc`."""
        self.chains = {name: Watched(self._chain(name, remote)) for name in NODES}
        self.relayer = self._relayer()
        for lane in self.relayer.lanes:  # as in a network that has run for a minute
            lane.bring_complete(self.now)

    # --- the network

    def node(self, name: str) -> Node:
        """A node by its chain id."""
        return self.world.nodes[name]

    @property
    def now(self) -> int:
        """Seconds, the same on all nodes."""
        return self.world.clock.now

    def _vault(self, name: str) -> Vault:
        return Vault(self.folder / f"{name}-vault", VAULT_KEY, name, self._random.randbytes)

    def _audit(self, name: str) -> AuditStore:
        return AuditStore(self.folder / f"{name}-audit", VAULT_KEY, name, self._random.randbytes)

    def _chain(self, name: str, remote: str) -> Chain:
        if remote == "local":
            return LocalChain(self.node(name))
        from adapters.lianqiao.chain import connect
        from relay.server import start

        server = start(
            self.node(name),
            clock=self.world.clock,
            reflect=False,
            vault=self.vaults.get(name),
            audit=self.audits.get(name),
        )
        self._servers.append(lambda: server.stop(0))
        self.addresses[name] = f"127.0.0.1:{server.port}"
        if name == RELAY:
            return LocalChain(self.node(name))
        chain = connect({"address": self.addresses[name]})
        self._servers.insert(0, chain.close)  # type: ignore[attr-defined]
        return chain

    def _relayer(self) -> Relayer:
        relay = self.node(RELAY)
        lanes = [
            (self.world.clients[(RELAY, name)], self.chains[name]) for name in (SOURCE, ASKING)
        ]
        return Relayer(
            relay.store,
            self.chains[RELAY],  # type: ignore[arg-type]
            lanes,  # type: ignore[arg-type]
            heads_needed=relay.heads_needed,
            submit_misbehaviour=relay.submit_misbehaviour,
        )

    def _load_policy(self) -> None:
        keys = {name: (key.algorithm, key.public) for name, key in self.keys.items()}
        items = [item["item"] for item in self.catalogue["items"]]
        documents = policy_documents(self.now, keys, items, self.catalogue["name"])
        for document in (self.catalogue, *documents):
            self.node(RELAY).call("recognition", "policy.load", encode(document))

    def _register(self) -> None:
        year = 366 * 86_400
        for hospital in HOSPITALS:
            key = self.keys[hospital.id]
            dated = {
                "algorithm": key.algorithm,
                "end": self.now + year,
                "key": key.public.hex(),
                "start": self.now - year,
            }
            body = {"institution": hospital.id, "keys": [dated], "version": 1}
            self.node(hospital.ledger).call("registry", "institution.register", encode(body))

    def settle(self) -> int:
        """Turns of the relayer until one does nothing; how many did something."""
        for turn in range(MAX_TURNS):
            reports = self.relayer.tick(self.now)
            if all(report.idle and not report.more for report in reports):
                return turn
        raise AssertionError("the lanes do not rest")

    # --- the stages

    def generate(self, count: int, share: float) -> list[Generated]:
        """Records of the demonstration; `share` of them spoiled."""
        self._seed += 1
        return generate(self.catalogue, seed=self._seed, now=self.now, count=count, share=share)

    def deposit(self, made: Sequence[Generated]) -> list[Case]:
        """Reads, salts, commits to, signs and keeps records, and the amendments of some."""
        cases = []
        for one in made:
            first = self._attest(one, one.data)
            later = (
                self._attest(one, one.amendment, first.kept.commitment) if one.amendment else None
            )
            cases.append(Case(one, first, later))
        kept = [a.kept for case in cases for a in (case.attested, case.amended) if a]
        self.vaults[SOURCE].put(kept)
        return cases

    def _attest(self, one: Generated, data: bytes, previous: bytes = b"") -> Attested:
        return attest(
            record(data, one.name),
            ledger=SOURCE,
            institution=one.hospital.id,
            signer=self.keys[one.hospital.id],
            issued=self.now,
            salts=self.salt,
            known=self.known,
            previous=previous,
        )

    def salt(self) -> bytes:
        return self._random.randbytes(32)

    def attest(self, cases: Sequence[Case]) -> None:
        """Row 1 on the source ledger, one call; then what became of some of the records."""
        self._call("attest", [case.attested.attestation for case in cases])
        amended = [case.amended.attestation for case in cases if case.amended]
        if amended:
            self._call("amend", amended)
        retracted = [self._retraction(case) for case in cases if case.made.then == "retract"]
        if retracted:
            self._call("retract", retracted)

    def _retraction(self, case: Case) -> Attestation:
        hospital, attestation = case.made.hospital, case.attested.attestation
        return retraction(
            ledger=SOURCE,
            institution=hospital.id,
            signer=self.keys[hospital.id],
            issued=self.now,
            commitment=attestation.commitment,
            patient=attestation.patient,
        )

    def _call(self, method: str, attestations: Sequence[Attestation]) -> None:
        body = {"attestations": [a.to_json() for a in attestations], "relays": [RELAY]}
        self.node(SOURCE).call("registry", method, encode(body))

    def sign(self, cases: Sequence[Case]) -> list[Case]:
        """Consents and requests for all items of each record."""
        return [replace(case, request=self._request(case)) for case in cases]

    def _request(self, case: Case) -> RecognitionRequest:
        patient, clinician = SigningKey.from_seed(self.salt()), self.keys[RECEIVER.doctor]
        attestation = case.attested.attestation
        consent = Consent(
            records=(attestation.commitment,),
            patients=(),
            grantee=RECEIVER.id,
            purposes=(Purpose.TREAT,),
            scope=case.made.consent_scope,
            start=self.now - 60,
            end=self.now + 86_400,
            revocation=self.salt(),
            signer=Signer.PATIENT,
            signed_by="",
            algorithm=patient.algorithm,
            key=patient.public,
            signature=b"",
        )
        consent = replace(consent, signature=patient.sign(consent.signing_bytes()))
        request = RecognitionRequest(
            request=self.salt(),
            relay=RELAY,
            origin=ASKING,
            target=SOURCE,
            hops=1,
            commitment=attestation.commitment,
            patient=attestation.patient,
            parts=tuple(e.part for e in case.made.expected),
            institution=RECEIVER.id,
            clinician=RECEIVER.doctor,
            purpose=Purpose.TREAT,
            setting=Setting.OUTPATIENT,
            time=self.now,
            consent=consent,
            algorithm=clinician.algorithm,
            key=clinician.public,
            signature=b"",
        )
        return replace(request, signature=clinician.sign(request.signing_bytes()))

    def request(self, cases: Sequence[Case]) -> None:
        """Row 2 on the requesting ledger, all in one transaction."""
        bodies = [encode({"request": case.request.to_json()}) for case in cases if case.request]
        for answer in self.node(ASKING).call_each("registry", "request", bodies):
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(decode(answer), dict)

    # --- what came of it

    def reader(self, name: str, contract: Contract) -> Any:
        """A context with the keys of a node's contract, to be read."""
        return _reading(self.node(name), contract.port, self.now)

    def check(self, cases: Sequence[Case]) -> int:
        """Every decision is what the generator's oracle says, every grant is on the source ledger;
        how many grants there are."""
        granted = 0
        with self.reader(ASKING, REGISTRY) as asking, self.reader(SOURCE, REGISTRY) as source:
            for case in cases:
                assert case.request is not None
                decision = find_request(asking, case.request.request).decision
                assert decision is not None, f"{case.made.name} was not decided"
                assert _findings(decision) == [(e.part, e.findings) for e in case.made.expected]
                if decision.grant:
                    grant: Notice = find_grant(source, case.commitment, RECEIVER.id, self.now)
                    assert grant.grant == decision.grant
                    granted += 1
        return granted

    def close(self) -> None:
        """Stops servers and closes databases."""
        for stop in self._servers:
            stop()
        self.world.close()


class _reading:
    """The state of a contract, whose writes are dropped."""

    def __init__(self, node: Node, port: str, now: int) -> None:
        self._node, self._port, self._now = node, port, now
        self._context = node.store.reading()

    def __enter__(self) -> HostState:
        return HostState(self._node.channel, self._context.__enter__(), self._port, self._now)

    def __exit__(self, *raised: Any) -> None:
        self._context.__exit__(*raised)


def _findings(decision: Decision) -> list[tuple[int, tuple[str, ...]]]:
    return [(i.part, tuple(str(f) for f in i.reasons or i.flags)) for i in decision.items]


assert {h.ledger for h in SOURCES} == {SOURCE}
