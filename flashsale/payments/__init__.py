"""Payment providers: what they tell us (webhooks), and what we ask of them (refunds).

Nothing is remembered about events. A payment is known by its reference, and hearing of the same one twice is harmless.
"""
