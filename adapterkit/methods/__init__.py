"""Methods: what is attached to a frozen backbone. `table` says what there is, and what is asked of it."""
