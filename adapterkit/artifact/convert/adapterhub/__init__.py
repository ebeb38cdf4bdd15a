"""AdapterHub's folders (`adapters` 1.3): read as artifacts, and written from them."""
