"""The one name that adapters have inside PEFT while they are attached; files do not carry it."""

ADAPTER = "default"
