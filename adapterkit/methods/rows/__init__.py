"""One row of the table for each method that comes with adapterkit: what it is to everybody else, without PEFT."""
