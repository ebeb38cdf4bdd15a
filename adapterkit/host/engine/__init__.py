"""The heart of a host: what an adapter is made of, and forwards in which every row carries its own."""
