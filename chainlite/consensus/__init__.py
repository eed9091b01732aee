"""How validators agree on the next block: QBFT. Its README says what follows which rule."""
