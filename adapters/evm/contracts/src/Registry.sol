// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Endpoint, Entry, IApp, Packet} from "Endpoint.sol";

/// The application `registry`: attestations out to the relay, notices and decisions in.
/// Payloads are those of relay/contracts/payloads (RFC 8785 JSON), kept and forwarded byte for byte:
/// the relay's contract reads them and verifies the institution's signature. What is checked here is
/// who may write for this ledger, that each record is written once, and from whom packets come.
/// Institutions run nodes before it (adapters/evm/engine) that make their tables of its logs.
contract Registry is IApp {
    error NOT_PERMITTED();
    error PATH_WRITTEN();

    event Attested(bytes32 indexed commitment, uint64 sequence);
    event Answered(uint64 indexed sequence, bytes acknowledgement);
    event Lapsed(uint64 indexed sequence, uint64 again); // the sequence of the same, sent again; 0: not
    event Recorded(bytes32 indexed id, bytes value);
    event Noticed(uint64 indexed sequence, bytes32 indexed id, bytes value);

    string private constant PORT = "registry";
    string private constant RELAY_PORT = "recognition";
    string private constant ENCODING = "application/json";

    Endpoint public immutable ENDPOINT;
    address public immutable OPERATOR;
    uint64 private constant AGAIN = 1 hours;
    mapping(address => bool) public institutions;
    mapping(uint64 => bool) public once; // of a sequence: whoever sent it decides what follows a timeout

    constructor(Endpoint endpoint) {
        (ENDPOINT, OPERATOR) = (endpoint, msg.sender);
    }

    function registerInstitution(address account, bool admitted) external {
        if (msg.sender != OPERATOR) revert NOT_PERMITTED();
        institutions[account] = admitted;
    }

    /// Sends signed payloads (attestations, requests, outcomes) as packets; each is a record, too.
    /// What must arrive is sent again whenever it timed out; what is asked `once_` is not.
    function post(bytes[] calldata values, string calldata version, uint64 timeout, bool once_) external {
        if (!institutions[msg.sender]) revert NOT_PERMITTED();
        for (uint256 i = 0; i < values.length; i++) {
            bytes32 id = sha256(values[i]);
            ENDPOINT.put(PORT, abi.encodePacked("posted/", id), values[i]);
            uint64 sequence = ENDPOINT.send(PORT, RELAY_PORT, version, ENCODING, values[i], timeout);
            if (once_) once[sequence] = true;
            emit Attested(id, sequence);
        }
    }

    /// Records that no packet carries: who is registered, what is attested for later, who read what.
    function record(bytes[] calldata values) external {
        if (!institutions[msg.sender]) revert NOT_PERMITTED();
        for (uint256 i = 0; i < values.length; i++) {
            bytes32 id = sha256(values[i]);
            ENDPOINT.put(PORT, abi.encodePacked("recorded/", id), values[i]);
            emit Recorded(id, values[i]);
        }
    }

    function onReceive(Packet calldata packet, Entry[] calldata) external returns (bytes memory) {
        if (msg.sender != address(ENDPOINT)) revert NOT_PERMITTED();
        bytes32 id = sha256(packet.value);
        ENDPOINT.put(PORT, abi.encodePacked("notice/", id), packet.value);
        emit Noticed(packet.sequence, id, packet.value);
        bytes memory subject = _member(packet.value, '"grant":"');
        if (subject.length == 0) subject = _member(packet.value, '"outcome":"');
        return abi.encodePacked('{"accepted":true,"reason":"","subject":"', subject, '","type":"answer"}');
    }

    /// The 64 characters after the first `label` in canonical JSON. A quote inside a string is
    /// escaped there, so a label with its quotes is found where it is one.
    function _member(bytes calldata json, bytes memory label) private pure returns (bytes memory) {
        bytes32 wanted = keccak256(label);
        for (uint256 i = 0; i + label.length + 64 <= json.length; i++) {
            if (json[i] == label[0] && keccak256(json[i:i + label.length]) == wanted) {
                return json[i + label.length:i + label.length + 64];
            }
        }
        return "";
    }

    function onAcknowledge(Packet calldata packet, bytes calldata acknowledgement) external {
        if (msg.sender != address(ENDPOINT)) revert NOT_PERMITTED();
        emit Answered(packet.sequence, acknowledgement);
    }

    function onTimeout(Packet calldata packet) external {
        if (msg.sender != address(ENDPOINT)) revert NOT_PERMITTED();
        uint64 again = 0;
        if (!once[packet.sequence]) {
            uint64 timeout = uint64(block.timestamp) + AGAIN;
            // Refused while the client judges no more: then a node before this ledger posts it again.
            try ENDPOINT.send(PORT, packet.destinationPort, packet.version, packet.encoding, packet.value, timeout)
            returns (uint64 sequence) {
                again = sequence;
            } catch {}
        }
        emit Lapsed(packet.sequence, again);
    }
}
