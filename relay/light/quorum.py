"""Who signed a header, and whether that is enough.

`verify_commit` is the only place where signatures are counted. Its order is a security argument:

1. every signature names a validator of the presented set, once, under the pinned algorithm
   (UNKNOWN_SIGNER, ALGORITHM_NOT_PINNED, DUPLICATE_SIGNER): before any arithmetic, so that the
   number of verifications is bounded by the size of the set;
2. every signature that is presented verifies, also past the quorum (INVALID_SIGNATURE, WEAK_KEY);
3. every co-signature is of a pinned witness, once, and verifies (the same reasons);
4. the pinned threshold is reached (QUORUM_NOT_REACHED): last of the counting, since whoever
   presents the set chose its size;
5. enough distinct witnesses co-signed (WITNESS_MISSING).

The caller has shown that the presented set is the one in force; nothing here says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from relay.errors import Invalid, Reason
from relay.light import keys
from relay.light.types import ClientState, ClientType, Header, Threshold, Validator, ValidatorSet


@dataclass(frozen=True, slots=True)
class Commit:
    """Who stands behind a header, all of it verified."""

    signers: tuple[str, ...]
    """Names of validators, in the order of their signatures."""
    witnesses: tuple[str, ...]
    """Names of pinned witnesses that co-signed."""


def verify_commit(client_type: ClientType, state: ClientState, header: Header) -> Commit:
    """Raises Invalid unless enough of `header.validators` signed, and enough witnesses.

    Steps and reasons: the module docstring. Verifies each signature exactly once.
    """
    signers = _claimed_signers(state.algorithm, header)  # 1
    for signature, validator in zip(header.signatures, signers, strict=True):  # 2
        key = validator.key(state.algorithm)
        assert key is not None, "_claimed_signers lets nobody through without a key"
        message = client_type.sign_bytes(header, validator, signature)
        keys.verify(state.algorithm, key, message, signature.value)
    witnesses = _verify_witnesses(client_type, state, header)  # 3
    names = tuple(validator.name for validator in signers)
    if not is_reached(state.threshold, header.validators, names):  # 4
        raise Invalid(
            Reason.QUORUM_NOT_REACHED,
            f"{len(names)} of {len(header.validators.validators)} validators signed: not enough",
            hint="present a header that more validators have signed",
            signed=", ".join(names),
            needed=describe(state.threshold),
        )
    if len(witnesses) < state.witness_quorum:  # 5
        raise Invalid(
            Reason.WITNESS_MISSING,
            f"{len(witnesses)} pinned witnesses co-signed, {state.witness_quorum} are required",
            hint="ask the witnesses to co-sign this head",
        )
    return Commit(names, witnesses)


def is_reached(threshold: Threshold, validators: ValidatorSet, names: Collection[str]) -> bool:
    """True where the validators named, each counted once, reach the threshold of the set.

    Strict rules weigh power, the others count heads (`relay.light.types.Threshold`).
    """
    counted = set(names)
    signed = [v for v in validators.validators if v.name in counted]
    n, d = threshold.numerator, threshold.denominator
    if threshold.strict:
        return sum(v.power for v in signed) * d > validators.power * n
    # At least the ceiling of n/d of the heads: the product form needs no rounding.
    return len(signed) * d >= len(validators.validators) * n


def overlap(algorithm: str, trusted_set: ValidatorSet, header: Header) -> tuple[str, ...]:
    """Validators of the trusted set, by name and key, whose signatures the header presents.

    Presented, not verified: the caller runs `verify_commit` before it believes anything.
    """
    trusted = {v.name: v.key(algorithm) for v in trusted_set.validators}
    presented = {v.name: v.key(algorithm) for v in header.validators.validators}
    return tuple(
        name
        for name in dict.fromkeys(s.signer for s in header.signatures)
        if trusted.get(name) is not None and trusted[name] == presented.get(name)
    )


def describe(threshold: Threshold) -> str:
    """The threshold in words, for people."""
    share = f"{threshold.numerator}/{threshold.denominator}"
    return f"more than {share} of the power" if threshold.strict else f"{share} of the validators"


def _claimed_signers(algorithm: str, header: Header) -> list[Validator]:
    by_name = {validator.name: validator for validator in header.validators.validators}
    signers: list[Validator] = []
    seen: set[str] = set()
    for signature in header.signatures:
        validator = by_name.get(signature.signer)
        if validator is None:
            raise _unknown(signature.signer)
        if signature.algorithm != algorithm:
            raise Invalid(
                Reason.ALGORITHM_NOT_PINNED,
                f"a signature is of {signature.algorithm!r}, the client pins {algorithm!r}",
                hint="present only the signatures of the pinned algorithm",
                signer=signature.signer,
            )
        if validator.key(algorithm) is None:
            raise _unknown(signature.signer)
        if validator.name in seen:
            raise _duplicate(validator.name)
        seen.add(validator.name)
        signers.append(validator)
    return signers


def _verify_witnesses(
    client_type: ClientType, state: ClientState, header: Header
) -> tuple[str, ...]:
    names: list[str] = []
    for signature in header.cosignatures:
        witness = client_type.witness_of(signature, state.witnesses)
        if witness is None:
            raise _unknown(signature.signer)
        if witness.name in names:
            raise _duplicate(witness.name)
        message = client_type.cosign_bytes(header, witness, signature)
        keys.verify(witness.algorithm, witness.key, message, signature.value)
        names.append(witness.name)
    return tuple(names)


def _unknown(name: str) -> Invalid:
    return Invalid(
        Reason.UNKNOWN_SIGNER,
        f"{name[:64]!r} is neither a validator of the set in force nor a pinned witness",
        signer=name,
    )


def _duplicate(name: str) -> Invalid:
    return Invalid(Reason.DUPLICATE_SIGNER, f"{name!r} signed twice; each counts once", signer=name)
