// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";
import {Endpoint, Entry, IApp, Packet} from "Endpoint.sol";
import {Notices} from "Notices.sol";

/// The application `registry`: attestations out to the relay, notices and decisions in.
/// Payloads are those of relay/contracts/payloads (RFC 8785 JSON). What is posted is kept and forwarded
/// byte for byte: the relay's contract reads it and verifies the institution's signature; checked here
/// is who may write for this ledger. What comes is read, and refused where relay/contracts/registry
/// refuses it, with the same answer.
/// Institutions run nodes before it (adapters/evm/engine) that make their tables of its logs.
contract Registry is IApp {
    error NOT_PERMITTED();
    error UNSUPPORTED_VERSION();
    error CHAIN_ID_MISMATCH();
    error COUNTERPARTY_MISMATCH();
    error RECORD_NOT_FOUND();

    event Attested(bytes32 indexed commitment, uint64 sequence);
    event Answered(uint64 indexed sequence, bytes acknowledgement);
    event Lapsed(uint64 indexed sequence, uint64 again); // the sequence of the same, sent again; 0: not
    event Recorded(bytes32 indexed id, bytes value);

    string private constant PORT = "registry";
    string private constant RELAY_PORT = "recognition";
    string private constant ENCODING = "application/json";

    bytes32 private constant VERSION = keccak256("registry-1");
    uint64 private constant AGAIN = 1 hours;

    Endpoint public immutable ENDPOINT;
    bytes32 private immutable LEDGER; // Keccak-256 of the names of this ledger and of the relay
    bytes32 private immutable RELAY;
    mapping(address => bool) public institutions;
    mapping(bytes32 => bool) public attested; // by Notices.attested
    mapping(uint64 => bool) public once; // of a sequence: whoever sent it decides what follows a timeout

    constructor(Endpoint endpoint) {
        ENDPOINT = endpoint;
        (LEDGER, RELAY) = (_name(endpoint.NAME()), _name(endpoint.RELAY()));
    }

    /// By the endpoint's owner.
    function registerInstitution(address account, bool admitted) external {
        if (msg.sender != ENDPOINT.owner()) revert NOT_PERMITTED();
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
            bytes32 record_ = Notices.attested(values[i]);
            if (record_ != 0) attested[record_] = true;
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

    /// Rows 3 and 5, from the relay they name, of a record of this ledger; the same again is answered
    /// the same, another under its name is refused (PATH_WRITTEN of the endpoint).
    function onReceive(Packet calldata packet, Entry[] calldata) external returns (bytes memory) {
        if (msg.sender != address(ENDPOINT)) revert NOT_PERMITTED();
        if (keccak256(bytes(packet.version)) != VERSION) revert UNSUPPORTED_VERSION();
        if (keccak256(bytes(packet.encoding)) != keccak256(bytes(ENCODING))) revert UNSUPPORTED_VERSION();
        Notices.Notice memory told = Notices.read(packet.value);
        if (told.target != LEDGER) revert CHAIN_ID_MISMATCH();
        if (told.relay != RELAY) revert COUNTERPARTY_MISMATCH();
        bytes memory record_ = Canonical.toHex(told.commitment);
        // An outcome is told of a refused request too, whose record may be unknown.
        if (told.grants && !attested[keccak256(record_)]) revert RECORD_NOT_FOUND();
        bytes memory subject = Canonical.toHex(told.subject);
        ENDPOINT.put(
            PORT,
            told.grants
                ? abi.encodePacked("grant/", record_, "/", told.institution, "/", subject)
                : abi.encodePacked("outcome-notice/", record_, "/", subject),
            packet.value
        );
        return abi.encodePacked('{"accepted":true,"reason":"","subject":"', subject, '","type":"answer"}');
    }

    /// Keccak-256 of a name that ends in zeros.
    function _name(bytes32 name) private pure returns (bytes32) {
        uint256 length = 0;
        while (length < 32 && name[length] != 0) length++;
        bytes memory text = abi.encodePacked(name);
        assembly ("memory-safe") {
            mstore(text, length)
        }
        return keccak256(text);
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
