"""The FHIR door, salted parts, and the record store of a source: what stays off every ledger."""
