"""The two stores: open, check, close.

    store, database   a client of each, and what it means that one does not answer
    cluster           a Cluster as one store
    queries           the database's statements, by name
    checks            whether a store is safe to sell from
    wording           what may be said of a connection

Nothing here repeats a command by itself. A script may have run although its reply was lost, so only the caller, who knows
the ids that make a repetition harmless, may send it again.
"""
