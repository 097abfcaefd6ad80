"""`flashsale bench`: every number beside a baseline, interleaved with it in the same run, on real stores.

Unlike the rest of `loadtest` this package imports the service, because it also measures parts of it in process.
"""
