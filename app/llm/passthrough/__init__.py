"""Pass-through: providers' own APIs, with the gateway's credential in place of the caller's."""
