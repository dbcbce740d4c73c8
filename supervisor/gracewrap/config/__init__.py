"""Is told: the table of settings, where their values come from, and what is wrong with them."""
