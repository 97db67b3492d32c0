"""What leaves a source: queries answered by consent, records fetched by grant; and who is told.

    asks     what is asked, and the bytes that institutions sign for it
    nonces   each signature is used once
    desk     the order of checks, and the access entry that comes before every answer

Nothing of it is on a ledger but the access entries. The desk runs at the source's own node; `asks`
is what both sides share and loads neither database nor network.
"""
