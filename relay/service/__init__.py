"""gRPC services: each method reads a request, asks the node, writes a response; nothing else.

Errors, deadlines, identity and logging are the boundary's (relay.service.boundary), rules are the
node's and the contracts'. A servicer that decides something is in the wrong place.
"""
