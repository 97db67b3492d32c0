"""The recognition catalogue that ships, as data: an example that works, not an authority's list.

`cn-laboratory.json` holds 48 laboratory items as facts with their source. It is illustrative for
every region but the one whose notice it names; an operator loads the list of the own authority by
`lianqiao policy load`. The words in it, which a laboratory's records must use to be matched:

- specimens: HL7 table 0487 (SER serum, PLAS plasma, BLD and WB whole blood);
- methods, only where results by other methods are not comparable: IA-CL chemiluminescence
  immunoassay, IA-EL enzyme-linked immunoassay, IA-TURB immunoturbidimetry, NEPH nephelometry,
  HPLC high-performance liquid chromatography, ENZ enzymatic;
- units: UCUM; those of one item convert into each other, for that item.
"""

from __future__ import annotations

from importlib import resources

from relay.canonical import encode, parse

LABORATORY = "cn-laboratory"


def shipped(name: str = LABORATORY) -> bytes:
    """A shipped document, ready for `policy.load`."""
    path = resources.files(__name__).joinpath(f"{name}.json")
    return encode(parse(path.read_bytes()))
