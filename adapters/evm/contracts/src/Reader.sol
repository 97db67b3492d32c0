// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";
import {Itemised} from "Itemised.sol";

using Canonical for Canonical.Text;

/// One leg on this ledger. Names are Keccak-256 of their text, here and below.
struct Leg {
    bytes32 debtor;
    bytes32 creditor;
    bytes32 feeTo; // zero: no fee
    uint64 amount;
    uint64 fee;
    bytes3 currency;
    bool bill; // which side
}

/// Of a debtor, or of a co-signer, whose `account` is his id.
struct Signature {
    bool readable; // secp256k1
    bytes32 account;
    bytes32 role; // of a co-signer
    bytes32 key; // Keccak-256 of its hex
    bytes32 digest; // what is signed
    bytes32 r;
    bytes32 s;
    uint256 leg; // of a debtor: the last of his legs in `Order.legs`, from 1
}

/// A lock, as far as a ledger judges it.
struct Order {
    bytes32 relay;
    bytes32 ledger;
    bytes32 signedFor; // the relay in the instruction
    bytes32 settlement;
    bytes32 digest; // H(instruction)
    bytes32 amounts; // why its amounts do not follow from its rate; zero where they do
    bytes32 quote; // of (maker, id)
    bytes32 maker;
    uint64 expires;
    bool window; // it settles with a netting window
    bool returns_; // it gives back another settlement
    Leg[] legs; // on this ledger
    bytes32[] used; // keys of all debtors
    Signature[] signatures; // one of each debtor of this ledger, ascending by his account
    Signature[] cosignatures;
    /// What is payable less what the lines of the bill come to, each rounded; 0 without lines. Each
    /// rounding is at most half a unit off, so it is below 502 either way.
    int16 difference;
}

/// A decision, as its notice tells it.
struct Decision {
    bytes32 relay;
    bytes32 ledger; // whom the notice is for
    bytes32 settlement;
    bytes32 digest;
    bytes32 record; // Keccak-256 of the decision's text
    bytes32 path; // Keccak-256 of where the relay writes it
    bool commits;
    bool here; // the ledger's own answer is among those that it follows from
}

/// Reads what a relay sends to port `escrow` (relay/contracts/payloads: settling, signatures,
/// instruction). Every member is read, and the debtors' digest is of those very characters, so that
/// nothing can be used that they did not sign. Pure; what does not have the form is MALFORMED.
contract Reader {

    struct Quote {
        uint256 bill;
        bytes3 billCurrency;
        uint256 payable_;
        bytes3 payCurrency;
        uint256 numerator;
        uint256 denominator;
        int256 residue;
        uint256 residueOf;
        bool halfUp;
    }

    /// All legs of one side together.
    struct Side {
        uint256 sum;
        bytes3 currency; // zero where they differ
        uint256 count;
    }

    uint256 private constant MOST = 16; // legs, signatures, co-signatures
    bytes32 private constant SECP256K1 = keccak256("secp256k1");
    bytes32 private constant BILL = keccak256("bill");
    bytes32 private constant PAY = keccak256("pay");
    bytes32 private constant EMPTY = keccak256("");
    bytes32 private constant HALF_UP = keccak256("half-up-1");
    bytes32 private constant OFFICER = keccak256("officer");
    bytes32 private constant REGULATOR = keccak256("regulator");

    bytes32 private constant COMMIT = keccak256("commit");
    bytes32 private constant ABORT = keccak256("abort");

    /// `here` is the name of the ledger that asks.
    function readLock(bytes memory raw, bytes32 here) external pure returns (Order memory order) {
        Canonical.Text memory t = Canonical.Text(raw, 0);
        uint256[16] memory v = t.read('{"ledger":"I","relay":"I","signed":{"cosignatures":[');
        (order.ledger, order.relay) = (bytes32(v[0]), bytes32(v[1]));
        (Signature[] memory given, uint256[2][] memory officers) = _cosignatures(t);
        t.read(',"instruction":');
        uint256 start = t.pos;
        bytes32[] memory debtors = _instruction(t, order, here);
        bytes memory text = t.slice(start);
        order.digest = sha256(text);
        order.cosignatures = given;
        for (uint256 i = 0; i < given.length; i++) {
            given[i].digest = _approval(raw, order.digest, officers[i]);
        }
        _signatures(t, order, debtors, here, sha256(abi.encodePacked("lianqiao/instruction/v1\n", text)));
        t.read('},"type":"lock"}');
        t.end();
    }

    /// What a co-signer signs; `place` is where in `raw` `ID","role":"ROLE"` stands.
    function _approval(bytes memory raw, bytes32 digest, uint256[2] memory place)
        private
        pure
        returns (bytes32)
    {
        Canonical.Text memory t = Canonical.Text(raw, place[1]);
        return sha256(
            abi.encodePacked(
                'lianqiao/approval/v1\n{"instruction":"',
                Canonical.toHex(digest),
                '","officer":"',
                t.slice(place[0]),
                "}"
            )
        );
    }

    function _cosignatures(Canonical.Text memory t)
        private
        pure
        returns (Signature[] memory given, uint256[2][] memory officers)
    {
        uint256 count = 0;
        (given, officers) = (new Signature[](MOST), new uint256[2][](MOST));
        uint256[4] memory last;
        if (!t.skip("]")) {
            do {
                if (count == MOST) revert Canonical.MALFORMED();
                Signature memory one = given[count];
                uint256[16] memory v = t.read('{"algorithm":"B","key":"O","officer":"');
                (one.readable, one.key) = (bytes32(v[0]) == SECP256K1, bytes32(v[1]));
                uint256 start = t.pos;
                one.account = bytes32(t.read("I")[0]);
                (uint256 first, uint256 second) = t.ordered(start);
                one.role = bytes32(t.read('","role":"A"')[0]);
                officers[count] = [start, t.pos];
                if (one.role != OFFICER && one.role != REGULATOR) revert Canonical.MALFORMED();
                _ascend(last, [one.role == OFFICER ? uint256(1) : 2, first, second, 0]);
                count++;
                _value(t, one);
            } while (t.skip(","));
            t.read("]");
        }
        assembly ("memory-safe") {
            mstore(given, count)
            mstore(officers, count)
        }
    }

    /// One of each debtor and of nobody else, ascending by ledger and account: as no debtor has signed
    /// for that, a relay could else lock what the books of every other ledger cannot hold.
    function _signatures(
        Canonical.Text memory t,
        Order memory order,
        bytes32[] memory debtors,
        bytes32 here,
        bytes32 signed
    ) private pure {
        (uint256 count, uint256 ours) = (0, 0);
        (bytes32[] memory used, Signature[] memory given) = (new bytes32[](MOST), new Signature[](MOST));
        uint256[4] memory last;
        bytes32[] memory names = new bytes32[](MOST);
        t.read(',"signatures":[');
        do {
            if (count == MOST) revert Canonical.MALFORMED();
            Signature memory one = given[ours];
            bytes32 ledger;
            (names[count], ledger) = _signer(t, one, last);
            one.readable = one.readable && ledger == here;
            one.digest = signed;
            used[count++] = one.key;
            _value(t, one);
            if (ledger == here) ours++;
        } while (t.skip(","));
        t.read("]");
        assembly ("memory-safe") {
            mstore(used, count)
            mstore(names, count)
            mstore(given, ours)
        }
        (order.used, order.signatures) = (used, given);
        _compare(debtors, names);
        _assign(order.legs, given);
    }
    /// A signature up to its value: its debtor, as `_legs` names him, and his ledger.
    function _signer(Canonical.Text memory t, Signature memory one, uint256[4] memory last)
        private
        pure
        returns (bytes32 debtor, bytes32 ledger)
    {
        t.read('{"account":"');
        uint256 start = t.pos;
        one.account = bytes32(t.read("I")[0]);
        (uint256 third, uint256 fourth) = t.ordered(start);
        uint256[16] memory v = t.read('","algorithm":"B","key":"O","ledger":"');
        (one.readable, one.key) = (bytes32(v[0]) == SECP256K1, bytes32(v[1]));
        start = t.pos;
        ledger = bytes32(t.read("I")[0]);
        (uint256 first, uint256 second) = t.ordered(start);
        t.read('"');
        _ascend(last, [first, second, third, fourth]);
        debtor = keccak256(abi.encode(ledger, one.account));
    }

    /// `next` stands behind `last`, which it becomes.
    function _ascend(uint256[4] memory last, uint256[4] memory next) private pure {
        uint256 i = 0;
        while (i < 3 && next[i] == last[i]) i++;
        if (next[i] <= last[i]) revert Canonical.MALFORMED();
        for (i = 0; i < 4; i++) last[i] = next[i];
    }

    /// The debtors of all legs are those who signed, each of whom is there once.
    function _compare(bytes32[] memory debtors, bytes32[] memory names) private pure {
        uint256 seen = 0;
        for (uint256 i = 0; i < debtors.length; i++) {
            uint256 k = 0;
            while (k < names.length && names[k] != debtors[i]) k++;
            if (k == names.length) revert Canonical.MALFORMED();
            seen |= 1 << k;
        }
        if (seen != (1 << names.length) - 1) revert Canonical.MALFORMED();
    }

    /// Tells each signature which legs are its account's.
    function _assign(Leg[] memory legs, Signature[] memory given) private pure {
        for (uint256 i = 0; i < legs.length; i++) {
            uint256 k = 0;
            while (given[k].account != legs[i].debtor) k++;
            given[k].leg = i + 1;
        }
    }

    /// The value of a signature: r and s where it has 64 bytes; zeros, which verify nothing, elsewhere.
    function _value(Canonical.Text memory t, Signature memory one) private pure {
        t.read(',"signature":"');
        uint256 start = t.pos;
        (one.r, one.s) = (0, 0);
        if (!t.skip('"')) {
            t.octets(256);
            if (t.pos == start + 128 && one.readable) {
                t.pos = start;
                (one.r, one.s) = (t.hash32(), t.hash32());
            }
            t.read('"');
        }
        t.read("}");
    }

    function _instruction(Canonical.Text memory t, Order memory order, bytes32 here)
        private
        pure
        returns (bytes32[] memory debtors)
    {
        uint256 deadline = t.read('{"deadline":M,"')[0];
        Itemised.Bill memory itemised = Itemised.read(t);
        t.read('legs":[');
        (Side memory bill, Side memory pay) = (Side(0, 0, 0), Side(0, 0, 0));
        debtors = _legs(t, order, here, bill, pay);
        Quote memory quote = _quote(t, order);
        uint256[16] memory v = t.read(
            ',"relay":"I","returns":"A","rounding":"A","settlement":"H","subject":"A","type":"instruction","uetr":"A","window":"A"}'
        );
        order.signedFor = bytes32(v[0]);
        order.returns_ = bytes32(v[1]) != EMPTY;
        quote.halfUp = bytes32(v[2]) == HALF_UP;
        order.settlement = bytes32(v[3]);
        order.window = bytes32(v[6]) != EMPTY;
        order.amounts = _checkAmounts(quote, bill, pay);
        if (order.amounts == 0 && itemised.lines.length != 0) {
            (order.amounts, order.difference) = _checkLines(itemised, quote, pay);
        }
        if (deadline < order.expires || (!order.window && deadline != order.expires)) {
            revert Canonical.MALFORMED();
        }
    }

    /// Fills both sides; the debtors of all legs.
    function _legs(
        Canonical.Text memory t,
        Order memory order,
        bytes32 here,
        Side memory bill,
        Side memory pay
    ) private pure returns (bytes32[] memory debtors) {
        (uint256 count, uint256 ours) = (0, 0);
        Leg[] memory legs = new Leg[](MOST);
        debtors = new bytes32[](MOST);
        do {
            if (count == MOST) revert Canonical.MALFORMED();
            (Leg memory leg, bytes32 ledger) = _leg(t);
            debtors[count++] = keccak256(abi.encode(ledger, leg.debtor));
            Side memory side = leg.bill ? bill : pay;
            if (side.sum == 0) side.currency = leg.currency;
            else if (side.currency != leg.currency) side.currency = 0;
            (side.sum, side.count) = (side.sum + leg.amount, side.count + 1);
            if (ledger == here) legs[ours++] = leg;
        } while (t.skip(","));
        if (bill.sum == 0 || pay.sum == 0) revert Canonical.MALFORMED();
        assembly ("memory-safe") {
            mstore(legs, ours)
            mstore(debtors, count)
        }
        order.legs = legs;
        t.read("]");
    }

    function _leg(Canonical.Text memory t) private pure returns (Leg memory leg, bytes32 ledger) {
        uint256[16] memory v = t.read('{"amount":M,"creditor":"I","currency":"C","debtor":"I","fee":');
        (leg.amount, leg.creditor, leg.debtor) = (uint64(v[0]), bytes32(v[1]), bytes32(v[3]));
        leg.currency = bytes3(bytes32(v[2]));
        if (t.skip("{")) {
            v = t.read('"account":"I","amount":M}');
            (leg.feeTo, leg.fee) = (bytes32(v[0]), uint64(v[1]));
        } else {
            t.read("null");
        }
        v = t.read(',"ledger":"I","side":"A"}');
        (ledger, leg.bill) = (bytes32(v[0]), bytes32(v[1]) == BILL);
        if (!leg.bill && bytes32(v[1]) != PAY) revert Canonical.MALFORMED();
        if (leg.debtor == leg.creditor || leg.debtor == leg.feeTo) revert Canonical.MALFORMED();
        if (leg.amount + leg.fee > Canonical.MAX_INTEGER) revert Canonical.MALFORMED();
    }

    function _quote(Canonical.Text memory t, Order memory order) private pure returns (Quote memory quote) {
        uint256[16] memory v = t.read(
            ',"quote":{"bill":{"amount":M,"currency":"C"},"day":"A","expires":M,"id":"I","maker":"I","mode":"A","payable":{"amount":M,"currency":"C"},"policy":"A","rate":{"denominator":M,"numerator":M},"residue":{"denominator":M,"numerator":D},"source":"I","version":M}'
        );
        (quote.bill, quote.billCurrency) = (v[0], bytes3(bytes32(v[1])));
        order.expires = uint64(v[3]);
        (order.quote, order.maker) = (keccak256(abi.encode(v[5], v[4])), bytes32(v[5]));
        (quote.payable_, quote.payCurrency) = (v[7], bytes3(bytes32(v[8])));
        (quote.denominator, quote.numerator) = (v[10], v[11]);
        (quote.residueOf, quote.residue) = (v[12], int256(v[13]));
    }

    /// Whether both amounts follow from the rate by `half-up-1`, and the legs from both; the reason
    /// why not (relay/contracts/quotes.py, relay/money/rate.py).
    function _checkAmounts(Quote memory q, Side memory bill, Side memory pay) private pure returns (bytes32) {
        if (!q.halfUp) return "UNSUPPORTED_VERSION";
        if (q.billCurrency == q.payCurrency && (q.numerator != 1 || q.denominator != 1)) return "RATE_INVALID";
        (uint256 above, uint256 below) = _worth(q);
        above *= q.bill;
        uint256 due = (2 * above + below) / (2 * below);
        if (due == 0 || due > Canonical.MAX_INTEGER) return "AMOUNT_INVALID";
        int256 left = int256(above) - int256(due * below);
        if (due != q.payable_ || q.residue * int256(below) != left * int256(q.residueOf)) return "RATE_INVALID";
        if (bill.currency != q.billCurrency) return "CURRENCY_MISMATCH";
        if (bill.sum != q.bill) return "AMOUNT_INVALID";
        if (pay.currency != q.payCurrency) return "CURRENCY_MISMATCH";
        if (pay.sum != q.payable_) return "AMOUNT_INVALID";
        return 0;
    }

    /// What one minor unit of the bill is worth in what is paid, as a fraction.
    function _worth(Quote memory q) private pure returns (uint256 above, uint256 below) {
        above = q.numerator * 10 ** exponent(q.payCurrency);
        below = q.denominator * 10 ** exponent(q.billCurrency);
    }

    /// Whether the lines are those of the bill and leave something to post, on the one leg that pays;
    /// the reason why not (relay/contracts/quotes.py). Amounts and rate have been checked.
    function _checkLines(Itemised.Bill memory bill, Quote memory q, Side memory pay)
        private
        pure
        returns (bytes32, int16)
    {
        if (bill.sum != q.bill + bill.less) return ("AMOUNT_INVALID", 0);
        if (pay.count != 1) return ("AMOUNT_INVALID", 0);
        (uint256 above, uint256 below) = _worth(q);
        uint256 summed = Itemised.convert(bill, above, below);
        if (summed == 0) return ("AMOUNT_INVALID", 0);
        return (0, int16(int256(q.payable_) - int256(summed)));
    }

    function readDecision(bytes memory raw, bytes32 here) external pure returns (Decision memory told) {
        Canonical.Text memory t = Canonical.Text(raw, 0);
        t.read('{"decision":');
        uint256 start = t.pos;
        bool all = _answers(t, told, here);
        uint256[16] memory v = t.read(
            ',"decided":N,"digest":"H","relay":"I","ruling":"A","settlement":"H","type":"settlement_decision"}'
        );
        (told.digest, told.relay) = (bytes32(v[1]), bytes32(v[2]));
        told.commits = bytes32(v[3]) == COMMIT;
        if ((!told.commits && bytes32(v[3]) != ABORT) || told.commits != all) revert Canonical.MALFORMED();
        if (bytes32(v[4]) != told.settlement) revert Canonical.MALFORMED();
        told.record = keccak256(t.slice(start));
        v = t.read(',"ledger":"I","relay":"I","type":"decision_notice"}');
        t.end();
        told.ledger = bytes32(v[0]);
        if (bytes32(v[1]) != told.relay) revert Canonical.MALFORMED();
        // Port `settlement`, key `decision/` and the settlement (relay/paths.py).
        bytes memory id = Canonical.toHex(told.settlement);
        told.path = keccak256(abi.encodePacked(hex"00090a", "settlement", "decision/", id));
    }

    /// What became of each ledger's lock; whether all of them were accepted.
    function _answers(Canonical.Text memory t, Decision memory told, bytes32 here)
        private
        pure
        returns (bool all)
    {
        all = true;
        t.read('{"answers":[');
        for (uint256 i = 0; i < 64; i++) {
            t.read('{"accepted":');
            bool accepted = t.skip("t");
            t.read(accepted ? "rue" : "false");
            uint256[16] memory v =
                t.read(',"ledger":"I","reason":"A","settlement":"H","time":N,"type":"lock_answer"}');
            if (accepted != (bytes32(v[1]) == EMPTY)) revert Canonical.MALFORMED();
            if (i > 0 && bytes32(v[2]) != told.settlement) revert Canonical.MALFORMED();
            told.settlement = bytes32(v[2]);
            told.here = told.here || bytes32(v[0]) == here;
            all = all && accepted;
            if (!t.skip(",")) break;
        }
        t.read("]");
    }

    bytes private constant NONE = "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";
    bytes private constant THREE = "BHDIQDJODKWDLYDOMRTND";
    bytes private constant FOUR = "CLFUYW";

    /// Digits of a currency's minor unit, by ISO 4217 (list 1 of relay/money/currency.py).
    function exponent(bytes3 code) public pure returns (uint256) {
        if (_among(code, NONE)) return 0;
        if (_among(code, THREE)) return 3;
        return _among(code, FOUR) ? 4 : 2;
    }

    function _among(bytes3 code, bytes memory codes) private pure returns (bool) {
        for (uint256 i = 0; i < codes.length; i += 3) {
            bytes32 there;
            assembly ("memory-safe") {
                there := mload(add(add(codes, 32), i))
            }
            if (bytes3(there) == code) return true;
        }
        return false;
    }
}
