"""The demonstration attacks itself: what hostile relayers, validators and hospitals could try.

Each attack goes against the running nodes through their public calls, or against what a reader
holds in his hands, and names beforehand the reason for which it must be refused. What refuses it
is the product; nothing here judges a signature or a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from relay.demo.attacks import fetches, foreign, heads, packets, records
from relay.demo.attacks.attacker import Attacker
from relay.demo.stage import Stage
from relay.demo.story import Case, Progress
from relay.errors import LianqiaoError

__all__ = ["PLANS", "Attack", "run_attacks"]


@dataclass(frozen=True, slots=True)
class Attack:
    """What was tried and what the answer was."""

    name: str
    en: str
    zh: str
    expected: str
    answered: str
    detail: str

    @property
    def ok(self) -> bool:
        """Whether it was refused for its own reason."""
        return self.answered == self.expected


@dataclass(frozen=True, slots=True)
class Plan:
    """An attack before it is tried; `run` gives (answer, detail) or raises the refusal."""

    name: str
    en: str
    zh: str
    expected: str
    run: Callable[[Attacker], tuple[str, str]]


PLANS: tuple[Plan, ...] = (
    Plan(
        "changed-record",
        "one byte of a delivered record changed",
        "篡改已送达病历的一个字节",
        "RECORD_MISMATCH",
        records.changed_record,
    ),
    Plan(
        "changed-original",
        "one record attested, another deposited",
        "存证的是一份病历,存入的却是另一份",
        "RECORD_MISMATCH",
        records.changed_original,
    ),
    Plan(
        "changed-packet",
        "an attestation with a wider HR scope, under a new number",
        "擅自扩大互认范围的存证,换新序号提交",
        "INVALID_PROOF",
        packets.changed,
    ),
    Plan(
        "changed-bundle",
        "the same wider scope inside an evidence bundle",
        "在证据包内擅自扩大互认范围",
        "INVALID_PROOF",
        packets.changed_in_bundle,
    ),
    Plan(
        "replayed-packet",
        "a packet delivered a second time: nothing is written",
        "重放数据包:不产生任何写入",
        "NOOP",
        packets.replayed,
    ),
    Plan(
        "other-path",
        "a packet never sent, with the proof of another",
        "用他包的证明冒充从未发送的数据包",
        "INVALID_PROOF",
        packets.other_path,
    ),
    Plan(
        "other-client",
        "a packet that claims another sender's client",
        "冒充其他客户端发来的数据包",
        "COUNTERPARTY_MISMATCH",
        packets.other_client,
    ),
    Plan(
        "forged-signature",
        "a head with one forged validator signature",
        "伪造一名验证者对账本头的签名",
        "INVALID_SIGNATURE",
        heads.forged_signature,
    ),
    Plan(
        "too-few-signers",
        "a head signed by two of four validators",
        "四名验证者中仅两名签名的账本头",
        "QUORUM_NOT_REACHED",
        heads.too_few_signers,
    ),
    Plan(
        "signer-twice",
        "three signatures, one validator counted twice",
        "三个签名中同一验证者重复计数",
        "DUPLICATE_SIGNER",
        heads.signer_twice,
    ),
    Plan(
        "set-announced-by-few",
        "next validator set swapped, announced by two of four",
        "两名验证者擅自宣布更换下一届验证者集合",
        "QUORUM_NOT_REACHED",
        heads.set_announced_by_few,
    ),
    Plan(
        "set-never-announced",
        "a head signed by a validator set that nobody announced",
        "由从未宣布过的验证者集合签名的账本头",
        "NOT_ENOUGH_TRUST",
        heads.set_never_announced,
    ),
    Plan(
        "set-exchanged",
        "a genuine head shown with another validator set",
        "真实账本头配上被调换的验证者集合",
        "VALIDATOR_SET_MISMATCH",
        heads.set_exchanged,
    ),
    Plan(
        "old-head",
        "an older head, to hide what came after it",
        "出示旧账本头以隐瞒后续变更",
        "HEIGHT_NOT_MONOTONIC",
        heads.old_head,
    ),
    Plan(
        "two-heads",
        "two heads of one size: the client freezes, and takes nothing more",
        "同一高度的两个账本头:客户端冻结,不再接受任何更新",
        "CLIENT_FROZEN",
        heads.two_heads,
    ),
    Plan(
        "false-accusation",
        "a false accusation, to freeze an honest ledger's client",
        "诬告诚实账本以冻结其客户端",
        "NOT_MISBEHAVIOUR",
        heads.false_accusation,
    ),
    Plan(
        "unregistered-hospital",
        "a hospital that nobody registered attests",
        "未登记的医院存证",
        "NOT_PERMITTED",
        records.unregistered_hospital,
    ),
    Plan(
        "other-ledgers-attestation",
        "an attestation signed for another ledger",
        "把为他链签署的存证拿到本链使用",
        "CHAIN_ID_MISMATCH",
        records.other_ledgers_attestation,
    ),
    Plan(
        "other-ledgers-hospital",
        "another ledger's hospital attests here, and asks to be believed",
        "他链医院在本链存证并要求互认",
        "SRC_AUTH/OTHER_LEDGER",
        records.other_ledgers_hospital,
    ),
    Plan(
        "narrow-consent",
        "a request for items that the consent does not cover",
        "申请知情同意未涵盖的项目",
        "CONSENT/SCOPE",
        records.narrow_consent,
    ),
    Plan(
        "forged-statement",
        "a clinician's statement signed with a stranger's key",
        "用陌生密钥冒签医师声明",
        "PERSON/CLINICIAN",
        records.forged_statement,
    ),
    Plan(
        "stale-head",
        "a request while the source's newest head is too old (1 s allowed here)",
        "来源账本头已过时(此处限一秒)时申请互认",
        "HEAD_STALE",
        records.stale_head,
    ),
    Plan(
        "kept-back",
        "a retraction kept back, a younger head brought alone in its place",
        "扣住撤回通知,只送来更新的账本头",
        "HEAD_STALE",
        records.kept_back,
    ),
    Plan(
        "no-grant",
        "a fetch without a grant",
        "无授权调阅",
        "NO_GRANT",
        fetches.no_grant,
    ),
    Plan(
        "others-grant",
        "a fetch by another hospital's grant",
        "盗用他院授权调阅",
        "NO_GRANT",
        fetches.others_grant,
    ),
    Plan(
        "others-key",
        "a fetch in another hospital's name, under an own key",
        "以他院名义、自己的密钥调阅",
        "UNAUTHENTICATED",
        fetches.others_key,
    ),
    Plan(
        "replayed-fetch",
        "a genuine fetch sent a second time",
        "重放真实的调阅请求",
        "UNAUTHENTICATED",
        fetches.replayed,
    ),
    Plan(
        "honest-path",
        "and after all that: one more record, the honest way",
        "攻击之后:再按正常流程送达一份病历",
        "DELIVERED",
        records.honest_path,
    ),
)


_FOREIGN: Mapping[str, Callable[[Attacker], tuple[str, str]] | None] = {
    "forged-signature": foreign.forged_signature,
    "too-few-signers": foreign.too_few_signers,
    "signer-twice": foreign.signer_twice,
    "old-head": foreign.old_head,
    "false-accusation": foreign.false_accusation,
    # These need the keys of all validators, or a set that the signed part does not hold.
    "set-announced-by-few": None,
    "set-never-announced": None,
    "set-exchanged": None,
    "two-heads": None,
    # A chain that makes a block a second is never that old.
    "stale-head": None,
}
"""What is tried otherwise, or not, where the source is a chain of another kind."""


def plans_for(stage: Stage) -> tuple[Plan, ...]:
    """The attacks that make sense on a stage, in order."""
    if stage.foreign is None:
        return PLANS
    kept = [plan for plan in PLANS if _FOREIGN.get(plan.name, plan.run) is not None]
    plans = [replace(plan, run=_FOREIGN.get(plan.name) or plan.run) for plan in kept]
    changed = Plan(
        "changed-state",
        "a genuine head with the root of its state exchanged",
        "真实区块头中的状态根被调换",
        "INVALID_SIGNATURE",
        foreign.changed_state,
    )
    return (*plans[:-1], changed, plans[-1])


def run_attacks(
    stage: Stage, cases: Sequence[Case], progress: Progress, plans: Sequence[Plan] = ()
) -> list[Attack]:
    """Every attack in turn against the nodes of `stage`; the last row is the honest path again.

    `cases` are those of the story: the first that was delivered is what is tampered with.
    """
    attacker = Attacker(stage, next((case for case in cases if case.fetched is not None), None))
    done, plans = [], plans or plans_for(stage)
    for number, plan in enumerate(plans, 1):
        try:
            answered, detail = plan.run(attacker)
        except LianqiaoError as error:
            answered, detail = str(error.reason), error.detail
        done.append(Attack(plan.name, plan.en, plan.zh, plan.expected, answered, detail))
        progress("attack", number, len(plans))
    return done
