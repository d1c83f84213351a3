"""ClickHouse's native protocol in front of the embedded engine (chdb): the local stack's ClickHouse.

It exists so that `clickhouse-driver` is the only client code there is: what runs against a ClickHouse
server runs against one data directory on this machine, and the other way round. Local machinery: never a
production database, and never reachable from another machine unless asked for, with a password.

    statements  what a query text asks for
    wire        bytes to and from a peer, compressed frames
    packets     the protocol's packets
    blocks      where a Native block ends
    engine      one chdb connection: settings, streams, inserts
    cancel      stops the queries of clients that cancelled or went away
    conversation  one client, from its greeting to its end
    server      accepts clients, stops them
"""
