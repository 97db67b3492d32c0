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
    "honest_evm": (
        "The source's ledger is a real EVM (anvil) which seals nothing itself: its headers are\n"
        "sealed by four test validators of one process. The endpoint, the proofs and the light\n"
        "client are those of a consortium chain; its consensus is not shown here.",
        "来源账本是真实的 EVM(anvil),其自身并不签封区块:区块头由同一进程内的四名测试验证者签封。\n"
        "端点合约、证明与轻客户端与联盟链所用相同;其共识过程在此不作演示。",
    ),
    "start": ("starting two ledgers and a relay", "正在启动两条账本和一个中继"),
    "connect": ("connecting them, loading the rules", "正在互连并载入规则"),
    "attest": ("attested on zj-medical", "在 zj-medical 上存证"),
    "relay": ("carried to the relay, proven", "带证明送达中继"),
    "find": ("found at the source, by consent", "凭知情同意在来源查得"),
    "decide": ("recognition asked by sh-medical, decided", "sh-medical 申请互认,逐项裁定"),
    "deliver": ("fetched from the source, checked", "从来源调阅并核对"),
    "outcome": ("outcomes reported", "回报采用或复查结果"),
    "bundle": ("bundles and records written", "写出证据包与送达病历"),
    "verify": ("bundles verified by lianqiao verify", "由 lianqiao verify 离线核验证据包"),
    "attack": ("attacking itself", "正在自我攻击"),
    "refused_at_door": ("refused at the door", "入口拒收"),
    "own_records": (
        "Your records are attested in the name of {hospital}. Nobody knows beforehand what they\n"
        "must be answered: the rules of the demonstration decide. A result without an HR mark, or\n"
        "of a laboratory that these rules do not name, is refused with that reason.",
        "您的病历以“{hospital}”的名义存证。其结果没有预设答案,由演示规则裁定:没有互认标识(HR),\n"
        "或实验室不在演示规则名单内的项目,会附理由不予互认。",
    ),
    "results": ("What became of the records", "病历处理结果"),
    "first_results": ("The first records", "前若干份病历"),
    "record": ("record", "病历"),
    "items": ("items", "项目"),
    "decision": ("decision", "裁定"),
    "why": ("why", "原因"),
    "delivered": ("delivered", "已送达"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "granted": ("recognised", "予以互认"),
    "not_granted": ("not eligible", "不予互认"),
    "comma": (", ", "、"),
    "and_more": (" and {count} more", "等(另 {count} 项)"),
    "more": ("… and {count} more rows", "……另有 {count} 行"),
    "reasons": ("Items by decision and reason", "按裁定与原因统计的项目"),
    "reason": ("reason", "原因"),
    "meaning": ("in words", "说明"),
    "count": ("items", "项数"),
    "summary": (
        "{records} records attested, {items} items asked for: {granted} recognised, "
        "{refused} refused with a reason; {delivered} records delivered.",
        "存证 {records} 份,申请 {items} 项:互认 {granted} 项,附理由不予互认 {refused} 项;"
        "送达 {delivered} 份。",
    ),
    "ways": (
        "{cards} patients brought their card; for {found} the source was asked, with their "
        "consent. Every query and every fetch is in the patient's access log.",
        "{cards} 位患者出示凭证卡;另有 {found} 位经其同意向来源查询。"
        "每次查询与调阅均记入患者的访问日志。",
    ),
    "outcomes": (
        "Of the records delivered, {adopted} were adopted; {count} were examined again, each for a "
        "lawful reason ({why}). Nothing forbids that; the reason is mandatory and counted.",
        "送达的病历中 {adopted} 份被采用;{count} 份依法说明理由后重新检查({why})。"
        "复查不受阻止,但必须说明理由并计入统计。",
    ),
    "hops": (
        "Each of the {bundles} bundles was verified offline: {hops} signed heads, {signatures} "
        "validator signatures, a Merkle proof under each head for {claims} facts in all. The nodes "
        "had verified the same, hop by hop, before anything took effect.",
        "{bundles} 个证据包均已离线核验:签名账本头 {hops} 个、验证者签名 {signatures} 个,"
        "各账本头之下的默克尔证明共证实 {claims} 项事实。各节点在生效之前已逐跳核验过同样的内容。",
    ),
    "times": (
        "From attestation to delivery: p50 {p50} s, p99 {p99} s under this load; {rate} records a "
        "second through the whole flow, on this machine.",
        "从存证到送达:在此负载下 p50 {p50} 秒,p99 {p99} 秒;本机全流程每秒 {rate} 份。",
    ),
    "as_expected": (
        "Every item was answered as its maker had foreseen.",
        "每一项的裁定都与预期一致。",
    ),
    "unexpected": ("NOT AS EXPECTED", "与预期不符"),
    "foreseen": ("foreseen", "预期"),
    "answered": ("answered", "实际"),
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
    "try": (
        "Try it yourself, with no network and no node; change any byte, and it is refused:",
        "可在无网络、无节点的环境下自行验证;改动任意一个字节都会被拒绝:",
    ),
    "kept": (
        "Databases, keys and logs are kept in {directory}; a node is started again by",
        "数据库、密钥与日志保存在 {directory};重新启动节点的命令:",
    ),
    "none_delivered": (
        "Nothing was granted, so there is nothing to deliver and no bundle to verify.",
        "没有任何项目获得互认,因此没有送达的病历,也没有可核验的证据包。",
    ),
    "stopped": (
        "stopped; the nodes are stopped too, their databases and logs are in {directory}",
        "已中止;各节点也已停止,其数据库与日志见 {directory}",
    ),
    "failed": (
        "Something was not as it should be; databases and logs are in {directory}",
        "有结果与预期不符;数据库与日志见 {directory}",
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
