"""What validators agree on: transactions, blocks and the state that follows from them."""
