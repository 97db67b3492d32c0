// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Merkle} from "Merkle.sol";

/// For tests alone: the library's two proofs, so that they can be compared with the Python ones.
contract Harness {
    function multi(uint64 size, uint64[] memory pos, bytes32[] memory row, bytes32[] memory proof)
        external
        pure
        returns (bytes32)
    {
        return Merkle.rootFromMulti(size, pos, row, proof);
    }

    function consistency(uint64 a, uint64 b, bytes32 rootA, bytes32 rootB, bytes32[] memory proof)
        external
        pure
    {
        Merkle.verifyConsistency(a, b, rootA, rootB, proof);
    }
}
