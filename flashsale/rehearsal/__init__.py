"""The rehearsal: a drop played through the real scripts, in virtual time, by a crowd that behaves as described."""
