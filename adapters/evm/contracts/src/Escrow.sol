// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Canonical} from "Canonical.sol";
import {Checkpoint} from "Checkpoint.sol";
import {Endpoint, Entry, IApp, Packet} from "Endpoint.sol";
import {Decision, Leg, Order, Reader, Signature} from "Reader.sol";

interface IToken {
    function balanceOf(address account) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}

/// The application `escrow`: accounts in books of its own over one ERC-20 per currency, locks, and the
/// one way in which they end. Rules and payloads are those of relay/contracts/escrow, byte for byte.
/// The token is asked only when money comes or goes; a release is a posting and cannot fail.
contract Escrow is IApp {
    error NOT_PERMITTED();
    error MALFORMED();
    error UNSUPPORTED_VERSION();
    error COUNTERPARTY_MISMATCH();
    error CHAIN_ID_MISMATCH();
    error ENTRY_MISSING();
    error DECISION_MISMATCH();
    error CONFLICT();
    error PATH_WRITTEN();
    error PARTY_INVALID();
    error ACCOUNT_NOT_FOUND();
    error ACCOUNT_CLOSED();
    error CURRENCY_MISMATCH();
    error AMOUNT_INVALID();
    error FUNDS_MISSING();
    error REQUEST_ID_REUSED();

    /// The line of a book that an event shows: amounts are minor units, names Keccak-256 of a text.
    enum Kind {
        DEPOSIT,
        WITHDRAWAL,
        PRINCIPAL,
        FEE,
        ASSIGNED,
        LOCK,
        REFUND,
        ROUNDING,
        ROUNDING_BACK
    }

    event CurrencyOpened(bytes3 indexed currency, address token, uint256 unit);
    event AccountOpened(uint32 indexed id, string account, string owner, uint32 version, bool closed);
    /// Debtor 0 of a deposit and creditor 0 of a withdrawal are the token; else 0 is suspense.
    /// A lock holds `amount` of the debtor, a refund frees it; both move nothing.
    event Posted(
        bytes32 indexed settlement, Kind indexed kind, bytes3 currency, uint32 debtor, uint32 creditor, uint64 amount
    );
    event Locked(bytes32 indexed settlement, bytes32 digest);
    event Refused(bytes32 indexed settlement, bytes32 reason);
    event Ended(bytes32 indexed settlement, State how, bytes32 decision);
    /// A call that changed something, whole; packets are told by the endpoint (`Written`).
    event Called(uint64 indexed step, address indexed by, bytes data);

    enum State {
        NONE,
        LOCKED,
        RELEASED,
        REFUNDED,
        NOTHING
    }

    struct Currency {
        address token;
        uint64 booked; // minor units on all accounts together, suspense included
        uint256 unit; // of the token, for one minor unit
    }

    struct Account {
        uint64 balance;
        uint64 held;
        uint64 spent; // locked on `day`, and not refunded on it
        uint32 day; // civil, in Shanghai
        uint32 version;
        address holder; // who deposits and withdraws
        bytes3 currency;
        bool closed;
        bytes32 owner;
        Limits limits;
    }

    /// Of a civil day; 0: none. As in relay/contracts/accounts.py.
    struct Limits {
        uint64 daily;
        uint64 counterparty;
        uint64 officer;
        uint64 regulator;
    }

    /// A public key: compressed prefix and x, with its y; valid while start <= time < end.
    struct Key {
        uint8 prefix;
        uint256 x;
        uint256 y;
        uint48 start;
        uint48 end;
    }

    struct Cosigner {
        string role;
        string officer;
        Key[] keys;
    }

    struct Terms {
        string account;
        string owner;
        bytes3 currency;
        address holder;
        uint32 version;
        bool closed;
        Key[] keys;
        Cosigner[] cosigners;
        Limits limits;
    }

    struct Signer {
        address signer;
        uint48 start;
        uint48 end;
    }

    struct Lock {
        State state;
        uint64 time;
        uint64 ended;
        uint8 count;
        bytes32 digest;
        bytes32 decision;
    }

    /// What a lock holds of one account, and to whom a release pays it.
    struct Hold {
        uint32 debtor;
        uint32 creditor;
        uint32 feeTo;
        uint64 amount;
        uint64 fee;
        bool counted; // against a limit for one payee
        int16 difference; // of an itemised bill: what is payable less what its lines come to
    }

    struct Paid {
        uint64 total;
        uint32 day;
    }

    bytes32 private constant SETTLEMENT_PORT = keccak256("settlement");
    bytes32 private constant VERSION = keccak256("escrow-1");
    bytes32 private constant ENCODING = keccak256("application/json");
    bytes32 private constant OFFICER = keccak256("officer");
    bytes32 private constant REGULATOR = keccak256("regulator");
    uint256 private constant TOKEN_GAS = 100_000;

    Endpoint public immutable ENDPOINT;
    Reader public immutable READER;
    bytes32 private immutable LEDGER;
    bytes32 private immutable RELAY;

    mapping(bytes3 => Currency) public currencies;
    mapping(bytes3 => uint64) public suspense;
    mapping(bytes32 => uint32) public ids; // Keccak-256 of an account's name
    mapping(uint32 => Account) public accounts;
    mapping(bytes32 => Signer) private _signers; // of (account, version, whose, key)
    mapping(bytes32 => bool) public quotes; // Keccak-256 of (maker, id), each hashed
    mapping(bytes32 => Lock) public locks; // by settlement
    mapping(bytes32 => mapping(uint256 => Hold)) public holds;
    mapping(bytes32 => Paid) private _paid; // (account, payee's owner)
    mapping(bytes32 => bytes32) public moved; // by name: Keccak-256 of the call that moved money
    uint32 public count;
    bool private _moving;
    uint64 public steps;
    /// All that was done here, in order, in one word: Keccak-256 of (the word before, block time, who
    /// called, Keccak-256 of his call, or of a packet's value, and of the answer to it). Whoever does
    /// the same again comes to the same books, and shows by this word that nothing was left out.
    bytes32 public history;

    constructor(Endpoint endpoint) {
        ENDPOINT = endpoint;
        READER = new Reader();
        (LEDGER, RELAY) = (keccak256(_trim(endpoint.NAME())), keccak256(_trim(endpoint.RELAY())));
    }

    modifier onlyOperator() {
        if (msg.sender != ENDPOINT.owner()) revert NOT_PERMITTED();
        _;
    }

    /// Two calls of a token never nest: what it moves is measured.
    modifier moving() {
        if (_moving) revert NOT_PERMITTED();
        _moving = true;
        _;
        _moving = false;
    }

    // --- what the ledger's operator does: who owns the endpoint

    /// Once for each currency: `digits` are those of the token, at least those of the currency.
    function openCurrency(bytes3 currency, address token, uint8 digits) external onlyOperator {
        uint256 exponent = READER.exponent(currency);
        if (currencies[currency].token != address(0)) revert PATH_WRITTEN();
        if (token.code.length == 0 || digits < exponent || digits > 36) revert CURRENCY_MISMATCH();
        currencies[currency] = Currency(token, 0, 10 ** (digits - exponent));
        emit CurrencyOpened(currency, token, 10 ** (digits - exponent));
        _called();
    }

    /// The next version of an account's terms, from 1. Owner and currency never change; the keys of a
    /// version end with it; an account closes empty.
    function openAccount(Terms calldata terms) external onlyOperator {
        bytes32 name = keccak256(bytes(terms.account));
        uint32 id = ids[name];
        if (id == 0) {
            if (bytes(terms.account).length == 0) revert MALFORMED();
            if (currencies[terms.currency].token == address(0)) revert CURRENCY_MISMATCH();
            ids[name] = id = ++count;
            accounts[id].currency = terms.currency;
            accounts[id].owner = keccak256(bytes(terms.owner));
        }
        Account storage account = accounts[id];
        if (terms.version != account.version + 1) revert CONFLICT();
        if (account.owner != keccak256(bytes(terms.owner))) revert PARTY_INVALID();
        if (account.currency != terms.currency) revert CURRENCY_MISMATCH();
        if (terms.closed && account.balance != 0) revert ACCOUNT_CLOSED();
        (account.version, account.closed, account.holder) = (terms.version, terms.closed, terms.holder);
        account.limits = terms.limits;
        _register(id, terms.version, 0, terms.keys);
        for (uint256 i = 0; i < terms.cosigners.length; i++) {
            Cosigner calldata one = terms.cosigners[i];
            bytes32 who = _who(keccak256(bytes(one.role)), keccak256(bytes(one.officer)));
            _register(id, terms.version, who, one.keys);
        }
        emit AccountOpened(id, terms.account, terms.owner, terms.version, terms.closed);
        _called();
    }

    function _register(uint32 id, uint32 version, bytes32 who, Key[] calldata keys) private {
        for (uint256 i = 0; i < keys.length; i++) {
            Key calldata key = keys[i];
            address signer = Checkpoint.addressOf(key.prefix, key.x, key.y);
            bytes32 text = keccak256(abi.encodePacked("0", key.prefix == 2 ? "2" : "3", Canonical.toHex(bytes32(key.x))));
            _signers[_signerKey(id, version, who, text)] = Signer(signer, key.start, key.end);
        }
    }

    /// Out of suspense, to whom it is due. What moves money has a name of 32 bytes and is done once: the same
    /// again does nothing.
    function assign(string calldata account, uint64 amount, bytes32 movement) external onlyOperator {
        if (_done(movement)) return;
        (uint32 id, Account storage to) = _account(account);
        if (amount == 0) revert AMOUNT_INVALID();
        if (suspense[to.currency] < amount) revert FUNDS_MISSING();
        suspense[to.currency] -= amount;
        to.balance += amount;
        emit Posted(0, Kind.ASSIGNED, to.currency, 0, id, amount);
        _called();
    }

    // --- what an account's holder does

    /// Pulls the token. What arrives must be what was asked for, and what lies here at least what is
    /// booked: tokens that take a fee or change balances are refused.
    function deposit(string calldata account, uint64 amount, bytes32 movement) external moving {
        (uint32 id, Account storage to) = _account(account);
        if (msg.sender != to.holder) revert NOT_PERMITTED();
        if (_done(movement)) return;
        Currency storage currency = currencies[to.currency];
        if (amount == 0 || currency.booked + amount > Canonical.MAX_INTEGER) revert AMOUNT_INVALID();
        uint256 tokens = amount * currency.unit;
        uint256 before = IToken(currency.token).balanceOf(address(this));
        if (before < currency.booked * currency.unit) revert FUNDS_MISSING();
        _call(currency.token, abi.encodeCall(IToken.transferFrom, (msg.sender, address(this), tokens)));
        uint256 arrived = IToken(currency.token).balanceOf(address(this));
        if (arrived != before + tokens) revert AMOUNT_INVALID();
        currency.booked += amount;
        to.balance += amount;
        emit Posted(0, Kind.DEPOSIT, to.currency, 0, id, amount);
        _called();
    }

    /// Pays out what is free, to wherever the holder says: a payee whom the token refuses can name
    /// another, and nobody else waits for him.
    function withdraw(string calldata account, uint64 amount, address to, bytes32 movement) external moving {
        (uint32 id, Account storage from) = _account(account);
        if (msg.sender != from.holder) revert NOT_PERMITTED();
        if (_done(movement)) return;
        if (amount == 0) revert AMOUNT_INVALID();
        if (from.balance - from.held < amount) revert FUNDS_MISSING();
        Currency storage currency = currencies[from.currency];
        from.balance -= amount;
        currency.booked -= amount;
        emit Posted(0, Kind.WITHDRAWAL, from.currency, id, 0, amount);
        _called(); // here, since what the token may do in its midst comes after it
        uint256 tokens = amount * currency.unit;
        uint256 before = IToken(currency.token).balanceOf(address(this));
        _call(currency.token, abi.encodeCall(IToken.transfer, (to, tokens)));
        if (before != IToken(currency.token).balanceOf(address(this)) + tokens) revert AMOUNT_INVALID();
    }

    /// A token that returns nothing is taken as one that returns true: balances are what counts.
    function _call(address token, bytes memory data) private {
        (bool done, bytes memory said) = token.call(data);
        if (!done || (said.length != 0 && !abi.decode(said, (bool)))) revert FUNDS_MISSING();
    }

    /// Whether a call of that name did the same before. Another call under it is refused.
    function _done(bytes32 movement) private returns (bool) {
        bytes32 asked = keccak256(msg.data);
        bytes32 before = moved[movement];
        if (before == 0) moved[movement] = asked;
        else if (before != asked) revert REQUEST_ID_REUSED();
        return before != 0;
    }

    function _called() private {
        _tell(keccak256(msg.data), 0);
        emit Called(steps, msg.sender, msg.data);
    }

    function _tell(bytes32 what, bytes32 answer) private {
        steps++;
        history = keccak256(abi.encode(history, block.timestamp, msg.sender, what, answer));
    }

    function _account(string calldata name) private view returns (uint32 id, Account storage account) {
        id = ids[keccak256(bytes(name))];
        account = accounts[id];
        if (id == 0) revert ACCOUNT_NOT_FOUND();
        if (account.closed) revert ACCOUNT_CLOSED();
    }

    // --- packets of the relay

    /// A refused lock is an answer with its reason and leaves nothing behind. What reverts becomes the
    /// error acknowledgement; ENTRY_MISSING alone leaves the packet to be delivered again.
    function onReceive(Packet calldata packet, Entry[] calldata entries) external returns (bytes memory answer) {
        if (msg.sender != address(ENDPOINT)) revert NOT_PERMITTED();
        if (keccak256(bytes(packet.version)) != VERSION) revert UNSUPPORTED_VERSION();
        if (keccak256(bytes(packet.encoding)) != ENCODING) revert UNSUPPORTED_VERSION();
        if (keccak256(bytes(packet.sourcePort)) != SETTLEMENT_PORT) revert COUNTERPARTY_MISMATCH();
        if (packet.value.length > 2 && packet.value[2] == "d") {
            answer = _end(packet.value, entries);
        } else {
            Order memory order = READER.readLock(packet.value, LEDGER);
            if (order.ledger != LEDGER) revert CHAIN_ID_MISMATCH();
            if (order.relay != RELAY) revert COUNTERPARTY_MISMATCH();
            answer = _lock(order);
        }
        _tell(keccak256(packet.value), keccak256(answer));
    }

    function onAcknowledge(Packet calldata, bytes calldata) external pure {
        revert NOT_PERMITTED();
    }

    function onTimeout(Packet calldata) external pure {
        revert NOT_PERMITTED();
    }

    // --- locks

    function _lock(Order memory order) private returns (bytes memory) {
        Lock storage lock = locks[order.settlement];
        uint64 time = uint64(block.timestamp);
        bytes32 reason = 0;
        if (lock.digest != 0) {
            // What was given back is no lock that a relay which has lost its decision could commit on.
            if (lock.digest != order.digest) reason = "REQUEST_ID_REUSED";
            else if (lock.state == State.REFUNDED) reason = "SETTLEMENT_DECIDED";
            else time = lock.time;
        } else if (lock.state != State.NONE) {
            reason = "SETTLEMENT_DECIDED";
        } else {
            Hold[] memory held = new Hold[](order.legs.length);
            reason = _check(order, held);
            if (reason == 0) _write(order, held, lock);
        }
        if (reason != 0) emit Refused(order.settlement, reason);
        return abi.encodePacked(
            reason == 0 ? '{"accepted":true,"ledger":"' : '{"accepted":false,"ledger":"',
            _trim(ENDPOINT.NAME()),
            '","reason":"',
            _trim(reason),
            '","settlement":"',
            Canonical.toHex(order.settlement),
            '","time":',
            Canonical.toDecimal(time),
            ',"type":"lock_answer"}'
        );
    }

    /// The reason why it cannot be locked, in the order of relay/contracts/escrow/locks.py. Fills
    /// `held`. Writes nothing.
    function _check(Order memory order, Hold[] memory held) private view returns (bytes32 reason) {
        if (order.window) return "WINDOW_CLOSED";
        if (block.timestamp >= order.expires) return "QUOTE_EXPIRED";
        if (order.signedFor != RELAY || held.length == 0) return "CHAIN_ID_MISMATCH";
        if (order.amounts != 0) return order.amounts;
        if (quotes[order.quote]) return "QUOTE_USED";
        for (uint256 i = 0; i < held.length; i++) {
            reason = _checkAccounts(order, order.legs[i], held[i]);
            if (reason != 0) return reason;
        }
        for (uint256 k = 0; k < order.signatures.length; k++) {
            Signature memory one = order.signatures[k];
            reason = _checkSigned(one, held[one.leg - 1].debtor);
            if (reason != 0) return reason;
        }
        bytes32[] memory owners = new bytes32[](2 * held.length);
        for (uint256 i = 0; i < held.length; i++) {
            reason = _checkPayee(held, owners, i);
            if (reason != 0) return reason;
        }
        for (uint256 k = 0; k < order.signatures.length; k++) {
            reason = _checkDay(order, held, order.signatures[k].leg - 1);
            if (reason != 0) return reason;
        }
        for (uint256 k = 0; k < order.signatures.length; k++) {
            reason = _checkFunds(held, order.signatures[k].leg - 1);
            if (reason != 0) return reason;
        }
    }

    function _checkAccounts(Order memory order, Leg memory leg, Hold memory hold)
        private
        view
        returns (bytes32 reason)
    {
        (hold.amount, hold.fee) = (leg.amount, leg.fee);
        if (!leg.bill) hold.difference = order.difference;
        (hold.debtor, hold.creditor) = (ids[leg.debtor], ids[leg.creditor]);
        reason = _checkOpen(hold.debtor, leg.currency);
        if (reason == 0) reason = _checkOpen(hold.creditor, leg.currency);
        if (reason == 0 && leg.feeTo != 0) {
            hold.feeTo = ids[leg.feeTo];
            reason = _checkOpen(hold.feeTo, leg.currency);
        }
        if (reason != 0) return reason;
        bytes32 maker = accounts[leg.bill != order.returns_ ? hold.debtor : hold.creditor].owner;
        if (maker != order.maker) return "QUOTE_FOREIGN";
    }

    function _checkOpen(uint32 id, bytes3 currency) private view returns (bytes32) {
        if (id == 0) return "ACCOUNT_NOT_FOUND";
        if (accounts[id].closed) return "ACCOUNT_CLOSED";
        return accounts[id].currency == currency ? bytes32(0) : bytes32("CURRENCY_MISMATCH");
    }

    function _checkSigned(Signature memory one, uint32 id) private view returns (bytes32) {
        address signer = _signerOf(id, 0, one.key);
        if (!one.readable || signer == address(0)) return "UNKNOWN_SIGNER";
        return Checkpoint.signs(signer, one.digest, one.r, one.s) ? bytes32(0) : bytes32("INVALID_SIGNATURE");
    }

    /// What the legs up to this one take of its debtor, and the limit for its payee's owner, and for
    /// whose fee it is. Fills `owners` of this leg: of its creditor, and of where its fee goes.
    function _checkPayee(Hold[] memory held, bytes32[] memory owners, uint256 pos) private view returns (bytes32) {
        if (_gross(held, pos, pos + 1) > Canonical.MAX_INTEGER) return "AMOUNT_INVALID";
        Hold memory hold = held[pos];
        uint256 limit = accounts[hold.debtor].limits.counterparty;
        if (limit == 0) return 0;
        hold.counted = true;
        owners[2 * pos] = accounts[hold.creditor].owner;
        if (hold.feeTo != 0) owners[2 * pos + 1] = accounts[hold.feeTo].owner;
        (uint256 one, uint256 other) = _paidWith(held, owners, pos);
        return one > limit || other > limit ? bytes32("LIMIT_REACHED") : bytes32(0);
    }

    /// What a leg's debtor pays its payee's owner that day, and whose its fee is, with the legs up to it.
    function _paidWith(Hold[] memory held, bytes32[] memory owners, uint256 pos)
        private
        view
        returns (uint256 one, uint256 other)
    {
        uint32 debtor = held[pos].debtor;
        (bytes32 payee, bytes32 feePayee) = (owners[2 * pos], owners[2 * pos + 1]);
        one = _paidToday(debtor, payee);
        if (feePayee != 0) other = _paidToday(debtor, feePayee);
        for (uint256 i = 0; i <= pos; i++) {
            Hold memory hold = held[i];
            if (hold.debtor != debtor) continue;
            (bytes32 a, bytes32 b) = (owners[2 * i], owners[2 * i + 1]);
            if (a == payee) one += hold.amount;
            if (b == payee) one += hold.fee;
            if (feePayee == 0) continue;
            if (a == feePayee) other += hold.amount;
            if (b == feePayee) other += hold.fee;
        }
    }

    /// The limit and the co-signatures of a debtor's day.
    function _checkDay(Order memory order, Hold[] memory held, uint256 pos)
        private
        view
        returns (bytes32)
    {
        Account storage debtor = accounts[held[pos].debtor];
        Limits memory limits = debtor.limits;
        uint256 total = _gross(held, pos, held.length) + (debtor.day == _day(block.timestamp) ? debtor.spent : 0);
        if (limits.daily != 0 && total > limits.daily) return "LIMIT_REACHED";
        bool missing = limits.officer != 0 && total > limits.officer && !_cosigned(order, held[pos].debtor, OFFICER);
        if (limits.regulator != 0 && total > limits.regulator && !_cosigned(order, held[pos].debtor, REGULATOR)) {
            missing = true;
        }
        return missing ? bytes32("COSIGNATURE_MISSING") : bytes32(0);
    }

    /// Whether someone registered for that role co-signed, under another key than a debtor's.
    function _cosigned(Order memory order, uint32 id, bytes32 role) private view returns (bool) {
        for (uint256 i = 0; i < order.cosignatures.length; i++) {
            Signature memory one = order.cosignatures[i];
            bool usable = one.readable && one.role == role;
            for (uint256 k = 0; k < order.used.length; k++) if (order.used[k] == one.key) usable = false;
            if (!usable) continue;
            address signer = _signerOf(id, _who(one.role, one.account), one.key);
            if (signer != address(0) && Checkpoint.signs(signer, one.digest, one.r, one.s)) return true;
        }
        return false;
    }

    /// That the debtor has what is held for all of his legs, and the token all that is booked.
    function _checkFunds(Hold[] memory held, uint256 pos) private view returns (bytes32) {
        Account storage debtor = accounts[held[pos].debtor];
        uint256 total = 0;
        for (uint256 i = 0; i < held.length; i++) {
            if (held[i].debtor == held[pos].debtor) total += _whole(held[i]);
        }
        if (debtor.balance - debtor.held < total) return "FUNDS_MISSING";
        return _covered(currencies[debtor.currency]) ? bytes32(0) : bytes32("FUNDS_MISSING");
    }

    /// What the first `end` legs take of one leg's debtor, principal and fee.
    function _gross(Hold[] memory held, uint256 pos, uint256 end) private pure returns (uint256 total) {
        for (uint256 i = 0; i < end; i++) {
            if (held[i].debtor == held[pos].debtor) total += held[i].amount + held[i].fee;
        }
    }

    /// What is held for a leg: all that a release takes. Lines that come to more than is payable are
    /// paid whole, and what is over comes back (relay/contracts/escrow/postings.py).
    function _whole(Hold memory hold) private pure returns (uint64) {
        return hold.amount + hold.fee + (hold.difference < 0 ? _size(hold.difference) : 0);
    }

    function _size(int16 difference) private pure returns (uint64) {
        return uint64(uint16(difference < 0 ? -difference : difference));
    }

    /// Whether the token still holds what is booked; a token that cannot say does not.
    function _covered(Currency storage currency) private view returns (bool) {
        try IToken(currency.token).balanceOf{gas: TOKEN_GAS}(address(this)) returns (uint256 there) {
            return there >= currency.booked * currency.unit;
        } catch {
            return false;
        }
    }

    function _write(Order memory order, Hold[] memory held, Lock storage lock) private {
        uint32 today = _day(block.timestamp);
        for (uint256 i = 0; i < held.length; i++) {
            Hold memory hold = held[i];
            uint64 gross = hold.amount + hold.fee;
            Account storage debtor = accounts[hold.debtor];
            debtor.held += _whole(hold);
            debtor.spent = gross + (debtor.day == today ? debtor.spent : 0);
            debtor.day = today;
            if (hold.counted) {
                _addPaid(hold.debtor, hold.creditor, hold.amount, today);
                if (hold.feeTo != 0) _addPaid(hold.debtor, hold.feeTo, hold.fee, today);
            }
            holds[order.settlement][i] = hold;
            emit Posted(order.settlement, Kind.LOCK, debtor.currency, hold.debtor, hold.creditor, _whole(hold));
        }
        quotes[order.quote] = true;
        (lock.state, lock.time, lock.count) = (State.LOCKED, uint64(block.timestamp), uint8(held.length));
        lock.digest = order.digest;
        emit Locked(order.settlement, order.digest);
    }

    // --- the one decision, and what it does

    function _end(bytes calldata value, Entry[] calldata entries) private returns (bytes memory) {
        Decision memory told = READER.readDecision(value, LEDGER);
        if (told.ledger != LEDGER) revert CHAIN_ID_MISMATCH();
        if (told.relay != RELAY) revert COUNTERPARTY_MISMATCH();
        // The record itself must have been proven beside the packet, and nothing else.
        if (entries.length != 1 || keccak256(entries[0].path) != told.path) revert ENTRY_MISSING();
        if (keccak256(entries[0].value) != told.record) revert DECISION_MISMATCH();
        Lock storage lock = locks[told.settlement];
        if (lock.decision == 0) _apply(told, lock);
        else if (lock.decision != told.record) revert DECISION_MISMATCH();
        return abi.encodePacked(
            '{"ended":"',
            lock.state == State.RELEASED ? "released" : lock.state == State.REFUNDED ? "refunded" : "nothing",
            '","ledger":"',
            _trim(ENDPOINT.NAME()),
            '","settlement":"',
            Canonical.toHex(told.settlement),
            '","time":',
            Canonical.toDecimal(lock.ended),
            ',"type":"decision_answer"}'
        );
    }

    function _apply(Decision memory told, Lock storage lock) private {
        bool locked = lock.state == State.LOCKED;
        if (locked && lock.digest != told.digest) revert DECISION_MISMATCH();
        if (told.commits && !(locked && told.here)) revert DECISION_MISMATCH();
        for (uint256 i = 0; i < lock.count; i++) {
            Hold memory hold = holds[told.settlement][i];
            if (told.commits) _release(told.settlement, hold);
            else _refund(told.settlement, hold, lock.time);
        }
        lock.state = !locked ? State.NOTHING : told.commits ? State.RELEASED : State.REFUNDED;
        (lock.ended, lock.decision) = (uint64(block.timestamp), told.record);
        emit Ended(told.settlement, lock.state, told.record);
    }

    function _release(bytes32 settlement, Hold memory hold) private {
        Account storage debtor = accounts[hold.debtor];
        (uint64 whole, uint64 apart) = (_whole(hold), _size(hold.difference));
        debtor.held -= whole;
        debtor.balance -= whole;
        if (hold.difference < 0) {
            _credit(settlement, Kind.PRINCIPAL, hold.debtor, hold.creditor, hold.amount + apart);
            _back(settlement, hold, apart);
        } else {
            _credit(settlement, Kind.PRINCIPAL, hold.debtor, hold.creditor, hold.amount - apart);
            if (apart != 0) _credit(settlement, Kind.ROUNDING, hold.debtor, hold.creditor, apart);
        }
        if (hold.fee != 0) _credit(settlement, Kind.FEE, hold.debtor, hold.feeTo, hold.fee);
    }

    /// To the payer, from wherever the principal went just before.
    function _back(bytes32 settlement, Hold memory hold, uint64 amount) private {
        Account storage creditor = accounts[hold.creditor];
        uint32 from = creditor.closed ? 0 : hold.creditor;
        if (from == 0) suspense[creditor.currency] -= amount;
        else creditor.balance -= amount;
        _credit(settlement, Kind.ROUNDING_BACK, from, hold.debtor, amount);
    }

    /// An account that was closed since is paid into suspense.
    function _credit(bytes32 settlement, Kind kind, uint32 from, uint32 to, uint64 amount) private {
        Account storage account = accounts[to];
        if (account.closed) {
            suspense[account.currency] += amount;
            to = 0;
        } else {
            account.balance += amount;
        }
        emit Posted(settlement, kind, account.currency, from, to, amount);
    }

    /// Ends a hold; what was locked on the same civil day counts against no limit any more.
    function _refund(bytes32 settlement, Hold memory hold, uint64 locked) private {
        Account storage debtor = accounts[hold.debtor];
        (uint64 whole, uint64 gross) = (_whole(hold), hold.amount + hold.fee);
        debtor.held -= whole;
        if (debtor.day == _day(locked)) debtor.spent -= gross < debtor.spent ? gross : debtor.spent;
        if (hold.counted && _day(locked) == _day(block.timestamp)) {
            _takePaid(hold.debtor, hold.creditor, hold.amount);
            if (hold.feeTo != 0) _takePaid(hold.debtor, hold.feeTo, hold.fee);
        }
        emit Posted(settlement, Kind.REFUND, debtor.currency, hold.debtor, 0, whole);
    }

    // --- small things

    function _signerOf(uint32 id, bytes32 who, bytes32 key) private view returns (address) {
        Signer memory one = _signers[_signerKey(id, accounts[id].version, who, key)];
        return one.start <= block.timestamp && block.timestamp < one.end ? one.signer : address(0);
    }

    function _signerKey(uint32 id, uint32 version, bytes32 who, bytes32 key) private pure returns (bytes32) {
        return keccak256(abi.encode(id, version, who, key));
    }

    function _who(bytes32 role, bytes32 officer) private pure returns (bytes32) {
        return keccak256(abi.encode(role, officer));
    }

    function _paidKey(uint32 id, bytes32 payee) private pure returns (bytes32) {
        return keccak256(abi.encode(id, payee));
    }

    function _addPaid(uint32 debtor, uint32 account, uint64 amount, uint32 today) private {
        Paid storage paid = _paid[_paidKey(debtor, accounts[account].owner)];
        (paid.total, paid.day) = (paid.day == today ? paid.total + amount : amount, today);
    }

    function _takePaid(uint32 debtor, uint32 account, uint64 amount) private {
        Paid storage paid = _paid[_paidKey(debtor, accounts[account].owner)];
        paid.total -= amount < paid.total ? amount : paid.total;
    }

    function _paidToday(uint32 id, bytes32 payee) private view returns (uint256) {
        Paid memory paid = _paid[_paidKey(id, payee)];
        return paid.day == _day(block.timestamp) ? paid.total : 0;
    }

    /// The civil day in Shanghai, since 1970-01-01.
    function _day(uint256 time) private pure returns (uint32) {
        return uint32((time + 8 hours) / 1 days);
    }

    /// The text in a word.
    function _trim(bytes32 word) private pure returns (bytes memory text) {
        uint256 length = 0;
        while (length < 32 && word[length] != 0) length++;
        text = abi.encodePacked(word);
        assembly ("memory-safe") {
            mstore(text, length)
        }
    }
}
