"""Files of rows: unpacked, decoded, recognised by what they hold, and read piece by piece."""
