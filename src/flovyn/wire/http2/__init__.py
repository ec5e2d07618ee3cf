"""HTTP/2 over AnyIO: grpclib's own protocol classes with their asyncio glue replaced, for both ends of a connection.

grpclib brings the state machines and h2 the frames. Here is what grpclib takes from asyncio, rebuilt on AnyIO by
subclassing: events (`flag`), the receive queue (`buffer`), the transport (`outbox`), timers and the protocol object
(`session`). Nothing is monkeypatched; what is private in grpclib or h2 and used here is guarded by a drift test.
"""
