"""What the settlement story says, in English and in Chinese; a test holds the two complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Say = Callable[..., str]

TEXTS: Mapping[str, tuple[str, str]] = {
    "honest": (
        "Everything runs on this machine; in production each key is held by an institution of its\n"
        "own. The money ledgers co-sign every head of the relay and require each other's\n"
        "co-signature: neither can be shown another decision than the other. Rates: ECB reference\n"
        "rates of {day} (source: ECB); for reference only, nobody deals at them.",
        "一切都在本机运行;正式部署时每把密钥由不同机构保管。两条资金账本共同签署中继的每个头部,\n"
        "并要求对方的共同签名:任何一方都不会看到与另一方不同的决定。\n"
        "汇率:欧洲央行 {day} 参考汇率(来源:ECB),仅供参考。",
    ),
    "honest_replicated": (
        "Everything runs on this machine; in production each key is held by an institution of its\n"
        "own. Four institutions replicate the relay: nothing is decided without more than two\n"
        "thirds of them, and one of them that ends or lies changes nothing. Rates: ECB reference\n"
        "rates of {day} (source: ECB); for reference only, nobody deals at them.",
        "一切都在本机运行;正式部署时每把密钥由不同机构保管。中继由四家机构共同运行:\n"
        "未经三分之二以上机构同意不作任何决定,其中一家停机或作假也无法改变结果。\n"
        "汇率:欧洲央行 {day} 参考汇率(来源:ECB),仅供参考。",
    ),
    "honest_evm": (
        "Everything runs on this machine; in production each key is held by an institution of its\n"
        "own. The Hong Kong dollars are play money: a token on an EVM practice chain, sealed\n"
        "by four test validators of one process; nobody witnesses the relay here. Rates: ECB\n"
        "reference rates of {day} (source: ECB); for reference only, nobody deals at them.",
        "一切都在本机运行;正式部署时每把密钥由不同机构保管。港币是练习用 EVM 链上的模拟代币,\n"
        "由同一进程中的四个测试验证人封印区块;此处无人见证中继。\n"
        "汇率:欧洲央行 {day} 参考汇率(来源:ECB),仅供参考。",
    ),
    "connect": ("both ledgers joined to the relay", "两条账本已与中继连接"),
    "start": ("starting two money ledgers and a relay", "正在启动两条资金账本和一个中继"),
    "witness": ("both ledgers witness the relay", "两条账本成为中继的见证方"),
    "open": ("accounts opened and funded, rates loaded", "开户、注资并载入汇率"),
    "bill": ("bill signed and taken at the door", "账单已签名并通过入口核验"),
    "settle": ("settled, payment against payment", "同步交收完成"),
    "row_bill": ("bill", "账单"),
    "row_line": ("line {number}: {name}", "第 {number} 项:{name}"),
    "row_difference": ("rounding difference, posted", "舍入差额(已入账)"),
    "row_quote": ("quote", "报价"),
    "row_residue": ("residue", "尾差"),
    "row_settlement": ("settlement", "结算号"),
    "row_leg": ("leg on {ledger}", "{ledger} 一边"),
    "bill_value": (
        "{amount}, signed by {insurer}; on the ledgers {hash}… (salted)",
        "{amount},由 {insurer} 签名;账本上仅有加盐哈希 {hash}…",
    ),
    "quote_value": (
        "{due} at {rate} = {exact} ({source}), {id} by {maker}",
        "{due},汇率 {rate} = {exact}({source}),报价 {id},做市商 {maker}",
    ),
    "residue_value": ("{fraction} of a cent, posted nowhere", "{fraction} 分,不入账"),
    "fee_value": ("{amount}, fee {fee}", "{amount},手续费 {fee}"),
    "step_accepted": ("accepted", "受理"),
    "step_locked": ("locked, proven", "已锁定,有证明"),
    "step_refused": ("lock refused: {reason}", "拒绝锁定:{reason}"),
    "step_commit": ("decision: commit", "决定:执行"),
    "step_abort": ("decision: abort", "决定:撤销"),
    "step_released": ("released, proven", "已放款,有证明"),
    "step_refunded": ("refunded, proven", "已退还,有证明"),
    "step_nothing": ("nothing was locked, proven", "未曾锁定,有证明"),
    "step_closed": ("closed", "结清"),
    "col_ledger": ("ledger", "账本"),
    "col_account": ("account", "账户"),
    "col_balance": ("balance", "余额"),
    "col_held": ("held", "冻结"),
    "col_seconds": ("s", "秒"),
    "attack": ("cheats", "作弊"),
    "fault": ("faults", "故障"),
    "books": ("books reconciled, offline too", "核对账目(含离线)"),
    "title": ("The settlement", "本次结算"),
    "steps": ("What happened to it", "每一步"),
    "balances": ("Balances at the end", "期末余额"),
    "attacks": ("Cheats, and what they were answered", "作弊及其答复"),
    "faults": ("Faults, and how each settlement ended", "故障及各笔结算的结局"),
    "what": ("what", "内容"),
    "answer": ("answer", "答复"),
    "expected": ("as it must be", "应有结果"),
    "agree": (
        "The books of the relay and of both ledgers agree: {count} settlements, {lines} lines, "
        "{records} records proven.",
        "中继与两条账本的账目一致:{count} 笔结算,{lines} 行分录,{records} 条记录均有证明。",
    ),
    "wrong": ("{count} things were not as they should be.", "有 {count} 处与应有结果不符。"),
    "left": ("Check it without any node:", "无需任何节点即可核验:"),
    "expired": ("a quote that has expired", "已过期的报价"),
    "twice": ("a quote used twice", "同一报价使用两次"),
    "altered": ("an amount altered after signing", "签名后篡改金额"),
    "fee": ("a fee ten times what was signed", "手续费被改成签名时的十倍"),
    "rounding": ("a cent rounded in the payer's favour", "舍入偏向付款方一分钱"),
    "collar": ("a rate far from the reference", "汇率偏离参考价过远"),
    "forged": (
        "a lock that was never made, with a genuine proof of another",
        "伪造从未发生的锁定,附上另一次锁定的真实证明",
    ),
    "decision": (
        "a decision that the relay never wrote, with a genuine proof of another packet",
        "伪造中继从未作出的决定,附上另一数据包的真实证明",
    ),
    "again": ("the real decision delivered a second time", "真实决定被重复送达"),
    "lock_on_chain": (
        "on the EVM chain: a lock that the relay never asked for, with a genuine proof of another",
        "在 EVM 链上:伪造中继从未请求的锁定,附上另一数据包的真实证明",
    ),
    "decision_on_chain": (
        "on the EVM chain: a decision that the relay never wrote, with a genuine proof of another",
        "在 EVM 链上:伪造中继从未作出的决定,附上另一数据包的真实证明",
    ),
    "again_on_chain": (
        "on the EVM chain: the real decision delivered a second time",
        "在 EVM 链上:真实决定被重复送达",
    ),
    "still": ("the EVM chain answers nothing {step}", "EVM 链在{step}不应答"),
    "late": ("a ledger away until the quote expired", "账本离线直至报价过期"),
    "down": ("{node} killed {step}", "{node} 在{step}被杀"),
    "before": ("before the lock", "锁定之前"),
    "locked": ("once a leg was locked", "一边已锁定之后"),
    "decided": ("once it was decided", "作出决定之后"),
}


def speaker(language: str) -> Say:
    """Says a text by its key in one language."""

    def say(key: str, **values: object) -> str:
        return TEXTS[key][language == "zh"].format(**values)

    return say
