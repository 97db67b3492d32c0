"""How checks of the contracts are found and put behind their numbers."""

from __future__ import annotations

import re

from tests.mutation.solidity import CONTRACTS, EXPLAINED, SOURCES, instrumented

SAMPLE = """pragma solidity 0.8.37;
contract Sample {
    modifier onlyOwner() {
        if (msg.sender != owner) revert NOT_PERMITTED();
        _;
    }

    function ask(uint256 a) external {
        if (a == 0 || (a > 3 && rows[a || b] == 0) || f(a, (1))) {
            revert Library.MALFORMED();
        }
        if (a == 5) return "REASON";
        if (a == 6) a = 7;
        _checkActive();
        if (open == 0) return NOOP;
    }
}
"""


def test_checks_are_found_and_numbered() -> None:
    text, found = instrumented("Sample", SAMPLE, 7)
    assert [m.name for m in found] == [
        "Sample::onlyOwner::msg.sender != owner",
        "Sample::ask::a == 0",
        "Sample::ask::(a > 3 && rows[a || b] == 0)",
        "Sample::ask::f(a, (1))",
        "Sample::ask::a == 5",
        "Sample::ask::open == 0",
        "Sample::ask::_checkActive();",
    ]
    assert [m.number for m in found] == list(range(7, 14))
    assert "if (((msg.sender != owner) && Mutant.alive(7))) revert NOT_PERMITTED();" in text
    assert (
        "if (((a == 0) && Mutant.alive(8)) || (((a > 3 && rows[a || b] == 0)) && Mutant.alive(9))"
        " || ((f(a, (1))) && Mutant.alive(10))) {" in text
    )
    assert "if (Mutant.alive(13)) _checkActive();" in text
    assert "if (a == 6) a = 7;" in text
    assert 'import {Mutant} from "Mutant.sol";' in text


def test_every_refusal_in_the_contracts_is_behind_a_mutant() -> None:
    names = []
    for source in SOURCES:
        before = (CONTRACTS / "src" / f"{source}.sol").read_text()
        text, found = instrumented(source, before, 0)
        names += [m.name for m in found]
        refusals = re.findall(r"^.*\bif \(.*\) (?:revert|return [A-Z_]+\.selector).*$", text, re.M)
        assert all("Mutant.alive(" in line for line in refusals), source
        assert len({m.name for m in found}) == len(found), source
    assert len(names) > 200
    for part in EXPLAINED:
        assert any(part in name for name in names), part
