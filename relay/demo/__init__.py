"""The demonstration: invented hospitals and records, and the rules by which they are judged."""
