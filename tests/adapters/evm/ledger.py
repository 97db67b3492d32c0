"""A real EVM (anvil) with an endpoint, re-sealed by test validators, beside a real relay."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.deploy import Deployed, deploy, deploy_endpoint
from adapters.evm.light import CLIENT
from adapters.evm.practice import chain as practice
from adapters.evm.practice.chain import ANVIL, KEY, find_anvil, npm_prefix
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.chain import Chain
from relay.errors import LianqiaoError
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import Witness
from relay.registry import connect_chain
from tests.adapters.evm.sealing import EPOCH, QBFT, Sealer, state_of
from tests.world import Clock, World, keys_of

__all__ = ["KEY", "EvmLedger", "SealedAnvil", "anvil_binary", "install"]


def anvil_binary() -> str:
    """The binary, fetched where npm is; skips, visibly, where it is not."""
    try:
        return find_anvil()
    except LianqiaoError as absent:
        if shutil.which("npm"):
            npm_prefix().mkdir(parents=True, exist_ok=True)
            subprocess.run(
                ["npm", "install", "--no-save", "--ignore-scripts", f"@foundry-rs/anvil@{ANVIL}"],
                cwd=npm_prefix(), capture_output=True, check=False, timeout=300,
            )  # fmt: skip
        try:
            return find_anvil()
        except LianqiaoError:
            if os.environ.get("LIANQIAO_NEVER_SKIP"):
                pytest.fail("anvil is absent", pytrace=False)
            pytest.skip(f"anvil is absent: {absent.hint}")


class SealedAnvil(practice.SealedAnvil):
    """The chain to practise on, at the time of a test's clock."""

    clock: Clock

    def __init__(self, clock: Clock, variant: str = QBFT, sealers: Sequence[Sealer] = ()) -> None:
        super().__init__(anvil_binary(), clock, variant, sealers)


class EvmLedger:
    """An EVM ledger with the registry, joined to the relay `hub`."""

    def __init__(
        self,
        path: Path,
        contracts: Sequence[Any],
        variant: str = QBFT,
        signers: int = 4,
        witnesses: Sequence[Witness] = (),
        quorum: int = 0,
        now: int = 0,
    ) -> None:
        self.world = World(path, Clock(now or int(time.time())))
        self.world.signers["hub"] = keys_of("hub", algorithm="secp256k1")
        self.hub = self.world.node("hub", "relay", contracts)
        self.anvil = SealedAnvil(self.world.clock, variant)
        self.anvil.signers = self.anvil.sealers[:signers]
        key = path / "sender.hex"
        key.write_text(KEY)
        self.rpc, self.sender = Rpc([self.anvil.address]), Sender(key, 10**12)
        local = self.world.chain("hub")
        raw = local.headers(0, local.latest_height(), "secp256k1")[-1]
        self.anchor = CHECKPOINT.decode_header(raw)
        self.endpoint: Deployed = deploy_endpoint(
            self.rpc, self.sender, "sz-money", self.anchor,
            witnesses=witnesses, witness_quorum=quorum,
        )  # fmt: skip
        self.registry = deploy(
            self.rpc, self.sender, "Registry", "0x" + self.endpoint.address.hex()
        )
        self.deployed = {"Endpoint": self.endpoint, "Registry": self.registry}
        self.settings = {
            "address": self.anvil.address,
            "endpoint": "0x" + self.endpoint.address.hex(),
            "variant": variant,
            "validators": f"header:{EPOCH}",
            "key": str(key),
            "from_block": "1",
        }
        if witnesses:
            named = [f"{w.name}={w.algorithm}:{w.key.hex()}" for w in witnesses]
            self.settings["witnesses"] = ",".join(named)
        self.chain: Chain = connect_chain("evm", self.settings)
        self.state = state_of(
            variant,
            endpoint="0x" + self.endpoint.address.hex(),
            code="0x" + self.endpoint.code_hash.hex(),
        )
        self.anvil.mine()
        head = self.chain.headers(0, self.chain.latest_height(), variant)[-1]
        self.on_hub = self.hub.create_client(self.state, head)
        self.hub.register_counterparty(self.on_hub, "checkpoint-0")
        self.transact("Endpoint", "registerCounterparty", self.on_hub)
        self.transact("Endpoint", "registerApp", "registry", "0x" + self.registry.address.hex())
        me = "0x" + self.sender.address.hex()
        self.transact("Registry", "registerInstitution", me, True)

    def data(self, contract: str, name: str, *arguments: Any) -> bytes:
        """The data of a call of a contract."""
        from adapters.evm.sdk import Web3

        abi = calls.artifacts()[contract]["abi"]
        fixed = [
            Web3.to_checksum_address(a)
            if isinstance(a, str) and len(a) == 42 and a[:2] == "0x"
            else a
            for a in arguments
        ]
        return bytes.fromhex(Web3().eth.contract(abi=abi).encode_abi(name, args=fixed)[2:])

    def transact(self, contract: str, name: str, *arguments: Any) -> dict[str, Any]:
        """Calls a contract as the operator; the receipt of a call that succeeded."""
        at = self.deployed[contract]
        receipt = self.sender.send(self.rpc, at.address, self.data(contract, name, *arguments))
        assert receipt["status"] == "0x1", (name, receipt)
        return receipt

    def reverts(
        self, contract: str, name: str, *arguments: Any, sender: bytes | None = None
    ) -> str:
        """The reason for which a call is refused; empty where it is not."""
        at = self.deployed[contract]
        data = self.data(contract, name, *arguments)
        done = self.rpc.call(at.address, data, sender=sender or self.sender.address)
        return calls.reason_of(done.data) if done.reverted else ""

    def _mined(self, sent: str) -> Any:
        for _ in range(600):
            receipt = self.anvil.ask("eth_getTransactionReceipt", sent)
            if receipt:
                return receipt
            time.sleep(0.05)
        raise AssertionError("not mined")

    def as_address(self, sender: bytes, to: bytes, data: bytes) -> int:
        """A call by an address whose key nobody has; the gas that it used."""
        frm = "0x" + sender.hex()
        self.anvil.ask("anvil_setBalance", frm, hex(10**20))
        self.anvil.ask("anvil_impersonateAccount", frm)
        self.anvil.tick()
        asked = {"from": frm, "to": "0x" + to.hex(), "data": "0x" + data.hex()}
        sent = self.anvil.ask("eth_sendTransaction", {**asked, "gas": hex(5_000_000)})
        receipt = self._mined(sent)
        assert receipt["status"] == "0x1", receipt
        return int(receipt["gasUsed"], 16)

    def close(self) -> None:
        """Ends everything."""
        self.anvil.close()
        self.world.close()


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nodes of a test world judge EVM chains."""
    monkeypatch.setitem(__import__("tests.world", fromlist=["TYPES"]).TYPES, "evm", CLIENT)
