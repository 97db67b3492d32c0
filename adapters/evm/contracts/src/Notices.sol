// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";

using Canonical for Canonical.Text;

/// Reads what a relay sends to port `registry`, as strictly as relay/contracts/payloads does (notice,
/// outcome): every member in its place, every word one of those that there are. Pure; what does not
/// have the form is MALFORMED.
library Notices {
    /// Names are Keccak-256 of their text.
    struct Notice {
        bool grants; // an access notice with its grant (row 3), else what became of it (row 5)
        bytes32 commitment;
        bytes32 subject; // the grant, or the outcome
        bytes32 relay;
        bytes32 target; // the ledger it is for
        bytes institution; // the text itself
    }

    uint256 private constant MAX_HOPS = 8;
    uint256 private constant MAX_KEYS = 16;
    uint256 private constant MAX_PARTS = 512; // in a record; an index is smaller
    uint256 private constant MAX_ITEMS = 256;
    uint256 private constant MAX_KEY_BYTES = 256;
    uint256 private constant WITH_NOTE = 6; // the situation R6, which alone carries an explanation

    function read(bytes memory raw) internal pure returns (Notice memory told) {
        Canonical.Text memory t = Canonical.Text(raw, 0);
        told.commitment = bytes32(t.read('{"commitment":"H","')[0]);
        told.grants = t.skip("c");
        if (told.grants) _grant(t, told);
        else _outcome(t, told);
        t.end();
    }

    function _grant(Canonical.Text memory t, Notice memory told) private pure {
        uint256[16] memory v = t.read('onsent":"H","decided":N,"expires":N,"grant":"H","hops":N,"institution":"');
        told.subject = bytes32(v[3]);
        if (v[4] > MAX_HOPS) revert Canonical.MALFORMED();
        told.institution = _institution(t);
        t.expect('","keys":[');
        uint256 count = 0;
        do {
            if (count++ == MAX_KEYS) revert Canonical.MALFORMED();
            t.expect('{"algorithm":"');
            _algorithm(t);
            t.expect('","key":"');
            t.octets(MAX_KEY_BYTES);
            t.expect('"}');
        } while (t.skip(","));
        t.read('],"origin":"I","parts":[');
        _parts(t);
        v = t.read('],"purpose":"A","relay":"I","request":"H","target":"I","type":"notice"}');
        if (!_isPurpose(bytes32(v[0]))) revert Canonical.MALFORMED();
        (told.relay, told.target) = (bytes32(v[1]), bytes32(v[3]));
    }

    function _outcome(Canonical.Text memory t, Notice memory told) private pure {
        if (t.read('hops":N,"institution":"')[0] > MAX_HOPS) revert Canonical.MALFORMED();
        told.institution = _institution(t);
        t.expect('","items":[');
        uint256 count = 0;
        do {
            if (count++ == MAX_ITEMS) revert Canonical.MALFORMED();
            _item(t);
        } while (t.skip(","));
        uint256[16] memory v = t.read(
            '],"origin":"I","outcome":"H","relay":"I","request":"H","target":"I","time":N,"type":"outcome_notice"}'
        );
        (told.subject, told.relay, told.target) = (bytes32(v[1]), bytes32(v[2]), bytes32(v[4]));
    }

    /// What became of one item: adopted, or examined again in one of six situations, with who told
    /// the patient and when.
    function _item(Canonical.Text memory t) private pure {
        t.expect('{"informed":');
        bool again = t.number(0) != 0;
        t.expect(',"informed_by":"');
        if (again) _role(t);
        t.expect('","note":"');
        bool note = !t.skip('"');
        if (note) {
            t.hash32();
            t.expect('"');
        }
        t.expect(',"part":');
        if (t.number(0) >= MAX_PARTS) revert Canonical.MALFORMED();
        t.expect(again ? ',"reason":"R' : ',"reason":"');
        uint256 situation = again ? t.number(1) : 0;
        if (situation > WITH_NOTE || note != (situation == WITH_NOTE)) revert Canonical.MALFORMED();
        t.expect(again ? '","result":"reexamined"}' : '","result":"adopted"}');
    }

    /// Who told the patient.
    function _role(Canonical.Text memory t) private pure {
        if (t.skip("c")) t.expect("linician");
        else if (t.skip("n")) t.expect("urse");
        else t.expect("other-staff");
    }

    function _institution(Canonical.Text memory t) private pure returns (bytes memory) {
        uint256 start = t.pos;
        t.read("I");
        return t.slice(start);
    }

    /// Parts that may be fetched: at least one, ascending.
    function _parts(Canonical.Text memory t) private pure {
        (uint256 count, uint256 next) = (0, 0);
        do {
            uint256 part = t.number(0);
            if (count++ == MAX_ITEMS || part < next || part >= MAX_PARTS) revert Canonical.MALFORMED();
            next = part + 1;
        } while (t.skip(","));
    }

    /// 1 to 32 lower-case letters, digits and, but for the first, hyphens.
    function _algorithm(Canonical.Text memory t) private pure {
        uint256 start = t.pos;
        for (; t.pos < t.raw.length; t.pos++) {
            bytes1 letter = t.raw[t.pos];
            bool word = (letter >= "a" && letter <= "z") || (letter >= "0" && letter <= "9");
            if (!word && (letter != "-" || t.pos == start)) break;
        }
        if (t.pos == start || t.pos > start + 32) revert Canonical.MALFORMED();
    }

    function _isPurpose(bytes32 word) private pure returns (bool) {
        return word == keccak256("TREAT") || word == keccak256("ETREAT") || word == keccak256("HPAYMT")
            || word == keccak256("HRESCH") || word == keccak256("PUBHLTH");
    }

    /// Keccak-256 of the hex of the record that a new or amended attestation is about, by how it begins
    /// and ends; zero for anything else. Whether it was signed is the relay's to judge.
    function attested(bytes calldata raw) internal pure returns (bytes32) {
        uint256 pos = _behind(raw, 0, '{"action":"new","algorithm":"');
        if (pos == 0) pos = _behind(raw, 0, '{"action":"amend","algorithm":"');
        bytes memory close = ',"type":"attestation"}';
        if (pos == 0 || raw.length < close.length) return 0;
        if (_behind(raw, raw.length - close.length, close) == 0) return 0;
        for (uint256 i = 0; i < 32 && raw[pos] != '"'; i++) pos++;
        pos = _behind(raw, pos, '","commitment":"');
        return pos == 0 || pos + 64 > raw.length ? bytes32(0) : keccak256(raw[pos:pos + 64]);
    }

    /// Where `text`, which must stand at `pos`, ends; zero where it does not.
    function _behind(bytes calldata raw, uint256 pos, bytes memory text) private pure returns (uint256) {
        uint256 close = pos + text.length;
        return close <= raw.length && keccak256(raw[pos:close]) == keccak256(text) ? close : 0;
    }
}
