// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";

/// The signed head of a relay's journal: its one text, and who signed it (relay/light/checkpoint.py).
library Checkpoint {
    error MALFORMED();
    error WEAK_KEY();
    error INVALID_SIGNATURE();
    error DUPLICATE_SIGNER();
    error UNKNOWN_SIGNER();
    error QUORUM_NOT_REACHED();
    error WITNESS_MISSING();

    struct Body {
        uint64 size;
        uint64 time;
        bytes32 root;
        bytes32 set;
        bytes32 next;
    }

    /// By position in the set, ascending. `vs` holds the parity of v in its top bit (EIP-2098).
    struct Signature {
        uint16 index;
        bytes32 r;
        bytes32 vs;
    }

    /// A validator without a secp256k1 key has the zero address: it has power and cannot sign.
    struct Set {
        address[] signers;
        uint64[] powers;
        uint256 total;
    }

    uint256 private constant P =
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;
    uint256 private constant HALF_N =
        0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    bytes32 private constant SECP256K1 = keccak256("secp256k1");
    bytes private constant ALPHABET =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// SHA-256 of the body's text.
    function digest(Body memory body, string memory origin) internal pure returns (bytes32) {
        bytes memory head = abi.encodePacked(origin, "\n", Canonical.toDecimal(body.size), "\n");
        bytes memory tail = abi.encodePacked(
            "\ntime ", Canonical.toDecimal(body.time), "\nset ", _base64(body.set), "\nnext "
        );
        return sha256(abi.encodePacked(head, _base64(body.root), tail, _base64(body.next), "\n"));
    }

    /// More than 2/3 of the power of `set` signed `digest_`; each signer once.
    function verifyQuorum(Set storage set, bytes32 digest_, Signature[] calldata given) internal view {
        uint256 power = 0;
        for (uint256 i = 0; i < given.length; i++) {
            if (i > 0 && given[i].index <= given[i - 1].index) revert DUPLICATE_SIGNER();
            if (given[i].index >= set.signers.length) revert UNKNOWN_SIGNER();
            if (recover(digest_, given[i]) != set.signers[given[i].index]) revert INVALID_SIGNATURE();
            power += set.powers[given[i].index];
        }
        if (power * 3 <= set.total * 2) revert QUORUM_NOT_REACHED();
    }

    /// At least `quorum` of the pinned witnesses co-signed; each once.
    function verifyWitnesses(
        address[] storage witnesses,
        uint256 quorum,
        bytes32 digest_,
        Signature[] calldata given
    ) internal view {
        for (uint256 i = 0; i < given.length; i++) {
            if (i > 0 && given[i].index <= given[i - 1].index) revert DUPLICATE_SIGNER();
            if (given[i].index >= witnesses.length) revert UNKNOWN_SIGNER();
            if (recover(digest_, given[i]) != witnesses[given[i].index]) revert INVALID_SIGNATURE();
        }
        if (given.length < quorum) revert WITNESS_MISSING();
    }

    /// The signer; never zero. A high s is refused, as relay/light/keys.py refuses it.
    function recover(bytes32 digest_, Signature calldata given) internal pure returns (address found) {
        uint256 s = uint256(given.vs) & (type(uint256).max >> 1);
        if (s > HALF_N) revert INVALID_SIGNATURE();
        found = ecrecover(digest_, uint8(uint256(given.vs) >> 255) + 27, given.r, bytes32(s));
        if (found == address(0)) revert INVALID_SIGNATURE();
    }

    /// Whose public key it is: compressed prefix and x, and its y, checked against the curve.
    function addressOf(uint256 prefix, uint256 x, uint256 y) internal pure returns (address) {
        if (x >= P || y >= P || prefix != 2 + (y & 1)) revert WEAK_KEY();
        uint256 right = addmod(mulmod(mulmod(x, x, P), x, P), 7, P);
        if (mulmod(y, y, P) != right) revert WEAK_KEY();
        return address(uint160(uint256(keccak256(abi.encode(x, y)))));
    }

    /// Whether `signer` signed; a signature of 64 bytes does not say which of two keys it is under.
    function signs(address signer, bytes32 digest_, bytes32 r, bytes32 s) internal pure returns (bool) {
        if (uint256(s) > HALF_N || signer == address(0)) return false;
        return ecrecover(digest_, 27, r, s) == signer || ecrecover(digest_, 28, r, s) == signer;
    }

    function hashSet(bytes memory encoded) internal pure returns (bytes32) {
        return sha256(abi.encodePacked("lianqiao/validator-set/v1\n", encoded));
    }

    /// Reads the encoding of relay/light/validators.py into `set`, which must be empty. `ys` are the
    /// y of each secp256k1 key, in order: checked against the curve and the parity of the key.
    function readSet(Set storage set, bytes memory raw, uint256[] memory ys) internal {
        if (set.signers.length != 0 || _byte(raw, 0) != 1) revert MALFORMED();
        (uint256 count, uint256 pos) = (_number(raw, 1, 4), 5);
        uint256 key = 0;
        if (count == 0 || count > 200) revert MALFORMED();
        for (uint256 i = 0; i < count; i++) {
            pos += 4 + _number(raw, pos, 4);
            uint64 power = uint64(_number(raw, pos, 8));
            uint256 keys = _number(raw, pos + 8, 4);
            pos += 12;
            address signer = address(0);
            for (uint256 k = 0; k < keys; k++) {
                (bytes32 name, uint256 next) = _data(raw, pos);
                uint256 length = _number(raw, next, 4);
                if (name == SECP256K1) {
                    if (length != 33 || key >= ys.length) revert WEAK_KEY();
                    signer = addressOf(_byte(raw, next + 4), _number(raw, next + 5, 32), ys[key++]);
                }
                pos = next + 4 + length;
            }
            set.signers.push(signer);
            set.powers.push(power);
            set.total += power;
        }
        if (pos != raw.length || key != ys.length) revert MALFORMED();
    }

    function _data(bytes memory raw, uint256 pos) private pure returns (bytes32 hash, uint256 next) {
        uint256 length = _number(raw, pos, 4);
        next = pos + 4 + length;
        if (next > raw.length) revert MALFORMED();
        assembly ("memory-safe") {
            hash := keccak256(add(add(raw, 36), pos), length)
        }
    }

    function _byte(bytes memory raw, uint256 pos) private pure returns (uint256) {
        return _number(raw, pos, 1);
    }

    function _number(bytes memory raw, uint256 pos, uint256 width) private pure returns (uint256 n) {
        if (pos + width > raw.length) revert MALFORMED();
        assembly ("memory-safe") {
            n := shr(sub(256, mul(8, width)), mload(add(add(raw, 32), pos)))
        }
    }

    function _base64(bytes32 data) private pure returns (bytes memory text) {
        text = new bytes(44);
        bytes memory letters = ALPHABET;
        uint256 bits = uint256(data);
        for (uint256 i = 0; i < 42; i++) text[i] = letters[(bits >> (250 - 6 * i)) & 63];
        text[42] = letters[(bits & 15) << 2];
        text[43] = "=";
    }
}
