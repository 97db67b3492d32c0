// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// RFC 6962/9162 proofs by the sha256 precompile, as relay/light/merkle.py has them.
library Merkle {
    error INVALID_PROOF();
    error INVALID_CONSISTENCY();

    function leaf(bytes32 path, bytes32 value) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x00), path, value));
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x01), left, right));
    }

    /// The root that leaves at strictly ascending indexes lead to. `at` and `row` are used up.
    function rootFromMulti(
        uint64 size,
        uint64[] memory pos,
        bytes32[] memory row,
        bytes32[] memory proof
    ) internal pure returns (bytes32) {
        uint256 count = pos.length;
        if (count == 0 || count != row.length || pos[count - 1] >= size) revert INVALID_PROOF();
        for (uint256 i = 1; i < count; i++) if (pos[i - 1] >= pos[i]) revert INVALID_PROOF();
        uint256 used = 0;
        for (uint64 width = size; width > 1; width = (width + 1) >> 1) {
            uint256 above = 0;
            for (uint256 i = 0; i < count; above++) {
                uint64 index = pos[i];
                bytes32 current = row[i++];
                if (index & 1 == 1) {
                    current = node(_take(proof, used++), current);
                } else if (i < count && pos[i] == index + 1) {
                    current = node(current, row[i++]);
                } else if (index + 1 < width) {
                    current = node(current, _take(proof, used++));
                }
                pos[above] = index >> 1;
                row[above] = current;
            }
            count = above;
        }
        if (used != proof.length) revert INVALID_PROOF();
        return row[0];
    }

    /// Reverts unless the tree of `newer` entries extends that of `older`. 0 < older < newer.
    function verifyConsistency(
        uint64 older,
        uint64 newer,
        bytes32 oldRoot,
        bytes32 newRoot,
        bytes32[] memory proof
    ) internal pure {
        uint64 index = older - 1;
        uint64 last = newer - 1;
        while (index & 1 == 1) {
            index >>= 1;
            last >>= 1;
        }
        uint256 used = 0;
        bytes32 a = oldRoot;
        if (index != 0) a = _step(proof, used++);
        bytes32 b = a;
        while (last != 0) {
            if (index & 1 == 1 || index == last) {
                if (index & 1 == 1) {
                    bytes32 left = _step(proof, used++);
                    a = node(left, a);
                    b = node(left, b);
                }
                // An even last index rises alone.
            } else {
                b = node(b, _step(proof, used++));
            }
            index >>= 1;
            last >>= 1;
        }
        if (used != proof.length || a != oldRoot || b != newRoot) revert INVALID_CONSISTENCY();
    }

    function _take(bytes32[] memory proof, uint256 pos) private pure returns (bytes32) {
        if (pos >= proof.length) revert INVALID_PROOF();
        return proof[pos];
    }

    function _step(bytes32[] memory proof, uint256 pos) private pure returns (bytes32) {
        if (pos >= proof.length) revert INVALID_CONSISTENCY();
        return proof[pos];
    }
}
