"""flashsale: a waiting room, reservations and orders for drops that never oversell."""

__version__ = "0.1.0"
