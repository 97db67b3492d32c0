"""Everything the demonstration says, in English and in Chinese; a test holds the two complete."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "zh")

TEXTS: Mapping[str, tuple[str, str]] = {
    "honest": (
        "Keys held in one process show the arithmetic of a quorum, not independence: here four\n"
        "validator keys of each node lie in one directory on this machine. In production each key\n"
        "is held by an institution of its own (four or more), which verifies before it signs, and\n"
        "the operators of the connected ledgers co-sign as witnesses. For facts nobody needs to\n"
        "trust the relay; for decisions one trusts the quorum of its signers.",
        "同一进程内的密钥只能演示“法定多数”的计算,并不代表相互独立:这里每个节点的四把验证密钥\n"
        "都在本机同一目录下。正式部署时,每把密钥由不同机构(至少四家)各自保管,先核验、后签名;\n"
        "所连各链的运营方还作为见证方共同签署。对“事实”无需信任中继;对“决定”信任的是中继的法定多数。",
    ),
    "start": ("starting two ledgers and a relay", "正在启动两条账本和一个中继"),
    "connect": ("connecting them, loading the rules", "正在互连并载入规则"),
    "read": ("reading records at the door", "正在入口校验病历"),
    "attest": ("attesting on zj-medical", "在 zj-medical 上存证"),
    "relay": ("carried to the relay, proven", "带证明送达中继"),
    "decide": ("recognition asked by sh-medical, decided", "sh-medical 申请互认,逐项裁定"),
    "deliver": ("fetched from the source, checked", "从来源调阅并核对"),
    "bundle": ("writing bundles, verifying them offline", "正在写出证据包并离线核验"),
    "attack": ("attacking itself", "正在自我攻击"),
    "refused_at_door": ("refused at the door", "入口拒收"),
    "results": ("What became of the records", "病历处理结果"),
    "record": ("record", "病历"),
    "item": ("item", "项目"),
    "decision": ("decision", "裁定"),
    "why": ("why", "原因"),
    "delivered": ("delivered", "已送达"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "granted": ("recognised", "予以互认"),
    "not_granted": ("not eligible", "不予互认"),
    "more": ("… and {count} more items", "……另有 {count} 项"),
    "reasons": ("By reason", "按原因统计"),
    "reason": ("reason", "原因"),
    "meaning": ("in words", "说明"),
    "count": ("items", "项数"),
    "summary": (
        "{records} records attested, {items} items asked for: {granted} recognised, "
        "{refused} refused with a reason; {delivered} records delivered.",
        "存证 {records} 份,申请 {items} 项:互认 {granted} 项,附理由不予互认 {refused} 项;"
        "送达 {delivered} 份。",
    ),
    "hops": (
        "{packets} packets crossed {hops} hops; at each the receiver verified a header signed by "
        "more than 2/3 of the validators and a Merkle proof under it. None was taken on trust.",
        "共 {packets} 个数据包经过 {hops} 跳;每一跳都由接收方核验了超过 2/3 验证者签名的区块头"
        "及其下的默克尔证明,没有一跳靠信任。",
    ),
    "times": (
        "from request to decision: p50 {decided_p50} s, p99 {decided_p99} s; "
        "{rate} records a second from attestation to delivery, on this machine.",
        "从申请到裁定:p50 {decided_p50} 秒,p99 {decided_p99} 秒;本机从存证到送达每秒 {rate} 份。",
    ),
    "found": (
        "Found by identifier and consent at the source: {count} record(s); the query is in the "
        "patient's access log.",
        "凭证件号与知情同意在来源查得 {count} 份;该查询已记入患者的访问日志。",
    ),
    "outcomes": (
        "{count} outcomes reported, one of them a re-examination with its lawful reason (R2).",
        "已回报 {count} 份结果采用情况,其中一份依法说明理由后重新检查(R2)。",
    ),
    "as_expected": (
        "Every item was answered as its maker had foreseen.",
        "每一项的裁定都与预期一致。",
    ),
    "unexpected": ("NOT AS EXPECTED", "与预期不符"),
    "attacks": ("Attacks, each against the running nodes", "攻击演示(均针对正在运行的节点)"),
    "attack_name": ("what was tried", "攻击方式"),
    "answer": ("answer", "应答"),
    "all_refused": (
        "Every attack was refused for its own reason.",
        "所有攻击均被拒绝,且理由正确。",
    ),
    "left": (
        "Left in {directory}: {bundles} bundles, {records} delivered records, trust.json",
        "已保存于 {directory}:证据包 {bundles} 个、送达病历 {records} 份、trust.json",
    ),
    "verified": (
        "All bundles verify offline. Try it, with no network and no node:",
        "全部证据包均可离线核验。可在无网络、无节点的环境下自行验证:",
    ),
    "kept": (
        "Databases and logs are kept in {directory}/nodes",
        "数据库与日志保存在 {directory}/nodes",
    ),
    "failed": (
        "Something was not as it should be; databases and logs are in {directory}/nodes",
        "有结果与预期不符;数据库与日志见 {directory}/nodes",
    ),
}


class Words:
    """The texts of one language."""

    def __init__(self, language: str) -> None:
        """Raises KeyError for a language that is not in LANGUAGES."""
        if language not in LANGUAGES:
            raise KeyError(language)
        self.language = language
        self._index = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """One text, filled in."""
        return TEXTS[key][self._index].format(**values)
