// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";

using Canonical for Canonical.Text;

/// The lines of an itemised bill (relay/contracts/payloads/itemised.py, relay/money/allocate.py).
/// Nothing overflows: there are 1000 lines at most, each below 2^53, and what one unit is worth is a
/// fraction of numbers below 2^67.
library Itemised {
    /// Minor units of the billed currency.
    struct Bill {
        uint256[] lines; // none: the bill is not itemised
        uint256 sum; // of the lines
        uint256 less; // the adjustment that is taken off them
    }

    uint256 internal constant MOST = 1000; // lines

    /// Reads `"itemised":{…},` where it stands, from behind its first quote on, and passes over the
    /// quote of the next member. Only an instruction of an itemised bill has that member.
    function read(Canonical.Text memory t) internal pure returns (Bill memory bill) {
        if (!t.skip("i")) return bill;
        bill.less = t.read('temised":{"adjustment":N,"lines":[')[0];
        (bytes memory raw, uint256 pos, uint256[] memory lines) = (t.raw, t.pos, new uint256[](MOST));
        (uint256 sum, uint256 count, bool bad) = (0, 0, false);
        while (true) {
            (uint256 line, uint256 length, bytes1 next, bool wrong) = _number(raw, pos);
            assembly ("memory-safe") {
                bad := or(bad, wrong)
                sum := add(sum, line)
                count := add(count, 1)
                mstore(add(lines, mul(count, 32)), line)
                pos := add(pos, length)
            }
            if (next != "," || count == MOST) break;
            unchecked {
                pos++;
            }
        }
        if (bad) revert Canonical.MALFORMED();
        assembly ("memory-safe") {
            mstore(lines, count)
        }
        // What closes the lines lies within the text, so they do.
        t.pos = pos;
        t.read(']},"');
        (bill.lines, bill.sum) = (lines, sum);
    }

    /// As Canonical.number from 0, with what follows it, and whether it is none: for many of them, all
    /// digits at once. What lies behind the end of the text is read as well.
    function _number(bytes memory raw, uint256 pos)
        private
        pure
        returns (uint256 n, uint256 length, bytes1 next, bool wrong)
    {
        uint256 most = Canonical.MAX_INTEGER;
        assembly ("memory-safe") {
            let word := mload(add(add(raw, 32), pos))
            // 17 characters: 0 to 9 where they are digits, 10 and above where not.
            n := xor(shr(120, word), 0x3030303030303030303030303030303030)
            // 1 in the first that is no digit and all behind it.
            let rest := add(and(n, 0x7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f), 0x7676767676767676767676767676767676)
            rest := and(shr(7, or(rest, n)), 0x0101010101010101010101010101010101)
            rest := or(rest, shr(8, rest))
            rest := or(rest, shr(16, rest))
            rest := or(rest, shr(32, rest))
            rest := or(rest, shr(64, rest))
            rest := or(rest, shr(128, rest))
            length := sub(17, and(shr(128, mul(rest, 0x0101010101010101010101010101010101)), 0xff))
            next := shl(248, byte(length, word))
            let zero := and(iszero(shr(128, n)), gt(length, 1))
            // Two digits in each two bytes, then four in four, eight in eight, all sixteen.
            n := shr(sub(136, mul(8, length)), n)
            n := and(add(n, mul(shr(8, n), 10)), 0xff00ff00ff00ff00ff00ff00ff00ff)
            n := and(add(n, mul(shr(16, n), 100)), 0xffff0000ffff0000ffff0000ffff)
            n := and(add(n, mul(shr(32, n), 10000)), 0xffffffff00000000ffffffff)
            n := add(and(n, 0xffffffffffffffff), mul(shr(64, n), 100000000))
            wrong := or(or(zero, gt(n, most)), or(iszero(length), gt(length, 16)))
        }
    }

    /// What the lines come to less the adjustment, each converted at above/below and rounded half up
    /// by itself; 0 where that is no amount, or one of them comes to more than an amount can be.
    function convert(Bill memory bill, uint256 above, uint256 below) internal pure returns (uint256) {
        (uint256[] memory lines, uint256 sum, uint256 bits) = (bill.lines, 0, 0);
        (above, below) = (2 * above, 2 * below);
        uint256 less = (bill.less * above + below / 2) / below;
        assembly ("memory-safe") {
            let half := shr(1, below)
            let end := add(add(lines, 32), mul(mload(lines), 32))
            for { let place := add(lines, 32) } lt(place, end) { place := add(place, 32) } {
                let line := div(add(mul(mload(place), above), half), below)
                sum := add(sum, line)
                bits := or(bits, line)
            }
        }
        if ((bits | less) > Canonical.MAX_INTEGER || sum < less) return 0;
        return sum - less > Canonical.MAX_INTEGER ? 0 : sum - less;
    }
}
