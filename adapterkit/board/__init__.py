"""The board: a page on which people see and steer a fleet. It speaks HTTP to the service and knows nothing else."""
