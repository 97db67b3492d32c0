// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Endpoint, Entry, IApp, Packet} from "Endpoint.sol";
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

/// For tests alone: a set that a contract keeps, at slot 0, as consortium chains have it.
contract Validators {
    address[] public validators;

    function setValidators(address[] calldata next) external {
        validators = next;
    }

    /// What Besu and GoQuorum ask a contract that keeps their validators.
    function getValidators() external view returns (address[] memory) {
        return validators;
    }
}

/// For tests alone: an application that answers what it was told.
contract Echo is IApp {
    function onReceive(Packet calldata packet, Entry[] calldata) external pure returns (bytes memory) {
        return packet.value;
    }

    function onAcknowledge(Packet calldata, bytes calldata) external {}
    function onTimeout(Packet calldata) external {}
}

/// For tests alone: an application that burns what it is given, or calls back.
contract Hostile is IApp {
    Endpoint public immutable ENDPOINT;
    bool public burns;

    constructor(Endpoint endpoint, bool burns_) {
        (ENDPOINT, burns) = (endpoint, burns_);
    }

    function ask(string calldata port, bytes calldata value, uint64 timeout) external {
        ENDPOINT.send(port, "echo", "echo-1", "text/plain", value, timeout);
    }

    function onReceive(Packet calldata, Entry[] calldata) external returns (bytes memory) {
        _burn();
        Endpoint.Proof memory nothing;
        try ENDPOINT.deliver(new Endpoint.Update[](0), new Endpoint.Item[](0), nothing) {
            return "it let me in";
        } catch (bytes memory why) {
            return why;
        }
    }

    function onAcknowledge(Packet calldata, bytes calldata) external view {
        _burn();
    }

    function onTimeout(Packet calldata) external view {
        _burn();
    }

    function _burn() private view {
        if (burns) while (true) {}
    }
}
