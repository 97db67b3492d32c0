// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Reads RFC 8785 JSON of a known form, from left to right, as it stands: each member under its name
/// and in its place, so that for each value there is one text alone. What is signed is that text;
/// nothing is decoded into another form that would have to be bound to it.
/// What the values may be: relay/contracts/payloads/fields.py.
library Canonical {
    error MALFORMED();

    struct Text {
        bytes raw;
        uint256 pos;
    }

    uint256 internal constant MAX_INTEGER = 2 ** 53 - 1;
    /// Bit c is set where the character c may stand in a word: letters, digits and five others.
    uint256 private constant LETTERS = (((1 << 10) - 1) << 48) | (((1 << 26) - 1) << 65)
        | (((1 << 26) - 1) << 97) | (1 << 45) | (1 << 46) | (1 << 58) | (1 << 64) | (1 << 95);
    /// Of a name: digits, small letters and `-`.
    uint256 private constant NAMES = (((1 << 10) - 1) << 48) | (((1 << 26) - 1) << 97) | (1 << 45);
    uint256 private constant ONES = type(uint256).max / 255; // 0x01 in each byte

    /// The values of a form, in order. A form is the text itself, with capital letters for values:
    ///   I  identifier, 1 to 64 characters     A  any text, 0 to 512     B  name, 1 to 32 characters
    ///   O  hex of 1 to 256 bytes              all of these as Keccak-256 of the text
    ///   N  whole number, 0 to 2^53-1          M  the same, from 1       D  the same, negative too
    ///   C  three capital letters, as bytes3   H  64 characters of hex, as bytes32
    function read(Text memory t, string memory form) internal pure returns (uint256[16] memory found) {
        uint256 length = bytes(form).length;
        uint256 count = 0;
        for (uint256 i = _literal(t, form, 0); i < length; i = _literal(t, form, i + 1)) {
            uint256 mark = uint256(_load(bytes(form), i)) >> 248;
            uint256 value;
            if (mark == 0x49) value = _word(t, LETTERS, 64);
            else if (mark == 0x41) value = _any(t);
            else if (mark == 0x4d) value = number(t, 1);
            else if (mark == 0x4e) value = number(t, 0);
            else if (mark == 0x48) value = uint256(hash32(t));
            else if (mark == 0x43) value = _currency(t);
            else if (mark == 0x4f) value = octets(t, 256);
            else if (mark == 0x42) value = _word(t, NAMES, 32);
            else value = skip(t, "-") ? uint256(-int256(number(t, 1))) : number(t, 0);
            found[count++] = value;
        }
    }

    /// Passes over this text.
    function expect(Text memory t, string memory text) internal pure {
        (bytes memory raw, uint256 pos, uint256 length) = (t.raw, t.pos, bytes(text).length);
        if (pos + length > raw.length) revert MALFORMED();
        bool same;
        assembly ("memory-safe") {
            same := eq(keccak256(add(add(raw, 32), pos), length), keccak256(add(text, 32), length))
        }
        if (!same) revert MALFORMED();
        t.pos = pos + length;
    }

    /// The 32 bytes from `pos` on; what lies behind the end is anything.
    function _load(bytes memory raw, uint256 pos) private pure returns (bytes32 found) {
        assembly ("memory-safe") {
            found := mload(add(add(raw, 32), pos))
        }
    }

    /// Passes over what stands in the form from `i` up to the next mark, whose place it returns.
    /// Marks are 0x40 to 0x4f, where no other character of a form lies: 32 are looked at at once.
    function _literal(Text memory t, string memory form, uint256 i) private pure returns (uint256) {
        (uint256 length, bytes memory raw, uint256 pos) = (bytes(form).length, t.raw, t.pos);
        while (i < length) {
            uint256 due = uint256(_load(bytes(form), i));
            uint256 count = _first((due >> 6) & ~(due >> 5) & ~(due >> 4) & ONES);
            if (count > length - i) count = length - i;
            if (pos + count > raw.length) revert MALFORMED();
            if (count != 0 && (due ^ uint256(_load(raw, pos))) >> (256 - 8 * count) != 0) revert MALFORMED();
            (pos, i) = (pos + count, i + count);
            if (count != 32) break;
        }
        t.pos = pos;
        return i;
    }

    /// The first byte of a word, from the left, that is not zero; 32 where all are.
    function _first(uint256 word) private pure returns (uint256 n) {
        if (word == 0) return 32;
        if (word >> 128 == 0) (n, word) = (16, word << 128);
        if (word >> 192 == 0) (n, word) = (n + 8, word << 64);
        if (word >> 224 == 0) (n, word) = (n + 4, word << 32);
        if (word >> 240 == 0) (n, word) = (n + 2, word << 16);
        if (word >> 248 == 0) n++;
    }

    /// 0x80 in each byte that is `letter`, exactly.
    function _equal(uint256 word, uint256 letter) private pure returns (uint256) {
        word ^= letter * ONES;
        return ~(((word & (0x7f * ONES)) + 0x7f * ONES) | word) & (0x80 * ONES);
    }

    /// Passes over one character if it is this one.
    function skip(Text memory t, bytes1 letter) internal pure returns (bool there) {
        there = t.pos < t.raw.length && t.raw[t.pos] == letter;
        if (there) t.pos++;
    }

    /// Nothing follows.
    function end(Text memory t) internal pure {
        if (t.pos != t.raw.length) revert MALFORMED();
    }

    /// Up to `most` of these letters, of which the first is a letter or digit.
    function _word(Text memory t, uint256 letters, uint256 most) private pure returns (uint256 hash) {
        (bytes memory raw, uint256 pos) = (t.raw, t.pos);
        uint256 length;
        assembly ("memory-safe") {
            let first := add(add(raw, 32), pos)
            let last := add(add(raw, 32), mload(raw))
            let p := first
            for {} lt(p, last) { p := add(p, 1) } {
                if iszero(and(shr(byte(0, mload(p)), letters), 1)) { break }
            }
            length := sub(p, first)
            hash := keccak256(first, length)
        }
        if (length == 0 || length > most) revert MALFORMED();
        uint8 letter = uint8(raw[pos]);
        if (letter < 48 || (letter > 57 && letter < 65) || letter == 95) revert MALFORMED();
        t.pos = pos + length;
    }

    /// Up to the closing quote: printable characters, of which none is escaped, so that the quote
    /// closes for every reader of JSON. 32 are looked at at once.
    function _any(Text memory t) private pure returns (uint256 hash) {
        (bytes memory raw, uint256 pos) = (t.raw, t.pos);
        uint256 start = pos;
        uint256 count = 32;
        while (count == 32) {
            uint256 word = uint256(_load(raw, pos));
            count = _first(_equal(word, 0x22));
            uint256 bad = _equal(word, 0x5c) | (word & (0x80 * ONES)) | (~((word >> 5) | (word >> 6)) & ONES);
            if (_first(bad) < count) revert MALFORMED();
            pos += count;
            if (pos >= raw.length || pos - start > 512) revert MALFORMED();
        }
        uint256 length = pos - start;
        assembly ("memory-safe") {
            hash := keccak256(add(add(raw, 32), start), length)
        }
        t.pos = pos;
    }

    function _currency(Text memory t) private pure returns (uint256) {
        bytes3 code;
        if (t.pos + 3 > t.raw.length) revert MALFORMED();
        for (uint256 i = 0; i < 3; i++) {
            bytes1 letter = t.raw[t.pos++];
            if (letter < "A" || letter > "Z") revert MALFORMED();
            code |= bytes3(letter) >> (8 * i);
        }
        return uint256(bytes32(code));
    }

    /// A whole number from `low` to 2^53-1, without zeros before it.
    function number(Text memory t, uint256 low) internal pure returns (uint256 found) {
        (uint256 pos, uint256 count) = (t.pos, 0);
        uint256 word = uint256(_load(t.raw, pos));
        bool zero = word >> 248 == 48;
        unchecked {
            for (; count < 16; count++) {
                uint256 digit = (word >> 248) ^ 48;
                if (digit > 9) break;
                found = found * 10 + digit;
                word <<= 8;
            }
        }
        if (count == 0 || (zero && count != 1) || pos + count > t.raw.length) revert MALFORMED();
        if (found < low || found > MAX_INTEGER) revert MALFORMED();
        t.pos = pos + count;
    }

    /// 64 characters of lower-case hex.
    function hash32(Text memory t) internal pure returns (bytes32) {
        uint256 pos = t.pos;
        if (pos + 64 > t.raw.length) revert MALFORMED();
        t.pos = pos + 64;
        return bytes32((_unhex(_load(t.raw, pos)) << 128) | _unhex(_load(t.raw, pos + 32)));
    }

    /// Lower-case hex of 1 to `most` bytes, up to the closing quote; 32 characters are looked at at
    /// once, with zeros for what lies behind the quote. Keccak-256 of it.
    function octets(Text memory t, uint256 most) internal pure returns (uint256 hash) {
        (bytes memory raw, uint256 pos) = (t.raw, t.pos);
        uint256 start = pos;
        uint256 count = 32;
        while (count == 32) {
            uint256 word = uint256(_load(raw, pos));
            count = _first(_equal(word, 0x22));
            uint256 behind = type(uint256).max >> (8 * count);
            _unhex(bytes32((word & ~behind) | ((0x30 * ONES) & behind)));
            pos += count;
            if (pos >= raw.length || pos - start > 2 * most) revert MALFORMED();
        }
        if (pos == start || (pos - start) % 2 != 0) revert MALFORMED();
        uint256 length = pos - start;
        assembly ("memory-safe") {
            hash := keccak256(add(add(raw, 32), start), length)
        }
        t.pos = pos;
    }

    /// 16 bytes of 32 characters of hex, all at once; what they are in hex again must be the same.
    function _unhex(bytes32 text) private pure returns (uint256 n) {
        n = uint256(text);
        n = (n & (0x0f * ONES)) + ((n >> 6) & ONES) * 9;
        if (n & (0xf0 * ONES) != 0 || _letters(n) != text) revert MALFORMED();
        n = (n | (n >> 4)) & (type(uint256).max / 0xffff * 0xff);
        n = (n | (n >> 8)) & (type(uint256).max / 0xffffffff * 0xffff);
        n = (n | (n >> 16)) & (type(uint256).max / type(uint64).max * 0xffffffff);
        n = (n | (n >> 32)) & (type(uint256).max / type(uint128).max * type(uint64).max);
        n = (n | (n >> 64)) & type(uint128).max;
    }

    /// The characters of 32 hexadecimal digits, one in each byte.
    function _letters(uint256 n) private pure returns (bytes32) {
        return bytes32(n + 0x30 * ONES + (((n + 6 * ONES) >> 4) & ONES) * 39);
    }

    function _hex(uint256 n) private pure returns (bytes32) {
        n = (n | (n << 64)) & (type(uint256).max / type(uint128).max * type(uint64).max);
        n = (n | (n << 32)) & (type(uint256).max / type(uint64).max * 0xffffffff);
        n = (n | (n << 16)) & (type(uint256).max / 0xffffffff * 0xffff);
        n = (n | (n << 8)) & (type(uint256).max / 0xffff * 0xff);
        n = (n | (n << 4)) & (0x0f * ONES);
        return _letters(n);
    }

    function toHex(bytes32 data) internal pure returns (bytes memory) {
        return abi.encodePacked(_hex(uint256(data) >> 128), _hex(uint256(data) & type(uint128).max));
    }

    /// A copy of what was read from `start` on.
    function slice(Text memory t, uint256 start) internal pure returns (bytes memory part) {
        (bytes memory raw, uint256 length) = (t.raw, t.pos - start);
        part = new bytes(length);
        for (uint256 i = 0; i < length; i += 32) {
            assembly ("memory-safe") {
                mstore(add(add(part, 32), i), mload(add(add(add(raw, 32), start), i)))
            }
        }
    }

    /// The identifier that was read from `start` on, with zeros behind it: two such stand in the order
    /// of their texts.
    function ordered(Text memory t, uint256 start) internal pure returns (uint256 first, uint256 second) {
        uint256 length = t.pos - start;
        first = uint256(_load(t.raw, start)) & ~(type(uint256).max >> (8 * length));
        if (length > 32) second = uint256(_load(t.raw, start + 32)) & ~(type(uint256).max >> (8 * length - 256));
    }

    function toDecimal(uint256 value) internal pure returns (bytes memory text) {
        uint256 length = 1;
        for (uint256 rest = value; rest >= 10; rest /= 10) length++;
        text = new bytes(length);
        for (; length > 0; value /= 10) text[--length] = bytes1(uint8(48 + (value % 10)));
    }
}
