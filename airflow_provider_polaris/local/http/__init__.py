"""How the local Polaris speaks: its calls, its errors, its page, and the faults that a test asks for."""
