"""Every decoder against bytes that nobody made in good faith.

    seeds     true encodings: what the product's own encoders make, and published vectors
    mutate    how an input comes from a seed: bits, bytes, lengths, pieces of others, JSON values
    targets   each decoder, its seeds, and what it may raise
    run       one input: a value or a typed error, in bounded time and memory; one encoding

A decoder answers any bytes with a value or with Malformed or Invalid (targets say where another
typed error is right); where there is an encoder, whatever was decoded encodes to the very bytes
that it came from. `python -m tests.fuzz --count N` runs deep; a failure prints its input.
"""
