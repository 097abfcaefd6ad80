"""Simulated shoppers over real HTTP. Imports no service code: it knows only the contract, as a browser does."""
