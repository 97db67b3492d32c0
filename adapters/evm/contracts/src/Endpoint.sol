// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";
import {Checkpoint} from "Checkpoint.sol";
import {Merkle} from "Merkle.sol";

struct Packet {
    uint64 sequence;
    string sourceClient;
    string destinationClient;
    uint64 timeout; // seconds
    string sourcePort;
    string destinationPort;
    string version;
    string encoding;
    bytes value;
}

/// Another entry of the relay's journal, proven beside a packet.
struct Entry {
    bytes path;
    bytes value;
}

/// What runs on a port. It is given APP_GAS; if it reverts, the error acknowledgement is written.
interface IApp {
    function onReceive(Packet calldata packet, Entry[] calldata entries) external returns (bytes memory);
    function onAcknowledge(Packet calldata packet, bytes calldata acknowledgement) external;
    function onTimeout(Packet calldata packet) external;
}

/// An EVM ledger's end of one relay: IBC v2 packets, and the light client of the relay's journal.
/// Packets of one payload. Rules and their order: relay/channel.py and relay/light/client.py.
contract Endpoint {
    error CLIENT_FROZEN();
    error CLIENT_EXPIRED();
    error CLIENT_NOT_FOUND();
    error HEIGHT_NOT_MONOTONIC();
    error TIME_NOT_MONOTONIC();
    error HEADER_FROM_FUTURE();
    error NOT_ENOUGH_TRUST();
    error VALIDATOR_SET_MISMATCH();
    error HEAD_CONFLICT();
    error HEIGHT_NOT_TRUSTED();
    error NOT_MISBEHAVIOUR();
    error NOT_PERMITTED();
    error PATH_WRITTEN();
    error COUNTERPARTY_MISMATCH();
    error COUNTERPARTY_EXISTS();
    error COUNTERPARTY_UNKNOWN();
    error COMMITMENT_MISMATCH();
    error TIMEOUT_ELAPSED();
    error TIMEOUT_NOT_REACHED();
    error TIMEOUT_TOO_FAR();
    error RECEIVED();
    error ENTRY_MISSING();
    error INVALID_PACKET();
    error LIMIT_EXCEEDED();
    error WRONG_CHAIN();
    error RECOVERY_NOT_DUE();
    error RECOVERY_PENDING();
    error RECOVERY_NOT_NEEDED();
    error CHAIN_ID_MISMATCH();
    error NOT_FOUND();

    event Sent(uint64 indexed step, uint64 indexed sequence, Packet packet);
    event Written(uint64 indexed step, uint64 indexed sequence, Packet packet, bytes acknowledgement);
    event Expired(uint64 indexed step, uint64 indexed sequence, Packet packet);
    event Delivered(bytes4[] outcomes);
    event Head(uint64 indexed size, uint64 time, bytes32 root);
    event Frozen(bytes32 first, bytes32 second);
    event RecoveryProposed(uint64 epoch, Checkpoint.Body head, uint64 due);
    event RecoveryEnded(bool completed);
    event OwnerProposed(address next);
    event OwnerChanged(address owner);

    /// What light clients prove: Keccak-256 of a path to its word (adapters/evm/light/state.py).
    /// It must stay the first state variable: slot 0 is pinned.
    mapping(bytes32 => bytes32) public written;

    /// Slot 1, pinned and proven too: what was sent, and that all below `lowestOpen` has ended. The
    /// one word says as of any header what must have arrived (state.py, `read_sent`).
    uint64 public nextSequence = 1;
    uint64 public lowestOpen = 1;
    uint64 public steps;

    struct Update {
        Checkpoint.Body body;
        Checkpoint.Signature[] signatures;
        Checkpoint.Signature[] witnesses;
        uint64 from; // the size that `consistency` starts from
        bytes32[] consistency;
    }

    struct Item {
        uint8 verb; // 0 receive, 1 acknowledge, 2 timeout, 3 expire
        Packet packet;
        bytes acknowledgement;
        Entry[] entries;
    }

    /// One multi proof under the head of `size`. `place[i]` is the leaf of claim i among `leaves`.
    struct Proof {
        uint64 size;
        bytes32 root;
        uint64 time;
        uint64[] leaves;
        uint16[] place;
        bytes32[] hashes;
        Entry[] sent; // claims before those of the items: what the relay states that it had sent
    }

    struct Pinned {
        uint64 epoch; // of the relay
        uint64 trustingPeriod;
        uint64 clockDrift;
        uint16 witnessQuorum;
        address[] witnesses;
        Checkpoint.Body anchor;
    }

    string public constant CLIENT = "checkpoint-0";
    bytes4 private constant DONE = bytes4(0);
    bytes4 private constant NOOP = bytes4(uint32(1));
    uint256 private constant APP_GAS = 3_000_000;
    uint256 private constant MAX_VALUE = 65_536;
    uint64 private constant MAX_CLOSED = 256;
    uint64 private constant MAX_AHEAD = 1 days;
    uint64 private constant MIN_DELAY = 1 hours;
    uint64 private constant MAX_DELAY = 30 days;
    bytes32 private constant ERROR = sha256("UNIVERSAL_ERROR_ACKNOWLEDGEMENT");

    /// Immutables are part of the code, and so of the code hash that light clients pin.
    bytes32 public immutable NAME;
    uint256 public immutable CHAIN;
    bytes32 public immutable RELAY;

    address public owner;
    address public nextOwner; // proposed, and not the owner before it accepts
    bool public frozen;
    bool private _running;
    bool private _wasFrozen; // when a recovery was proposed
    string public origin; // the relay's chain id and epoch: the first line of each head
    uint64 public epoch;
    uint64 public lineage; // a recovery begins the next: nothing is proven under heads of another
    string public counterparty;
    uint64 public trustingPeriod;
    uint64 public clockDrift;
    uint16 public witnessQuorum;
    address[] public witnesses;
    Checkpoint.Body public latest;
    mapping(uint64 => mapping(uint64 => bytes32)) private _heads; // lineage, size: Keccak-256 of (root, time)
    mapping(bytes32 => Checkpoint.Set) private _sets;
    mapping(uint64 => mapping(bytes32 => bool)) private _inForce; // by lineage
    mapping(uint64 => mapping(bytes32 => uint64)) private _left; // of a set that is no more: the last head's time
    mapping(bytes32 => address) public apps; // Keccak-256 of a port
    mapping(bytes32 => bool) private _expired; // of a packet: `Expired` was told, which is told once
    Checkpoint.Body public proposed;
    uint64 public proposedEpoch;
    uint64 public recoveryDue; // 0: none is proposed

    constructor(bytes32 name, bytes32 relay, Pinned memory pinned, bytes memory set, uint256[] memory ys) {
        (NAME, CHAIN, RELAY, owner) = (name, block.chainid, relay, msg.sender);
        (trustingPeriod, clockDrift) = (pinned.trustingPeriod, pinned.clockDrift);
        (witnessQuorum, witnesses) = (pinned.witnessQuorum, pinned.witnesses);
        if (pinned.witnessQuorum > pinned.witnesses.length) revert NOT_PERMITTED();
        _readSet(set, ys);
        _anchor(pinned.epoch, pinned.anchor);
    }

    modifier onlyOwner() {
        if (msg.sender != owner) revert NOT_PERMITTED();
        _;
    }

    // --- what the operators of this ledger decide

    /// In two steps, so that no endpoint is lost to an address that nobody has.
    function proposeOwner(address next) external onlyOwner {
        nextOwner = next;
        emit OwnerProposed(next);
    }

    function acceptOwner() external {
        if (msg.sender != nextOwner) revert NOT_PERMITTED();
        (owner, nextOwner) = (msg.sender, address(0));
        emit OwnerChanged(msg.sender);
    }

    function registerCounterparty(string calldata client) external onlyOwner {
        if (bytes(counterparty).length != 0) revert COUNTERPARTY_EXISTS();
        counterparty = client;
    }

    /// Once for each port.
    function registerApp(string calldata port, address app) external onlyOwner {
        bytes32 key = keccak256(bytes(port));
        if (!_isName(port)) revert INVALID_PACKET();
        if (apps[key] != address(0)) revert PATH_WRITTEN();
        apps[key] = app;
    }

    /// A new head for a client that is frozen or expired, or whose relay has lost its epoch, after
    /// `delay` seconds in which anybody may object; meanwhile nothing is sent or received. Sequences,
    /// receipts and open commitments stay. Rules and their order: relay/recovery.py.
    function proposeRecovery(uint64 epoch_, Checkpoint.Body calldata body, uint64 delay) external onlyOwner {
        if (delay < MIN_DELAY || delay > MAX_DELAY) revert LIMIT_EXCEEDED();
        if (recoveryDue != 0) revert RECOVERY_PENDING();
        if (epoch_ < epoch) revert CHAIN_ID_MISMATCH();
        if (epoch_ == epoch && !frozen && !_isExpired(latest.time)) revert RECOVERY_NOT_NEEDED();
        _checkAnchor(body);
        (proposedEpoch, proposed, _wasFrozen) = (epoch_, body, frozen);
        recoveryDue = uint64(block.timestamp) + delay;
        emit RecoveryProposed(epoch_, body, recoveryDue);
    }

    /// Completes the recovery, or withdraws it. Evidence that came after the proposal must be
    /// answered by another one.
    function endRecovery(bool complete) external onlyOwner {
        if (recoveryDue == 0) revert NOT_FOUND();
        if (complete) {
            if (block.timestamp < recoveryDue) revert RECOVERY_NOT_DUE();
            if (frozen && !_wasFrozen) revert CLIENT_FROZEN();
            frozen = false;
            lineage++;
            _anchor(proposedEpoch, proposed);
        }
        recoveryDue = 0;
        emit RecoveryEnded(complete);
    }

    // --- the light client of the relay

    /// Anybody may store the preimage of a set hash; it counts once a signed head names it.
    function registerSet(bytes calldata encoded, uint256[] calldata ys) external {
        Checkpoint.readSet(_sets[Checkpoint.hashSet(encoded)], encoded, ys);
    }

    /// What is trusted of that size, under which proofs are taken; zero: nothing.
    function heads(uint64 size) public view returns (bytes32) {
        return _heads[lineage][size];
    }

    function knowsSet(bytes32 hash) external view returns (bool) {
        return _sets[hash].total != 0;
    }

    /// Two signed bodies that no honest quorum signs both. Freezes; anybody may show them.
    function submitMisbehaviour(
        Checkpoint.Body calldata first,
        Checkpoint.Signature[] calldata signedFirst,
        Checkpoint.Body calldata second,
        Checkpoint.Signature[] calldata signedSecond
    ) external {
        if (first.size > second.size) revert NOT_MISBEHAVIOUR();
        bytes32 one = Checkpoint.digest(first, origin);
        bytes32 other = Checkpoint.digest(second, origin);
        bool conflict = first.size == second.size ? one != other : second.time < first.time;
        uint64 oldest = first.time < second.time ? first.time : second.time;
        if (!conflict || oldest + trustingPeriod <= block.timestamp) revert NOT_MISBEHAVIOUR();
        if (!_mayAccuse(first.set) || !_mayAccuse(second.set)) revert NOT_MISBEHAVIOUR();
        Checkpoint.verifyQuorum(_sets[first.set], one, signedFirst);
        Checkpoint.verifyQuorum(_sets[second.set], other, signedSecond);
        frozen = true;
        emit Frozen(one, other);
    }

    /// A set of heads within the trusting period. The time in an accusing head is what its signers
    /// wrote: it does not keep out keys that were retired long ago, whoever holds them by now.
    function _mayAccuse(bytes32 set) private view returns (bool) {
        uint64 time = _left[lineage][set];
        return _inForce[lineage][set] && (time == 0 || !_isExpired(time));
    }

    function _update(Update calldata update) private returns (bool) {
        Checkpoint.Body calldata body = update.body;
        bytes32 digest = Checkpoint.digest(body, origin);
        // Older heads are compared by what proofs need of them; the newest by all of it.
        bool known = heads(body.size) == _head(body.root, body.time);
        if (known && (body.size < latest.size || digest == Checkpoint.digest(latest, origin))) return false;
        _checkActive();
        if (body.size < latest.size) revert HEIGHT_NOT_MONOTONIC();
        if (body.size == latest.size) {
            if (body.set != latest.set) revert VALIDATOR_SET_MISMATCH();
            Checkpoint.verifyQuorum(_sets[body.set], digest, update.signatures);
            revert HEAD_CONFLICT();
        }
        if (body.time < latest.time) revert TIME_NOT_MONOTONIC();
        if (body.time > block.timestamp + clockDrift) revert HEADER_FROM_FUTURE();
        if (body.set != latest.next) revert NOT_ENOUGH_TRUST();
        if (_sets[body.next].total == 0) revert VALIDATOR_SET_MISMATCH();
        if (update.from != latest.size) revert Merkle.INVALID_CONSISTENCY();
        Merkle.verifyConsistency(latest.size, body.size, latest.root, body.root, update.consistency);
        Checkpoint.verifyQuorum(_sets[body.set], digest, update.signatures);
        Checkpoint.verifyWitnesses(witnesses, witnessQuorum, digest, update.witnesses);
        if (latest.set != body.set && latest.set != body.next) _left[lineage][latest.set] = latest.time;
        if (body.next != body.set) delete _left[lineage][body.next]; // it may have been in force before
        _keep(body);
        return true;
    }

    function _anchor(uint64 epoch_, Checkpoint.Body memory body) private {
        _checkAnchor(body);
        epoch = epoch_;
        origin = string(abi.encodePacked(_relay(), "/", Canonical.toDecimal(epoch_)));
        _keep(body);
    }

    /// A head that its owner compared by other means: signatures say nothing of which history it is.
    function _checkAnchor(Checkpoint.Body memory body) private view {
        if (_sets[body.set].total == 0 || _sets[body.next].total == 0) revert VALIDATOR_SET_MISMATCH();
        if (body.time > block.timestamp + clockDrift) revert HEADER_FROM_FUTURE();
        if (_isExpired(body.time)) revert CLIENT_EXPIRED();
    }

    function _isExpired(uint64 time) private view returns (bool) {
        return block.timestamp >= time + trustingPeriod;
    }

    /// The relay's name without the zeros behind it.
    function _relay() private view returns (bytes memory name) {
        name = abi.encodePacked(RELAY);
        uint256 length = 0;
        while (length < 32 && RELAY[length] != 0) length++;
        assembly ("memory-safe") {
            mstore(name, length)
        }
    }

    function _keep(Checkpoint.Body memory body) private {
        latest = body;
        _heads[lineage][body.size] = _head(body.root, body.time);
        _inForce[lineage][body.set] = _inForce[lineage][body.next] = true;
        emit Head(body.size, body.time, body.root);
    }

    function _head(bytes32 root, uint64 time) private pure returns (bytes32) {
        return keccak256(abi.encode(root, time));
    }

    function _checkActive() private view {
        if (frozen) revert CLIENT_FROZEN();
        if (_isExpired(latest.time)) revert CLIENT_EXPIRED();
        if (recoveryDue != 0) revert RECOVERY_PENDING();
    }

    // --- packets

    /// Called by the application on `sourcePort`: commits to a packet to the relay.
    function send(
        string calldata sourcePort,
        string calldata destinationPort,
        string calldata version,
        string calldata encoding,
        bytes calldata value,
        uint64 timeout
    ) external returns (uint64 sequence) {
        if (msg.sender != apps[keccak256(bytes(sourcePort))]) revert NOT_PERMITTED();
        if (bytes(counterparty).length == 0) revert COUNTERPARTY_UNKNOWN();
        _checkActive();
        if (timeout <= block.timestamp) revert TIMEOUT_ELAPSED();
        if (timeout > block.timestamp + MAX_AHEAD) revert TIMEOUT_TOO_FAR();
        if (value.length == 0 || !_isName(destinationPort)) revert INVALID_PACKET();
        if (!_isName(version) || !_isName(encoding)) revert INVALID_PACKET();
        if (value.length > MAX_VALUE) revert LIMIT_EXCEEDED();
        sequence = nextSequence++;
        Packet memory packet = Packet(
            sequence, CLIENT, counterparty, timeout, sourcePort, destinationPort, version, encoding, value
        );
        written[_key(CLIENT, 1, sequence)] = _commitment(packet);
        emit Sent(++steps, sequence, packet);
    }

    /// A record of the application on `port`, written once, that may travel beside its packets.
    function put(string calldata port, bytes calldata key, bytes calldata value) external {
        if (msg.sender != apps[keccak256(bytes(port))]) revert NOT_PERMITTED();
        if (key.length == 0 || key.length > 512) revert LIMIT_EXCEEDED();
        bytes memory path = abi.encodePacked(bytes1(0), bytes1(uint8(9)), bytes1(uint8(bytes(port).length)), port, key);
        bytes32 slot = keccak256(path);
        bytes32 word = sha256(value);
        if (written[slot] != 0 && written[slot] != word) revert PATH_WRITTEN();
        written[slot] = word;
    }

    /// Heads in order, then items under one proof. Heads and proof revert; items answer one by one:
    /// zero for done, 1 for done before, else the selector of the reason.
    function deliver(Update[] calldata updates, Item[] calldata items, Proof calldata proof)
        external
        returns (uint256 fresh, bytes4[] memory outcomes)
    {
        if (_running) revert NOT_PERMITTED();
        if (block.chainid != CHAIN) revert WRONG_CHAIN();
        _running = true;
        for (uint256 i = 0; i < updates.length; i++) if (_update(updates[i])) fresh++;
        outcomes = new bytes4[](items.length);
        bool proven = false;
        for (uint256 i = 0; i < items.length; i++) {
            outcomes[i] = _check(items[i], proof.time);
            if (outcomes[i] != DONE) continue;
            if (!proven) {
                _verify(items, proof);
                proven = true;
            }
            outcomes[i] = _run(items[i]);
        }
        emit Delivered(outcomes);
        _running = false;
    }

    /// What must hold before the proof is looked at, in the order of relay/channel.py.
    function _check(Item calldata item, uint64 time) private view returns (bytes4) {
        Packet calldata packet = item.packet;
        if (item.verb > 3 || packet.sequence == 0 || packet.value.length == 0) {
            return INVALID_PACKET.selector;
        }
        if (packet.value.length > MAX_VALUE) return LIMIT_EXCEEDED.selector;
        bool own = item.verb == 1 || item.verb == 2;
        (string calldata ours, string calldata theirs) = own
            ? (packet.sourceClient, packet.destinationClient)
            : (packet.destinationClient, packet.sourceClient);
        if (!_same(ours, CLIENT) || !_same(theirs, counterparty)) return COUNTERPARTY_MISMATCH.selector;
        if (own) {
            bytes32 open = written[_key(CLIENT, 1, packet.sequence)];
            if (open == 0) return NOOP;
            if (open != _commitment(packet)) return COMMITMENT_MISMATCH.selector;
            if (item.verb == 2 && time < packet.timeout) return TIMEOUT_NOT_REACHED.selector;
            return DONE;
        }
        bytes32 receipt = written[_key(CLIENT, 2, packet.sequence)];
        if (item.verb == 0) {
            if (receipt != 0) return receipt == _commitment(packet) ? NOOP : COMMITMENT_MISMATCH.selector;
            return block.timestamp >= packet.timeout ? TIMEOUT_ELAPSED.selector : DONE;
        }
        if (receipt != 0) return RECEIVED.selector;
        if (_expired[_id(packet)]) return NOOP;
        return block.timestamp < packet.timeout ? TIMEOUT_NOT_REACHED.selector : DONE;
    }

    function _run(Item calldata item) private returns (bytes4) {
        Packet calldata packet = item.packet;
        if (item.verb == 3) {
            // Absence is proven under a header from after the timeout; nothing has to be written for it.
            _expired[_id(packet)] = true;
            emit Expired(++steps, packet.sequence, packet);
        } else if (item.verb == 0) {
            return _receive(packet, item.entries);
        } else {
            _close(packet.sequence);
            address app = apps[keccak256(bytes(packet.sourcePort))];
            _reserveGas();
            // What the application makes of the end of its packet changes nothing about that end.
            if (item.verb == 1) {
                try IApp(app).onAcknowledge{gas: APP_GAS}(packet, item.acknowledgement) {} catch {}
            } else {
                try IApp(app).onTimeout{gas: APP_GAS}(packet) {} catch {}
            }
        }
        return DONE;
    }

    /// Ends a packet of this ledger; the lowest open one rises over those that have ended.
    function _close(uint64 sequence) private {
        delete written[_key(CLIENT, 1, sequence)];
        uint64 low = lowestOpen;
        uint64 end = low + MAX_CLOSED < nextSequence ? low + MAX_CLOSED : nextSequence;
        while (low < end && written[_key(CLIENT, 1, low)] == 0) low++;
        lowestOpen = low;
    }

    /// An application that lacks what should have been proven beside the packet says ENTRY_MISSING:
    /// then nothing is written, so that nobody uses a packet up by delivering it without.
    function _receive(Packet calldata packet, Entry[] calldata entries) private returns (bytes4) {
        bytes32 receipt = _key(CLIENT, 2, packet.sequence);
        written[receipt] = _commitment(packet);
        address app = apps[keccak256(bytes(packet.destinationPort))];
        bytes memory answer = abi.encodePacked(ERROR);
        if (app != address(0)) {
            _reserveGas();
            try IApp(app).onReceive{gas: APP_GAS}(packet, entries) returns (bytes memory given) {
                if (given.length != 0 && given.length <= MAX_VALUE) answer = given;
            } catch (bytes memory why) {
                if (why.length == 4 && bytes4(why) == ENTRY_MISSING.selector) {
                    delete written[receipt];
                    return ENTRY_MISSING.selector;
                }
            }
        }
        written[_key(CLIENT, 3, packet.sequence)] = sha256(abi.encodePacked(bytes1(0x02), sha256(answer)));
        emit Written(++steps, packet.sequence, packet, answer);
        return DONE;
    }

    /// Whoever delivers cannot make an application fail by too little gas: 63/64 of what is left
    /// here is more than it is given.
    function _reserveGas() private view {
        if (gasleft() < APP_GAS + APP_GAS / 32 + 200_000) revert LIMIT_EXCEEDED();
    }

    /// Claims in order: what the relay states, then of each item its packet's, then its entries.
    function _verify(Item[] calldata items, Proof calldata proof) private view {
        _checkActive();
        if (heads(proof.size) != _head(proof.root, proof.time)) revert HEIGHT_NOT_TRUSTED();
        bytes32[] memory row = new bytes32[](proof.leaves.length);
        uint256 pos = _placeEntries(row, proof.place, 0, proof.sent);
        for (uint256 i = 0; i < items.length; i++) {
            (bytes32 path, bytes32 value) = _claim(items[i]);
            _place(row, proof.place, pos++, Merkle.leaf(path, value));
            pos = _placeEntries(row, proof.place, pos, items[i].entries);
        }
        if (pos != proof.place.length) revert Merkle.INVALID_PROOF();
        for (uint256 i = 0; i < row.length; i++) if (row[i] == 0) revert Merkle.INVALID_PROOF();
        if (Merkle.rootFromMulti(proof.size, proof.leaves, row, proof.hashes) != proof.root) {
            revert Merkle.INVALID_PROOF();
        }
    }

    function _placeEntries(bytes32[] memory row, uint16[] calldata place, uint256 pos, Entry[] calldata entries)
        private
        pure
        returns (uint256)
    {
        for (uint256 i = 0; i < entries.length; i++) {
            Entry calldata entry = entries[i];
            if (entry.path.length == 0 || entry.path[0] != 0) revert Merkle.INVALID_PROOF();
            _place(row, place, pos++, Merkle.leaf(sha256(entry.path), sha256(entry.value)));
        }
        return pos;
    }

    function _place(bytes32[] memory row, uint16[] calldata place, uint256 claim, bytes32 leaf) private pure {
        if (claim >= place.length || place[claim] >= row.length) revert Merkle.INVALID_PROOF();
        bytes32 there = row[place[claim]];
        if (there != 0 && there != leaf) revert Merkle.INVALID_PROOF();
        row[place[claim]] = leaf;
    }

    /// SHA-256 of the path and of the value that must be on the relay's journal for an item.
    function _claim(Item calldata item) private pure returns (bytes32, bytes32) {
        Packet calldata packet = item.packet;
        if (item.verb == 0 || item.verb == 3) {
            return (_hash(packet.sourceClient, 1, packet.sequence), sha256(abi.encode(_commitment(packet))));
        }
        if (item.verb == 1) {
            bytes32 value = sha256(abi.encodePacked(bytes1(0x02), sha256(item.acknowledgement)));
            return (_hash(packet.destinationClient, 3, packet.sequence), sha256(abi.encode(value)));
        }
        return (_hash(packet.destinationClient, 2, packet.sequence), sha256(abi.encode(bytes32(0))));
    }

    function _path(string memory client, uint8 kind, uint64 sequence) private pure returns (bytes memory) {
        return abi.encodePacked(client, kind, sequence);
    }

    function _hash(string memory client, uint8 kind, uint64 sequence) private pure returns (bytes32) {
        return sha256(_path(client, kind, sequence));
    }

    function _key(string memory client, uint8 kind, uint64 sequence) private pure returns (bytes32) {
        return keccak256(_path(client, kind, sequence));
    }

    function _commitment(Packet memory p) private pure returns (bytes32) {
        bytes32 payload = sha256(
            abi.encodePacked(
                sha256(bytes(p.sourcePort)),
                sha256(bytes(p.destinationPort)),
                sha256(bytes(p.version)),
                sha256(bytes(p.encoding)),
                sha256(p.value)
            )
        );
        return sha256(
            abi.encodePacked(
                bytes1(0x02),
                sha256(bytes(p.destinationClient)),
                sha256(abi.encodePacked(p.timeout)),
                sha256(abi.encodePacked(payload))
            )
        );
    }

    /// Printable characters, 1 to 128, none of them a space: a packet with anything else is taken by
    /// no relay (relay/packet.py), and so never ends. 32 are looked at at once.
    function _isName(string calldata text) private pure returns (bool) {
        uint256 length = bytes(text).length;
        if (length == 0 || length > 128) return false;
        uint256 ones = type(uint256).max / 255;
        for (uint256 i = 0; i < length; i += 32) {
            uint256 word;
            assembly ("memory-safe") {
                word := calldataload(add(text.offset, i))
            }
            uint256 behind = length - i < 32 ? type(uint256).max >> (8 * (length - i)) : 0;
            word = (word & ~behind) | ((0x30 * ones) & behind);
            unchecked {
                if ((word | (word + ones)) & (0x80 * ones) != 0) return false; // above 0x7e
                if (~(word + 0x5f * ones) & (0x80 * ones) != 0) return false; // below 0x21
            }
        }
        return true;
    }

    function _id(Packet calldata packet) private pure returns (bytes32) {
        return keccak256(abi.encode(packet.sequence, _commitment(packet)));
    }

    function _same(string calldata a, string memory b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    /// For the constructor, whose arguments lie in memory.
    function _readSet(bytes memory set, uint256[] memory ys) private {
        Checkpoint.readSet(_sets[Checkpoint.hashSet(set)], set, ys);
    }
}
