"""The border between protobuf and the plain values that everything inside works on.

Each `*_to_pb` writes a frozen dataclass as a message; each `*_from_pb` reads one, checks every
field against the limits of its kind and raises Malformed, naming the field, and nothing else.
What a value means (is this packet well-formed, is this signature right) is not judged here.
"""
