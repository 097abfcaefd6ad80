"""The demo's shop: one invented lamp, sold through the waiting room. Only where the test provider is switched on."""
