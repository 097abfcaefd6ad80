"""The waiting room: tickets, receipts, admission tokens, the line and its inlet."""
