// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// For tests and for practice alone: an ERC-20 that does what tokens have been seen to do, as a test
/// asks of it. Anybody mints it.
contract Token {
    uint8 public constant decimals = 6;
    mapping(address => uint256) private _shares;
    mapping(address => mapping(address => uint256)) public allowance;
    mapping(address => bool) public blocked;
    uint256 public fee; // per cent of what is moved, taken from who gets it
    uint256 public factor = 100; // per cent that a share is worth: other than 100, it rebases
    bool public quiet; // returns nothing
    bool public refusing; // returns false
    bool public mute; // says no balance
    address public target; // called while tokens move
    bytes public data;
    bool public called;
    bool public done;
    bytes public said;

    function mint(address to, uint256 amount) external {
        _shares[to] += amount;
    }

    function burn(address from, uint256 amount) external {
        _shares[from] -= amount;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    /// For itself, where it is the holder of an account.
    function approveOwn(address spender, uint256 amount) external {
        allowance[address(this)][spender] = amount;
    }

    function set(uint256 fee_, uint256 factor_, bool quiet_, bool refusing_, bool mute_) external {
        (fee, factor, quiet, refusing, mute) = (fee_, factor_, quiet_, refusing_, mute_);
    }

    function block_(address account, bool blocked_) external {
        blocked[account] = blocked_;
    }

    /// What is called by the next transfer, in its midst.
    function hook(address target_, bytes calldata data_) external {
        (target, data, called) = (target_, data_, false);
    }

    function balanceOf(address account) external view returns (uint256) {
        require(!mute);
        return _shares[account] * factor / 100;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        allowance[from][msg.sender] -= amount;
        return _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private returns (bool) {
        require(!blocked[from] && !blocked[to]);
        if (target != address(0) && !called) {
            called = true;
            (done, said) = target.call(data);
        }
        if (refusing) return false;
        _shares[from] -= amount;
        _shares[to] += amount - amount * fee / 100;
        if (quiet) {
            assembly ("memory-safe") {
                return(0, 0)
            }
        }
        return true;
    }
}
