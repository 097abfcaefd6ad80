"""From the journal in the store to orders in Postgres: recorded once, in batches, under the database's own guard."""
