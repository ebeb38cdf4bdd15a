"""adapterkit: one frozen backbone, many small adapters."""
