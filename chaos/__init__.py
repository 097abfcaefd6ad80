"""The fault laboratory: a whole service of real processes, with a proxy on every wire that can break it at a chosen point."""
