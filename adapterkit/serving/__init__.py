"""The service: the HTTP side of a host. Every answer carries a receipt that says whose it is."""
